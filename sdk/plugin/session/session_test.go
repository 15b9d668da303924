package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"google.golang.org/protobuf/proto"
)

// pipe is a stream between the two ends, as messages that were on a wire.
type pipe struct {
	ctx        context.Context
	toPlugin   chan []byte
	fromPlugin chan []byte
}

type hostEnd struct{ *pipe }
type pluginEnd struct{ *pipe }

func put(ctx context.Context, c chan []byte, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > 512<<10 {
		return fmt.Errorf("a frame of %d bytes", len(b))
	}
	select {
	case c <- b:
		return nil
	case <-ctx.Done():
		return io.EOF
	}
}

func get(ctx context.Context, c chan []byte, m proto.Message) error {
	select {
	case b, ok := <-c:
		if !ok {
			return io.EOF
		}
		return proto.Unmarshal(b, m)
	case <-ctx.Done():
		return io.EOF
	}
}

func (p hostEnd) Send(f *pluginv1.HostFrame) error { return put(p.ctx, p.toPlugin, f) }
func (p hostEnd) Recv() (*pluginv1.PluginFrame, error) {
	f := new(pluginv1.PluginFrame)
	return f, get(p.ctx, p.fromPlugin, f)
}
func (p pluginEnd) Send(f *pluginv1.PluginFrame) error { return put(p.ctx, p.fromPlugin, f) }
func (p pluginEnd) Recv() (*pluginv1.HostFrame, error) {
	f := new(pluginv1.HostFrame)
	return f, get(p.ctx, p.toPlugin, f)
}

// pair opens a session with handlers and returns the host's end and what Serve
// returned.
func pair(t *testing.T, cfg HostConfig, handlers ...wirecall.Handler) (*Host, chan error, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	stream, end := context.WithCancel(ctx)
	p := &pipe{ctx: stream, toPlugin: make(chan []byte, 4), fromPlugin: make(chan []byte, 4)}
	served := make(chan error, 1)
	go func() {
		err := Serve(stream, pluginEnd{p}, Author{Open: func(*pluginv1.Open) ([]wirecall.Handler, error) { return handlers, nil }})
		served <- err
		close(p.fromPlugin)
	}()
	if cfg.Open == nil {
		cfg.Open = &pluginv1.Open{}
	}
	h, err := Open(ctx, hostEnd{p}, end, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h, served, ctx
}

func echo(method string, serve func(ctx context.Context, r wirecall.Request) ([]byte, error)) wirecall.Handler {
	return wirecall.Handler{Kind: "k", Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
		if r.Method != method {
			return nil, wirecall.UnknownMethod("k", r.Method)
		}
		return serve(ctx, r)
	}}
}

func TestPayloadsAreCutAndJoined(t *testing.T) {
	h, _, ctx := pair(t, HostConfig{Epoch: 5}, echo("Echo", func(_ context.Context, r wirecall.Request) ([]byte, error) { return r.Payload, nil }))
	for _, n := range []int{0, 1, frameBytes - 1, frameBytes, frameBytes + 1, 5*frameBytes + 7} {
		want := bytes.Repeat([]byte("sluice"), n/6+1)[:n]
		got, err := h.Call(ctx, "k", "Echo", want)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d came back, error %v", n, len(got), err)
		}
	}
}

// Items arrive in order and whole, and a plugin is never more than a window
// ahead of a slow reader.
func TestStreamsWaitForTheirReader(t *testing.T) {
	const items = 200
	var mu sync.Mutex
	sent := 0
	h, _, ctx := pair(t, HostConfig{}, echo("List", func(_ context.Context, r wirecall.Request) ([]byte, error) {
		for i := range items {
			if err := r.Send(append(make([]byte, i%3*frameBytes), byte(i))); err != nil {
				return nil, err
			}
			mu.Lock()
			sent++
			mu.Unlock()
		}
		return nil, nil
	}))
	n := 0
	err := h.Stream(ctx, "k", "List", nil, func(b []byte) error {
		if len(b) != n%3*frameBytes+1 || b[len(b)-1] != byte(n) {
			return fmt.Errorf("item %d is %d bytes, ends with %d", n, len(b), b[len(b)-1])
		}
		n++
		mu.Lock()
		defer mu.Unlock()
		if ahead := sent - n; ahead > 2*itemWindow {
			return fmt.Errorf("the plugin is %d items ahead", ahead)
		}
		return nil
	})
	if err != nil || n != items {
		t.Errorf("%d items, error %v", n, err)
	}
}

func TestReaderEndsTheStream(t *testing.T) {
	ended := make(chan error, 1)
	h, _, ctx := pair(t, HostConfig{}, echo("List", func(ctx context.Context, r wirecall.Request) ([]byte, error) {
		for {
			if err := r.Send([]byte("x")); err != nil {
				ended <- err
				return nil, err
			}
		}
	}))
	enough := errors.New("enough")
	if err := h.Stream(ctx, "k", "List", nil, func([]byte) error { return enough }); err != enough {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the plugin's call ended with %v", err)
	}
}

// A call is told nine tenths of the caller's time, so that its answer is in time.
func TestDeadlineLeavesTimeToAnswer(t *testing.T) {
	h, _, ctx := pair(t, HostConfig{}, echo("Wait", func(ctx context.Context, _ wirecall.Request) ([]byte, error) {
		<-ctx.Done()
		return []byte("what I have"), nil
	}))
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if b, err := h.Call(short, "k", "Wait", nil); err != nil || string(b) != "what I have" {
		t.Errorf("%q, error %v", b, err)
	}
}

func TestErrorsKeepKindCodeAndDetails(t *testing.T) {
	sent := &errs.Error{Kind: errs.Invalid, Code: errs.InvalidQOS, Details: []string{"a", "b\xff"}, Err: errors.New("cause")}
	h, _, ctx := pair(t, HostConfig{}, echo("Fail", func(context.Context, wirecall.Request) ([]byte, error) { return nil, sent }))
	_, err := h.Call(ctx, "k", "Fail", nil)
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || e.Kind != sent.Kind || e.Code != sent.Code || len(e.Details) != 2 || e.Details[1] != "b\uFFFD" || e.Err.Error() != "cause" {
		t.Errorf("got %#v", err)
	}
}

func TestPanicEndsTheSession(t *testing.T) {
	h, served, ctx := pair(t, HostConfig{}, echo("Panic", func(context.Context, wirecall.Request) ([]byte, error) { panic("boom") }))
	if _, err := h.Call(ctx, "k", "Panic", nil); errs.KindOf(err) != errs.Internal {
		t.Errorf("got %v", err)
	}
	if err := <-served; !errors.Is(err, ErrPanic) {
		t.Errorf("Serve returned %v", err)
	}
	<-h.Done()
	if _, err := h.Call(ctx, "k", "Panic", nil); errs.KindOf(err) != errs.Unavail {
		t.Errorf("a call after the end: %v", err)
	}
}

// A drain lets calls that run finish, and their answers arrive.
func TestDrainFinishesCalls(t *testing.T) {
	begun, end := make(chan bool), make(chan bool)
	h, served, ctx := pair(t, HostConfig{}, echo("Slow", func(context.Context, wirecall.Request) ([]byte, error) {
		begun <- true
		<-end
		return []byte("done"), nil
	}))
	answer := make(chan string, 1)
	go func() {
		b, err := h.Call(ctx, "k", "Slow", nil)
		answer <- fmt.Sprint(string(b), err)
	}()
	<-begun
	drained := make(chan error, 1)
	go func() { drained <- h.Drain(ctx) }()
	end <- true
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if got := <-answer; got != "done<nil>" {
		t.Errorf("got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

// Serial calls see the state that was pushed before them, and run one by one;
// a lost mirror asks for a snapshot.
func TestStateComesBeforeCalls(t *testing.T) {
	resend := make(chan bool, 100)
	h, _, ctx := pair(t, HostConfig{Sync: func(_, _ uint64, again bool) { resend <- again }},
		wirecall.Handler{Kind: "k", Serial: true, Serve: func(_ context.Context, r wirecall.Request) ([]byte, error) {
			n := 0
			for range r.Mirror.View(0).Pending() {
				n++
			}
			return fmt.Append(nil, n, " at ", r.Mirror.Rev()), nil
		}})
	e := mirror.NewEncoder()
	for rev := range uint64(5) {
		if err := h.PushState(e.Change(mirror.Change{Rev: rev + 1, Jobs: []*mirror.Job{{ID: 1 + 2}, {ID: 4}}})); err != nil {
			t.Fatal(err)
		}
		b, err := h.Call(ctx, "k", "x", nil)
		if want := fmt.Sprint("2 at ", rev+1); err != nil || string(b) != want {
			t.Errorf("got %q, error %v, want %q", b, err, want)
		}
		if <-resend {
			t.Error("asked for a snapshot")
		}
	}
	e.Change(mirror.Change{Rev: 6})
	if err := h.PushState(e.Change(mirror.Change{Rev: 7})); err != nil {
		t.Fatal(err)
	}
	if !<-resend {
		t.Error("a lost frame was not noticed")
	}
	if err := h.Ping(ctx); err != nil {
		t.Error(err)
	}
}

// Whatever a plugin sends, the host answers its callers and does not panic.
func TestGarbageFromAPlugin(t *testing.T) {
	id := uint64(1)
	replies := map[string]struct {
		frames []*pluginv1.PluginFrame
		kind   errs.Kind
	}{
		"items without credit": {many(100, &pluginv1.Reply{Id: id, Item: true}), errs.Internal},
		"other epoch then end": {[]*pluginv1.PluginFrame{{Epoch: 9, Body: &pluginv1.PluginFrame_Reply{Reply: &pluginv1.Reply{Id: id}}}}, errs.Unavail},
		"unknown call":         {many(1, &pluginv1.Reply{Id: 4711, Item: true}), errs.Unavail},
		"empty frames":         {[]*pluginv1.PluginFrame{{}, {Body: &pluginv1.PluginFrame_Synced{}}, {Body: &pluginv1.PluginFrame_Query{}}}, errs.Unavail},
		"answered twice":       {many(2, &pluginv1.Reply{Id: id, Payload: []byte("x")}), errs.Other},
	}
	for name, tt := range replies {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stream, end := context.WithCancel(ctx)
			p := &pipe{ctx: stream, toPlugin: make(chan []byte, 100), fromPlugin: make(chan []byte, 200)}
			plugin := pluginEnd{p}
			if err := plugin.Send(&pluginv1.PluginFrame{Body: &pluginv1.PluginFrame_Opened{Opened: &pluginv1.Opened{}}}); err != nil {
				t.Fatal(err)
			}
			h, err := Open(ctx, hostEnd{p}, end, HostConfig{})
			if err != nil {
				t.Fatal(err)
			}
			go func() { // once the call is there
				for {
					f, err := plugin.Recv()
					if err != nil {
						return
					}
					if f.GetCall() != nil {
						break
					}
				}
				for _, f := range tt.frames {
					_ = plugin.Send(f)
				}
				close(p.fromPlugin)
			}()
			var kind errs.Kind
			if tt.kind == errs.Internal { // a reader that does not read
				kind = errs.KindOf(h.Stream(ctx, "k", "m", nil, func([]byte) error {
					<-h.Done()
					return nil
				}))
			} else {
				_, err := h.Call(ctx, "k", "m", nil)
				kind = errs.KindOf(err)
			}
			if kind != tt.kind {
				t.Errorf("the caller got the kind %v, want %v", kind, tt.kind)
			}
		})
	}
}

func many(n int, r *pluginv1.Reply) (list []*pluginv1.PluginFrame) {
	for range n {
		list = append(list, &pluginv1.PluginFrame{Body: &pluginv1.PluginFrame_Reply{Reply: r}})
	}
	return list
}

func TestRefusedOptions(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := &pipe{ctx: ctx, toPlugin: make(chan []byte, 4), fromPlugin: make(chan []byte, 4)}
	go func() {
		_ = Serve(ctx, pluginEnd{p}, Author{Open: func(*pluginv1.Open) ([]wirecall.Handler, error) { return nil, errors.New("no such depth") }})
	}()
	if _, err := Open(ctx, hostEnd{p}, cancel, HostConfig{Open: &pluginv1.Open{}}); errs.KindOf(err) != errs.Invalid || !bytes.Contains([]byte(err.Error()), []byte("no such depth")) {
		t.Errorf("got %v", err)
	}
}

// A call may ask the host while it runs; the answer is that question's own.
func TestQuestionsToTheHost(t *testing.T) {
	h, _, ctx := pair(t, HostConfig{Epoch: 5, Query: func(q *pluginv1.HostQuery) ([]byte, error) {
		if q.GetMethod() != "Twice" {
			return nil, fmt.Errorf("no question %s of %s", q.GetMethod(), q.GetKind())
		}
		return append(q.GetPayload(), q.GetPayload()...), nil
	}}, wirecall.Handler{Kind: "k", Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
		return r.Ask(ctx, r.Method, r.Payload)
	}})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := fmt.Sprintf("<%d>", i)
			if got, err := h.Call(ctx, "k", "Twice", []byte(text)); err != nil || string(got) != text+text {
				t.Errorf("%s: %q, error %v", text, got, err)
			}
		})
	}
	all.Wait()
	if _, err := h.Call(ctx, "k", "Never", nil); errs.KindOf(err) != errs.Unsupport || err.Error() != "no question Never of k" {
		t.Errorf("an unknown question: %v", err)
	}
	h, _, ctx = pair(t, HostConfig{Epoch: 5}, wirecall.Handler{Kind: "k", Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
		return r.Ask(ctx, r.Method, nil)
	}})
	if _, err := h.Call(ctx, "k", "Twice", nil); errs.KindOf(err) != errs.Unsupport {
		t.Errorf("a host without answers: %v", err)
	}
}

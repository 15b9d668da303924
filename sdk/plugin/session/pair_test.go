package session

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
)

// socketEnds is a pair of connected sockets.
func socketEnds(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// onSockets opens a session over sockets; the plugin's end is returned to break it.
func onSockets(t testing.TB, handlers ...wirecall.Handler) (*Host, net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	a, b := socketEnds(t)
	plugin := NewPairPlugin(b)
	go func() {
		if plugin.Wait() {
			plugin.End(Serve(ctx, plugin, Author{Open: func(*pluginv1.Open) ([]wirecall.Handler, error) { return handlers, nil }}))
		}
	}()
	host := NewPairHost(a)
	h, err := Open(ctx, host, host.Close, HostConfig{Epoch: 3, Open: &pluginv1.Open{}})
	if err != nil {
		t.Fatal(err)
	}
	return h, b
}

func itself(_ context.Context, r wirecall.Request) ([]byte, error) { return r.Payload, nil }

func TestSessionOverAPair(t *testing.T) {
	h, _ := onSockets(t, echo("Echo", itself))
	for _, n := range []int{0, 1, frameBytes, 3*frameBytes + 1} {
		want := bytes.Repeat([]byte{7}, n)
		if got, err := h.Call(t.Context(), "k", "Echo", want); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d came back, error %v", n, len(got), err)
		}
	}
	if err := h.Drain(t.Context()); err != nil || h.Err() != nil {
		t.Errorf("a drained session ended with %v, %v", err, h.Err())
	}
}

// How a session over a pair ends reaches the host: in order, by a panic, by a
// connection that breaks, by garbage.
func TestEndsOfAPair(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(h *Host, plugin net.Conn)
		want string
	}{
		"panic":   {func(h *Host, _ net.Conn) { _, _ = h.Call(context.Background(), "k", "Panic", nil) }, ErrPanic.Error()},
		"broken":  {func(_ *Host, plugin net.Conn) { plugin.Close() }, "the connection broke"},
		"huge":    {func(_ *Host, plugin net.Conn) { plugin.Write([]byte{0, 0, 0, 0x40, 1}) }, "a frame of 1073741824 bytes"}, //nolint:errcheck // a test
		"garbage": {func(_ *Host, plugin net.Conn) { plugin.Write([]byte{2, 0, 0, 0, 0xff, 0xff}) }, "proto"},                 //nolint:errcheck // a test
		"closed":  {func(h *Host, _ net.Conn) { h.Close() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, plugin := onSockets(t, echo("Panic", func(context.Context, wirecall.Request) ([]byte, error) { panic("on purpose") }))
			tc.end(h, plugin)
			select {
			case <-h.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the session goes on")
			}
			if err := h.Err(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ended with %v, want %q", err, tc.want)
			}
		})
	}
}

// A plugin whose host never uses the pair learns so when the host closes it.
func TestPairNotUsed(t *testing.T) {
	a, b := socketEnds(t)
	a.Close()
	if NewPairPlugin(b).Wait() {
		t.Error("a frame came on a pair that was closed")
	}
	if err := NewPairHost(a).Send(&pluginv1.HostFrame{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sending on it: %v", err)
	}
}

// BenchmarkPair is a call and its answer within one process.
func BenchmarkPair(b *testing.B) {
	h, _ := onSockets(b, echo("Echo", itself))
	for b.Loop() {
		if _, err := h.Call(context.Background(), "k", "Echo", nil); err != nil {
			b.Fatal(err)
		}
	}
}

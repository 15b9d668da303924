package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	glua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// pool has the script and up to size states in which it is loaded.
type pool struct {
	path  string
	size  int
	slots chan *state // nil: a slot whose state is still to be made

	mu     sync.Mutex // held while the script is read
	script *script
	seen   stamp // of the file that was read last, good or bad
}

// script is a compiled script; states share it.
type script struct{ proto *glua.FunctionProto }

// stamp tells whether a file has changed.
type stamp struct {
	mtime time.Time
	size  int64
}

// state is a Lua state with the script loaded; one request uses it at a time.
type state struct {
	lua    *glua.LState
	script *script

	// Of the request under way:
	ctx      context.Context
	request  *jobsubmit.Request
	messages []string
}

func newPool(path string, size int) (*pool, error) {
	p := &pool{path: path, size: size, slots: make(chan *state, size)}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the script: %w", err)
	}
	p.seen = stamp{st.ModTime(), st.Size()}
	if p.script, err = load(path); err != nil {
		return nil, err
	}
	for range size {
		p.slots <- nil
	}
	return p, nil
}

// load compiles a script and runs it once, to see that it defines what it must.
func load(path string) (*script, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the script: %w", err)
	}
	if bytes.HasPrefix(text, []byte("#")) { // as the lua command does
		text = append([]byte("--"), text...)
	}
	chunk, err := parse.Parse(bytes.NewReader(text), path)
	if err != nil {
		return nil, fmt.Errorf("the script: %s", lineOf(err))
	}
	proto, err := glua.Compile(chunk, path)
	if err != nil {
		return nil, fmt.Errorf("the script: %w", err)
	}
	s := &script{proto}
	st, err := s.state()
	if err != nil {
		return nil, err
	}
	defer st.lua.Close()
	if st.lua.GetGlobal("slurm_job_submit").Type() != glua.LTFunction {
		return nil, fmt.Errorf("%s defines no function slurm_job_submit", path)
	}
	return s, nil
}

// loadTime bounds the script's own chunk, which should define functions only.
const loadTime = 5 * time.Second

// state makes a state and runs the script's chunk in it.
func (s *script) state() (*state, error) {
	st := &state{lua: glua.NewState(), script: s}
	st.install()
	ctx, cancel := context.WithTimeout(context.Background(), loadTime)
	defer cancel()
	st.lua.SetContext(ctx)
	st.lua.Push(st.lua.NewFunctionFromProto(s.proto))
	if err := st.lua.PCall(0, 0, nil); err != nil {
		st.lua.Close()
		return nil, fmt.Errorf("the script: %s", lineOf(err))
	}
	st.lua.RemoveContext()
	return st, nil
}

// take returns a state with the script as it is now, when one is free.
func (p *pool) take(ctx context.Context) (*state, error) {
	var s *state
	select {
	case s = <-p.slots:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := p.current()
	if s != nil && s.script == now {
		return s, nil
	}
	if s != nil {
		s.lua.Close()
	}
	s, err := now.state()
	if err != nil {
		p.slots <- nil
		return nil, err
	}
	return s, nil
}

func (p *pool) put(s *state) { p.slots <- s }

// current is the script in force; a changed file is read first.
func (p *pool) current() *script {
	p.mu.Lock()
	defer p.mu.Unlock()
	st, err := os.Stat(p.path)
	if err != nil || p.seen == (stamp{st.ModTime(), st.Size()}) {
		return p.script
	}
	p.seen = stamp{st.ModTime(), st.Size()}
	next, err := load(p.path)
	if err != nil {
		slog.Error("the changed script cannot be used: the one before it stays in force", "script", p.path, "error", err)
		return p.script
	}
	slog.Info("the script was read again", "script", p.path)
	p.script = next
	return next
}

func (s *state) begin(ctx context.Context, r *jobsubmit.Request) {
	s.ctx, s.request, s.messages = ctx, r, nil
	s.lua.SetContext(ctx)
}

func (s *state) end() {
	s.ctx, s.request, s.messages = nil, nil, nil
	s.lua.SetTop(0)
	s.lua.RemoveContext()
}

package srun

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// signals are those that srun acts on or passes on, from before the step
// exists until srun's end.
type signals struct{ c chan os.Signal }

func newSignals() *signals {
	s := &signals{make(chan os.Signal, 16)}
	signal.Notify(s.c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGCONT, syscall.SIGWINCH)
	signal.Ignore(syscall.SIGPIPE)
	return s
}

func (s *signals) stop() {
	signal.Stop(s.c)
	signal.Reset(syscall.SIGPIPE)
}

// interruptOf calls cancel when a signal that ends programs comes before ctx
// ends. The function it returns tells whether that happened.
func (s *signals) interruptOf(ctx context.Context, cancel func()) func() bool {
	var hit atomic.Bool
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-s.c:
				switch sig {
				case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
					hit.Store(true)
					cancel()
					return
				}
			}
		}
	}()
	return hit.Load
}

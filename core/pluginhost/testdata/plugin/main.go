// Command plugin is what the tests of pluginhost host: it does what it is told
// by the name of a submitted job or by the settings of the mirror.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/sched"
)

type options struct {
	Depth int           `option:"depth" doc:"nothing" allowed:"1 to 100"`
	Pause time.Duration `option:"pause" unit:"seconds" doc:"nothing"`
	Fail  string        `option:"fail" doc:"how to fail at the start" allowed:"open or exit"`
}

type scheduler struct{}

func (scheduler) Plan(ctx context.Context, v sched.View) (a sched.Agenda, err error) {
	switch v.Setting("Do") {
	case "hang":
		select {} // against the contract
	case "panic":
		panic("told to")
	case "wait":
		<-ctx.Done()
	}
	for job := range v.PendingByPriority() {
		a.Add(job.ID, sched.Reserve)
	}
	return a, nil
}

var eaten [][]byte

type filter struct{ options }

func (f filter) Submit(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	switch r.Spec.Name {
	case "panic":
		panic("told to")
	case "exit":
		os.Exit(3)
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "eat":
		eaten = append(eaten, make([]byte, 1<<30))
		for i := range eaten[0] {
			eaten[0][i] = 1
		}
	case "spin":
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
		}
	case "fds":
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return nil, err
		}
		var open []string
		for _, e := range list {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			open = append(open, e.Name()+" "+to)
		}
		return open, nil
	case "log":
		slog.Info("as told", "depth", f.Depth, slog.Group("g", "pause", f.Pause))
		fmt.Println("on stdout")
	case "refuse":
		return []string{"a message"}, errs.Coded("x", errs.InvalidTimeLimit, "give a limit")
	case "broken":
		return nil, errors.New("no idea")
	}
	r.Spec.Comment = strings.Repeat(r.Spec.Comment, 2)
	return []string{fmt.Sprint("depth ", f.Depth), string(r.Script[:min(10, len(r.Script))])}, nil
}

func (f filter) Modify(ctx context.Context, r *jobsubmit.Request) ([]string, error) {
	r.Changes["Seen"] = "yes"
	return nil, nil
}

func main() {
	o := options{Depth: 7, Pause: time.Minute}
	plugin.Serve(plugin.Plugin{Version: "1.2", Doc: "For tests.", Options: plugin.OptionsOf(&o),
		Sched: func(plugin.Options) (sched.Scheduler, error) { return scheduler{}, nil },
		JobSubmit: func(opts plugin.Options) (jobsubmit.Filter, error) {
			if err := opts.Decode(&o); err != nil {
				return nil, err
			}
			switch o.Fail {
			case "open":
				return nil, errors.New("told to fail")
			case "exit":
				os.Exit(4)
			}
			return filter{o}, nil
		}})
}

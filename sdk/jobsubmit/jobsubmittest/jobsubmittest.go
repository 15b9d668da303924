// Package jobsubmittest is the conformance suite of submission filters. [Run]
// holds one to the contract of sdk/jobsubmit in this process, through the
// adapters of both ends; [RunBinary] does the same to a built program. Each
// failure is explained in a sentence.
package jobsubmittest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/plugin/plugintest"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Run runs the suite. open returns a new filter for each test.
func Run(t *testing.T, open func(t *testing.T) jobsubmit.Filter) {
	run(t, func(t *testing.T) jobsubmit.Filter {
		return jobsubmit.NewClient(wirecall.NewLocal(jobsubmit.Handler(open(t))))
	})
}

// RunBinary runs the suite on a program, started with options for each test.
func RunBinary(t *testing.T, path string, options map[string]string) {
	t.Run("program", func(t *testing.T) { plugintest.Run(t, path, jobsubmit.Kind, options) })
	run(t, func(t *testing.T) jobsubmit.Filter {
		return jobsubmit.NewClient(plugintest.Start(t, path, jobsubmit.Kind, options))
	})
}

func run(t *testing.T, open func(t *testing.T) jobsubmit.Filter) {
	for _, test := range []struct {
		name string
		run  func(*subject)
	}{
		{"a submission is accepted or refused with a text", testSubmit},
		{"the user stays who it is", testIdentity},
		{"an empty request is survived", testBare},
		{"a change is accepted or refused with a text", testModify},
		{"the same request gets the same answer", testSame},
		{"a large script arrives whole", testLarge},
		{"calls run concurrently", testConcurrent},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) { test.run(&subject{T: t, filter: open(t)}) })
	}
}

type subject struct {
	*testing.T
	filter jobsubmit.Filter
}

func request() *jobsubmit.Request {
	return &jobsubmit.Request{Caller: 1000, Script: []byte("#!/bin/sh\ntrue\n"), Spec: &wlm.Spec{Name: "demo", User: 1000, Group: 1000,
		UserName: "alice", Partitions: []string{"main"}, MinNodes: 1, NTasks: 4, CPUsPerTask: 1, TimeLimit: 30, Priority: wlm.Unset,
		CoreSpec: wlm.Unset, WorkDir: "/home/alice", Argv: []string{"demo.sh"}, Cluster: "conform"}}
}

// answer calls do and returns a checked answer as a text.
func (s *subject) answer(do func(context.Context, *jobsubmit.Request) ([]string, error), r *jobsubmit.Request) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	messages, err := do(ctx, r)
	if err == nil {
		return fmt.Sprintf("accepted %q %+v %v", messages, r.Spec, r.Changes)
	}
	if e, ok := errors.AsType[*errs.Error](err); !ok || e.Kind == errs.Other || e.Kind == errs.Internal || e.Kind == errs.Unavail || e.Error() == "" {
		s.Errorf("a filter accepts, or refuses with an *errs.Error whose kind and text tell the user why; it failed with: %v", err)
	}
	return fmt.Sprintf("refused %q: %v", messages, err)
}

func testSubmit(s *subject) { s.answer(s.filter.Submit, request()) }

func testIdentity(s *subject) {
	r := request()
	s.answer(s.filter.Submit, r)
	if r.Spec.User != 1000 || r.Spec.Group != 1000 {
		s.Errorf("a filter must not make a job another user's: uid is %d, gid %d, they were 1000", r.Spec.User, r.Spec.Group)
	}
}

func testBare(s *subject) {
	s.answer(s.filter.Submit, &jobsubmit.Request{Spec: &wlm.Spec{}})
	s.answer(s.filter.Modify, &jobsubmit.Request{Current: &wlm.Job{Spec: &wlm.Spec{}}, Changes: map[string]string{}})
}

func testModify(s *subject) {
	job := &wlm.Job{ID: 7, Spec: request().Spec, Partition: "main", TimeLimit: 30}
	for _, changes := range []map[string]string{{"TimeLimit": "60"}, {"TimeLimit": "+1:00:00"}, {"TimeLimit": "nonsense"}, {"NoSuchKey": "x"},
		{"Comment": strings.Repeat("y", 1<<16)}} {
		s.answer(s.filter.Modify, &jobsubmit.Request{Caller: 1000, Current: job, Changes: maps.Clone(changes)})
	}
}

func testSame(s *subject) {
	if a, b := s.answer(s.filter.Submit, request()), s.answer(s.filter.Submit, request()); a != b {
		s.Errorf("clients repeat submissions after a broken connection: the same request must get the same answer\nfirst  %s\nsecond %s", a, b)
	}
}

func testLarge(s *subject) {
	r := request()
	r.Script = append(r.Script, make([]byte, 4<<20)...)
	s.answer(s.filter.Submit, r)
}

func testConcurrent(s *subject) {
	want := s.answer(s.filter.Submit, request())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if got := s.answer(s.filter.Submit, request()); got != want {
					s.Errorf("concurrent calls must not disturb each other\ngot  %s\nwant %s", got, want)
					return
				}
			}
		})
	}
	all.Wait()
}

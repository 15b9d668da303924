package main

import (
	"context"
	"slices"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
)

// A script reads, sets and removes variables of the job's environment, also
// across the boundary; a refused submission keeps its own.
func TestEnvironment(t *testing.T) {
	f := open(t, write(t, `
function slurm_job_submit(d, parts, uid)
	if d.environment["BAD"] then return slurm.ERROR end
	d.environment["SITE"] = d.environment["HOME"] .. "/site"
	d.environment["DISPLAY"] = nil
	d.environment.LANG = "C"
	d.environment["A=B"] = "no"
	return slurm.SUCCESS
end
function slurm_job_modify(d, job, parts, uid)
	d.environment["X"] = "no"
	return slurm.SUCCESS
end`))
	wired := jobsubmit.NewClient(wirecall.NewLocal(jobsubmit.Handler(f)))
	for name, submit := range map[string]func(context.Context, *jobsubmit.Request) ([]string, error){"called": f.Submit, "wired": wired.Submit} {
		r := request(nil)
		given := []string{"HOME=/home/alice", "DISPLAY=:0", "LANG=de_DE"}
		r.Env = given
		if _, err := submit(t.Context(), r); err != nil {
			t.Fatal(name, err)
		}
		if want := []string{"HOME=/home/alice", "LANG=C", "SITE=/home/alice/site"}; !slices.Equal(r.Env, want) {
			t.Errorf("%s: %q, want %q", name, r.Env, want)
		}
		if !slices.Equal(given, []string{"HOME=/home/alice", "DISPLAY=:0", "LANG=de_DE"}) {
			t.Errorf("%s: the caller's own list is %q", name, given)
		}
		r.Env = []string{"BAD=1"}
		if _, err := submit(t.Context(), r); err == nil || !slices.Equal(r.Env, []string{"BAD=1"}) {
			t.Errorf("%s: refused, %v, with %q", name, err, r.Env)
		}
	}
}

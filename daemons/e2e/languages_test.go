package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A scheduler written in Python decides for real jobs, and does what its name
// says: a short job starts ahead of a wide one that waits, since it does not
// delay it.
func TestPythonScheduler(t *testing.T) {
	if out, err := exec.Command("/usr/bin/python3", "-I", "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
		t.Skipf("python3-grpcio is missing (make deps-test installs it): %s", out)
	}
	c := up(t, "--nodes", "2", "--cpus", "2", "--set", "SchedulerType=sched/python-easy", "--add", "PluginOptions=sched/python-easy:depth=1000")
	if out := c.ok("scontrol", "show", "plugin", "sched"); !strings.Contains(out, "sched/python-easy") {
		t.Errorf("scontrol show plugin sched: %s", out)
	}
	long := c.submit("--nodes=1", "--exclusive", "--time=60", "--wrap", "sleep 600")
	c.running(long)
	wide := c.submit("--nodes=2", "--exclusive", "--time=60", "--wrap", "true")
	short := c.submit("--ntasks=1", "--time=1", "--wrap", "true")
	tooLong := c.submit("--ntasks=1", "--time=120", "--wrap", "true")
	c.ended(short, "COMPLETED 0:0")
	for _, job := range []string{wide, tooLong} {
		if got := strings.TrimSpace(c.ok("squeue", "-h", "-j", job, "-o", "%T")); got != "PENDING" {
			t.Errorf("job %s is %s: what would delay the wide job must wait", job, got)
		}
	}
	c.ok("scancel", long)
	c.ended(wide, "COMPLETED 0:0")
	c.ended(tooLong, "COMPLETED 0:0")
}

const luaScript = `
function slurm_job_submit(job_desc, part_list, submit_uid)
	if job_desc.time_limit == slurm.NO_VAL then
		slurm.user_msg("please use --time")
		return slurm.ESLURM_INVALID_TIME_LIMIT
	end
	if job_desc.comment == "slow" then
		while true do end
	end
	for name, part in pairs(part_list) do
		if part.flag_default == 1 then
			job_desc.comment = name .. " by " .. submit_uid
		end
	end
	return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
	if job_desc.comment ~= nil then
		slurm.log_user("the comment of job %d stays %s", job_rec.job_id, job_rec.comment)
		return slurm.ERROR
	end
	return slurm.SUCCESS
end

return slurm.SUCCESS
`

// A site's job_submit.lua beside slurm.conf acts on submissions and changes, and
// one that never ends delays nobody but who asked.
func TestLuaScript(t *testing.T) {
	c := up(t, "--nodes", "1", "--add", "JobSubmitPlugins=require_limit") // any, to be replaced
	conf := filepath.Join(c.dir, "etc", "slurm.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Replace(string(text), "JobSubmitPlugins=require_limit", "JobSubmitPlugins=lua\nPluginOptions=job_submit/lua:deadline=500ms", 1)
	for path, text := range map[string]string{conf: lines, filepath.Join(c.dir, "etc", "job_submit.lua"): luaScript} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.ok("sluice", "down")
	c.ok("sluice", "up")

	r := c.run("sbatch", "--wrap", "true")
	if r.code != 1 || !strings.Contains(r.errOut, "sbatch: error: please use --time\n") || !strings.Contains(r.errOut, "Requested time limit is invalid") {
		t.Errorf("no limit: %s", r)
	}
	job := c.submit("--time=1", "--hold", "--wrap", "true")
	if got, want := strings.TrimSpace(c.ok("squeue", "-h", "-j", job, "-o", "%k")), fmt.Sprintf("main by %d", os.Getuid()); got != want {
		t.Errorf("the script's comment is %q, want %q", got, want)
	}
	r = c.run("scontrol", "update", "jobid="+job, "comment=mine")
	if r.code != 1 || !strings.Contains(r.errOut+r.out, "the comment of job "+job+" stays main by") {
		t.Errorf("a refused change: %s", r)
	}
	began := time.Now()
	r = c.run("sbatch", "--time=1", "--comment=slow", "--wrap", "true")
	if took := time.Since(began); r.code != 1 || !strings.Contains(r.errOut, "job_submit/lua gave no answer") || took > 20*time.Second {
		t.Errorf("an endless script, after %v: %s", took, r)
	}
	c.ok("scontrol", "release", job)
	c.ended(job, "COMPLETED 0:0")
}

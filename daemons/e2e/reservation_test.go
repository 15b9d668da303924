package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

// field is one of the fields that scontrol shows of a reservation.
func (c *cluster) resvField(resv, name string) string {
	c.t.Helper()
	for _, f := range strings.Fields(c.ok("scontrol", "-o", "show", "reservation", resv)) {
		if k, v, _ := strings.Cut(f, "="); k == name {
			return v
		}
	}
	return ""
}

// reserve makes a reservation and returns its name.
func (c *cluster) reserve(words string) string {
	c.t.Helper()
	out := c.ok("scontrol", append([]string{"create", "reservation"}, strings.Fields(words)...)...)
	return strings.TrimSpace(strings.TrimPrefix(out, "Reservation created: "))
}

func (c *cluster) refuses(want string, args ...string) {
	c.t.Helper()
	if r := c.run(args[0], args[1:]...); r.code == 0 || !strings.Contains(r.out+r.errOut, want) {
		c.t.Errorf("%s, want a refusal with %q", r, want)
	}
}

func (c *cluster) waits(job, want string) {
	c.t.Helper()
	c.await("job "+job+" to wait for "+want, func() bool {
		return strings.Contains(c.ok("squeue", "-h", "-j", job, "-o", "%T %r"), "PENDING "+want)
	})
}

// Reservations on a live cluster: who gets in, who is kept out, what is kept.
func TestReservations(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	c := up(t)
	t.Run("who may use it", func(t *testing.T) {
		r := c.reserve("Starttime=now Duration=60 Nodes=n1 Users=root ReservationName=ours")
		out := c.submit("-w", "n1", "--wrap", "sleep 300")
		in := c.submit("-w", "n1", "--reservation="+r, "--wrap", "sleep 300")
		c.running(in)
		c.waits(out, "ReqNodeNotAvail, May be reserved for other job")
		c.awaitNode("n1", "MIXED+RESERVED")
		c.refuses("Access denied to requested reservation", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
			"sbatch", "--reservation="+r, "--wrap", "true")
		c.refuses("Requested reservation is invalid", "sbatch", "--reservation=nosuch", "--wrap", "true")
		c.refuses("Requested reservation is in use", "scontrol", "delete", "reservation", r)
		c.ok("scontrol", "update", "reservation="+r, "Users+=nobody")
		if got := c.resvField(r, "Users"); got != "root,nobody" {
			t.Errorf("Users=%s", got)
		}
		c.ok("scontrol", "update", "reservation="+r, "Users-=root")
		c.refuses("Access denied to requested reservation", "sbatch", "--reservation="+r, "--wrap", "true")
		c.ok("scancel", in)
		c.await("the reservation to be free", func() bool { return c.run("scontrol", "delete", "reservation", r).code == 0 })
		c.running(out)
		c.ok("scancel", out)
		c.ended(out, "CANCELLED by 0 0:0")
		if got := c.ok("sacct", "-X", "-n", "-P", "-j", in, "-o", "Reservation"); got != r+"\n" {
			t.Errorf("sacct says that job %s ran in %q", in, got)
		}
	})
	t.Run("a job that would overlap waits", func(t *testing.T) {
		r := c.reserve("StartTime=now+10minutes Duration=60 Nodes=ALL Users=root Flags=IGNORE_JOBS")
		long := c.submit("-t", "30", "--wrap", "true")
		c.waits(long, "ReqNodeNotAvail, May be reserved for other job")
		c.ended(c.submit("-t", "5", "--wrap", "true"), "COMPLETED 0:0")
		c.ok("scontrol", "delete", "reservation", r)
		c.ended(long, "COMPLETED 0:0")
	})
	t.Run("maintenance", func(t *testing.T) {
		r := c.reserve("StartTime=now Duration=60 Nodes=n2 Users=root Flags=MAINT")
		c.await("n2 to be in maintenance", func() bool { return c.ok("sinfo", "-h", "-n", "n2", "-o", "%T") == "maint\n" })
		c.ok("scontrol", "delete", "reservation", r)
		c.awaitNode("n2", "IDLE")
	})
	t.Run("its end is its jobs' end", func(t *testing.T) {
		r := c.reserve("StartTime=now Duration=60 NodeCnt=1 Users=root")
		job := c.submit("--reservation="+r, "--wrap", "sleep 300")
		c.running(job)
		c.ok("scontrol", "update", "reservation="+r, "EndTime=now+1")
		c.ended(job, "TIMEOUT 0:0")
	})
	t.Run("magnetic", func(t *testing.T) {
		r := c.reserve("StartTime=now Duration=60 Nodes=n3 Users=root Flags=MAGNETIC")
		job := c.submit("-w", "n3", "--wrap", "sleep 300")
		c.running(job)
		c.ok("scancel", job)
		c.ended(job, "CANCELLED by 0 0:0")
		c.await("nobody in it", func() bool { return c.run("scontrol", "delete", "reservation", r).code == 0 })
	})
	t.Run("moved by update", func(t *testing.T) {
		r := c.reserve("StartTime=now+1hour Duration=60 Nodes=n4 Users=root")
		job := c.submit("--reservation="+r, "--wrap", "true")
		c.waits(job, "Reservation")
		c.ok("scontrol", "update", "JobId="+job, "ReservationName=")
		c.ended(job, "COMPLETED 0:0")
		c.ok("scontrol", "delete", "reservation", r)
	})
	t.Run("kept over kill -9", func(t *testing.T) {
		r := c.reserve("StartTime=now+1hour Duration=30 Nodes=n[1-2] Users=root Flags=DAILY")
		before := c.ok("scontrol", "show", "reservation", r)
		c.ok("sluice", "kill9", "ctld")
		c.ok("sluice", "start", "ctld")
		c.await("the controller", func() bool { return c.run("scontrol", "ping").code == 0 })
		if after := c.ok("scontrol", "show", "reservation", r); after != before {
			t.Errorf("after:\n%s\nbefore:\n%s", after, before)
		}
		start := c.resvField(r, "StartTime")
		c.ok("scontrol", "update", "reservation="+r, "Skip")
		first, err := time.Parse("2006-01-02T15:04:05", start)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.resvField(r, "StartTime"), first.AddDate(0, 0, 1).Format("2006-01-02T15:04:05"); got != want {
			t.Errorf("skipped from %s to %s, want %s", start, got, want)
		}
		c.ok("scontrol", "delete", "reservation", r)
		c.refuses("Reservation "+r+" not found", "scontrol", "show", "reservation", r)
	})
}

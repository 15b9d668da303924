package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// accessSite is a node in partitions that are not for everybody; more are
// further lines of the configuration.
func accessSite(t *testing.T) (c *cluster, configure func(more string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv of util-linux")
	}
	c = site(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	port := freePorts(t, 2)
	configure = func(more string) {
		c.configure(fmt.Sprintf("ClusterName=access\nSlurmctldHost=c1(127.0.0.1:%d)\n%s\nSlurmdParameters=config_overrides\n%s\n"+
			"NodeName=n1 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=4 RealMemory=1000\n"+
			"PartitionName=DEFAULT Nodes=n1 State=UP\nPartitionName=main Default=YES\nPartitionName=hidden Hidden=YES\n"+
			"PartitionName=closed AllowGroups=root\nPartitionName=ours AllowGroups=nogroup,root\nPartitionName=ops RootOnly=YES\n"+
			"PartitionName=drained State=DRAIN\nPartitionName=off State=INACTIVE\n"+
			"PartitionName=acct AllowAccounts=physics\nPartitionName=noacct DenyAccounts=physics\nPartitionName=elsewhere AllocNodes=login[1-3]\n",
			port, c.paths(), more, host, port+1))
	}
	configure("")
	c.daemon("slurmctld", "--host", "c1")
	c.daemon("slurmd", "-N", "n1")
	c.await("the node to be idle", func() bool { return c.run("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").out == "1\n" })
	return c, configure
}

// asNobody runs a command as a user without rights.
func (c *cluster) asNobody(args ...string) result {
	c.t.Helper()
	return c.run("setpriv", append([]string{"--reuid=nobody", "--regid=nogroup", "--clear-groups"}, args...)...)
}

// Who may use a partition, and who sees it, is as in Slurm.
func TestPartitionAccess(t *testing.T) {
	c, configure := accessSite(t)
	words := func(r result) string {
		c.t.Helper()
		if r.code != 0 {
			t.Errorf("%s", r)
		}
		return strings.Join(strings.Fields(r.out), " ")
	}
	const all = "main* hidden closed ours ops drained off acct noacct elsewhere"
	seen := strings.NewReplacer("hidden closed ", "").Replace(all)
	t.Run("sinfo", func(t *testing.T) {
		for _, tt := range []struct {
			got  result
			want string
		}{
			{c.asNobody("sinfo", "-h", "-o", "%P"), seen}, {c.asNobody("sinfo", "-a", "-h", "-o", "%P"), all},
			{c.asNobody("sinfo", "-h", "-p", "hidden", "-o", "%P %a"), "hidden up"}, {c.run("sinfo", "-h", "-o", "%P"), all},
			{c.run("sinfo", "-h", "-p", "off,drained,main", "-o", "%R %a"), "main up drained drain off inactive"},
		} {
			if got := words(tt.got); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.got.line, got, tt.want)
			}
		}
	})
	t.Run("scontrol show partition", func(t *testing.T) {
		if r := c.asNobody("scontrol", "show", "partition", "hidden"); r.code != 1 || !strings.Contains(r.out+r.errOut, "Partition hidden not found") {
			t.Errorf("%s", r)
		}
		for _, args := range []string{"-a show partition hidden", "show partition ours"} {
			if r := c.asNobody(append([]string{"scontrol"}, strings.Fields(args)...)...); r.code != 0 {
				t.Errorf("%s", r)
			}
		}
	})
	t.Run("squeue", func(t *testing.T) {
		r := c.asNobody("sbatch", "--parsable", "-H", "-p", "hidden", "-o", "/dev/null", "--wrap", "true")
		job := words(r)
		for args, want := range map[string]string{"": "", "-a": "hidden", "-p hidden": "hidden", "-j " + job: "hidden", "--me": ""} {
			if got := words(c.asNobody(append([]string{"squeue", "-h", "-o", "%P"}, strings.Fields(args)...)...)); got != want {
				t.Errorf("squeue %s: %q, want %q", args, got, want)
			}
		}
		if got := words(c.run("squeue", "-h", "-o", "%P")); got != "hidden" {
			t.Errorf("root sees %q", got)
		}
		c.run("scancel", job)
	})
	t.Run("submit", func(t *testing.T) {
		for partitions, want := range map[string]string{
			"closed": "User's group not permitted to use this partition", "ours": "ours", "ops": "Access/permission denied",
			"drained": "Required partition not available (inactive or drain)", "off": "Required partition not available (inactive or drain)",
			"drained,main": "main", "main,closed": "main", "acct": "Invalid account or account/partition combination specified",
			"acct -A physics": "acct", "noacct -A physics": "Invalid account or account/partition combination specified",
			"noacct -A other": "noacct", "elsewhere": "Access/permission denied", "main,nosuch": "Invalid partition name specified",
		} {
			args := append([]string{"sbatch", "--parsable", "-H", "-o", "/dev/null", "--wrap", "true", "-p"}, strings.Fields(partitions)...)
			r := c.asNobody(args...)
			if r.code != 0 {
				if !strings.Contains(r.errOut, "Batch job submission failed: "+want) {
					t.Errorf("-p %s: %s, want %s", partitions, r, want)
				}
				continue
			}
			if got := words(c.run("squeue", "-h", "-j", strings.TrimSpace(r.out), "-o", "%P")); got != want {
				t.Errorf("-p %s is in %q, want %q", partitions, got, want)
			}
		}
		if r := c.asNobody("sbatch", "-p", "nosuch", "--wrap", "true"); strings.Contains(r.errOut, "hidden") || strings.Contains(r.errOut, "closed") {
			t.Errorf("a refusal names partitions that are not seen: %s", r)
		}
		c.run("scancel", "-u", "nobody")
	})
	t.Run("PrivateData", func(t *testing.T) {
		job := c.submit("-H", "--wrap", "true")
		mine := words(c.asNobody("sbatch", "--parsable", "-H", "-o", "/dev/null", "--wrap", "true"))
		configure("PrivateData=jobs,partitions,nodes\nEnforcePartLimits=ALL")
		c.ok("scontrol", "reconfigure")
		if got := words(c.asNobody("squeue", "-a", "-h", "-o", "%i")); got != mine {
			t.Errorf("nobody sees jobs %q, want %q", got, mine)
		}
		if got := words(c.run("squeue", "-h", "-o", "%i")); got != job+" "+mine && got != mine+" "+job {
			t.Errorf("root sees jobs %q", got)
		}
		if r := c.asNobody("scontrol", "show", "job", job); !strings.Contains(r.out+r.errOut, "not found") && !strings.Contains(r.out+r.errOut, "Invalid job id") {
			t.Errorf("%s", r)
		}
		for _, args := range []string{"sinfo -a -h", "scontrol show node -o", "scontrol -a show partition -o"} {
			if r := c.asNobody(strings.Fields(args)...); strings.Contains(r.out, "n1") {
				t.Errorf("%s", r)
			}
		}
		if r := c.asNobody("sbatch", "-H", "-p", "main,closed", "--wrap", "true"); r.code == 0 || !strings.Contains(r.errOut, "User's group not permitted") {
			t.Errorf("EnforcePartLimits=ALL: %s", r)
		}
	})
}

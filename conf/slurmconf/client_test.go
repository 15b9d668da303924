package slurmconf

import (
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLoadClient(t *testing.T) {
	tests := []struct {
		name, file, data string
		want             Client
		dial             []string
		err              string
	}{
		{name: "defaults", file: "slurm.conf", data: "ClusterName=c\nSlurmctldHost=h",
			want: Client{ClusterName: "c", Hosts: []Host{{"h", "h"}}, Port: 6817, SlurmUser: "root", AuthType: "auth/slurm",
				AuthInfo: map[string]string{}, MessageTimeout: 10 * time.Second}, dial: []string{"h:6817"}},
		{name: "all given", file: "slurm.conf", data: "clustername=c\nSlurmctldHost=h1(::1)\nSlurmctldHost=h2\nSlurmctldPort=7000-7003\n" +
			"MessageTimeout=3\nSlurmUser=slurm\nAuthInfo=socket=/tmp/s,ttl=5\nAuthType=auth/munge",
			want: Client{ClusterName: "c", Hosts: []Host{{"h1", "::1"}, {"h2", "h2"}}, Port: 7000, SlurmUser: "slurm", AuthType: "auth/munge",
				AuthInfo: map[string]string{"socket": "/tmp/s", "ttl": "5"}, MessageTimeout: 3 * time.Second}, dial: []string{"[::1]:7000", "h2:7000"}},
		{name: "old names", file: "slurm.conf", data: "ClusterName=c\nControlMachine=a,b\nControlAddr=1.2.3.4",
			want: Client{ClusterName: "c", Hosts: []Host{{"a", "1.2.3.4"}, {"b", "b"}}, Port: 6817, SlurmUser: "root", AuthType: "auth/slurm",
				AuthInfo: map[string]string{}, MessageTimeout: 10 * time.Second}, dial: []string{"1.2.3.4:6817", "b:6817"}},
		{name: "YAML", file: "slurm.yaml", data: "ClusterName: c # x\nSlurmctldHost:\n  - \"h1(10.0.0.1)\"\n  - h2\nSlurmctldPort: 7000\nNodeName:\n  - NodeName: n1\n    SlurmUser: wrong\n",
			want: Client{ClusterName: "c", Hosts: []Host{{"h1", "10.0.0.1"}, {"h2", "h2"}}, Port: 7000, SlurmUser: "root", AuthType: "auth/slurm",
				AuthInfo: map[string]string{}, MessageTimeout: 10 * time.Second}, dial: []string{"10.0.0.1:7000", "h2:7000"}},
		{name: "TOML", file: "slurm.toml", data: "ClusterName = \"c\"\nSlurmctldHost = [\n  \"h1\",\n  \"h2\",\n]\nSlurmUser = 'slurm'\n[[NodeName]]\nSlurmUser = \"wrong\"\n",
			want: Client{ClusterName: "c", Hosts: []Host{{"h1", "h1"}, {"h2", "h2"}}, Port: 6817, SlurmUser: "slurm", AuthType: "auth/slurm",
				AuthInfo: map[string]string{}, MessageTimeout: 10 * time.Second}, dial: []string{"h1:6817", "h2:6817"}},
		{name: "nothing", file: "slurm.conf", data: "SlurmctldPort=x\nMessageTimeout=0",
			err: "PATH: ClusterName: is not set\nPATH: SlurmctldHost: is not set\nPATH:1: SlurmctldPort: \"x\" is not a port or a range of ports\n" +
				"PATH:2: MessageTimeout: \"0\" is not a number of seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{tt.file: tt.data})
			path := filepath.Join(dir, tt.file)
			c, err := LoadClient(path)
			if got := strings.ReplaceAll(text(err), path, "PATH"); got != tt.err {
				t.Fatalf("error %q, want %q", got, tt.err)
			}
			if err != nil {
				return
			}
			if got := c.Controllers(); !reflect.DeepEqual(got, tt.dial) {
				t.Errorf("dial %v, want %v", got, tt.dial)
			}
			if c.KeyPath() != filepath.Join(dir, "slurm.key") {
				t.Errorf("key %s", c.KeyPath())
			}
			got := *c
			got.Path, got.file = "", nil
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestSocket(t *testing.T) {
	c := &Client{ClusterName: "c", AuthInfo: map[string]string{}}
	if got := c.Socket(); got != "/run/sluice/c.sock" {
		t.Errorf("default socket %s", got)
	}
	c.AuthInfo["socket"] = "/x"
	if got := c.Socket(); got != "/x" {
		t.Errorf("socket %s", got)
	}
}

func TestFind(t *testing.T) {
	t.Setenv("SLURM_CONF", "/from/env")
	if got := Find("/explicit"); got != "/explicit" {
		t.Errorf("explicit: %s", got)
	}
	if got := Find(""); got != "/from/env" {
		t.Errorf("environment: %s", got)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"etc/slurm.conf": "", "bin/squeue": "", "libexec/sluice/slurmstepd": "", "y/etc/slurm.yaml": "", "y/sbin/slurmd": ""})
	for exe, want := range map[string]string{"bin/squeue": "etc/slurm.conf", "libexec/sluice/slurmstepd": "etc/slurm.conf", "y/sbin/slurmd": "y/etc/slurm.yaml"} {
		if got := beside(filepath.Join(dir, exe)); got != filepath.Join(dir, want) {
			t.Errorf("%s finds %s", exe, got)
		}
	}
}

// Commands start often; what they import is what they pay.
func TestStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if strings.Contains(strings.Split(dep, "/")[0], ".") && !strings.HasPrefix(dep, "github.com/sluice-hpc/sluice/") {
			t.Errorf("slurmconf imports %s", dep)
		}
	}
}

package sluice

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	socketLimit = 107 - len(".new") // bytes of a path that a Unix socket may have while it is made
	controller  = "ctld"            // the controller's name among the daemons
)

// cluster is a cluster's directory, and the programs that serve it.
type cluster struct {
	dir            string // absolute
	prefix         string // where bin, sbin and libexec are
	self           string // the path of this program
	chosen         bool   // dir is not the default one
	stdout, stderr io.Writer
}

// open finds the directory and the programs; it creates nothing.
func open(dir string, stdout, stderr io.Writer) (*cluster, error) {
	usual, err := defaultDir()
	if dir == "" {
		if err != nil {
			return nil, err
		}
		dir = usual
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	c := &cluster{dir: abs, prefix: filepath.Dir(filepath.Dir(exe)), self: exe, chosen: abs != usual, stdout: stdout, stderr: stderr}
	if n := len(c.path("run", "auth.sock")); n > socketLimit {
		return nil, fmt.Errorf("--dir %s: the path of a socket below it has %d bytes, at most %d are possible: choose a shorter directory", abs, n, socketLimit)
	}
	if strings.ContainsAny(abs, " \t\n\"'#=,%") {
		return nil, fmt.Errorf("--dir %s: blanks and any of \"'#=,%% have a meaning in slurm.conf: choose another directory", abs)
	}
	return c, nil
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *cluster) conf() string { return c.path("etc", "slurm.conf") }

// program finds a daemon's or command's file, with a clear error when the
// installation lacks it.
func (c *cluster) program(dir, name string) (string, error) {
	p := filepath.Join(c.prefix, dir, name)
	if st, err := os.Stat(p); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is missing: build or install it beside %s", p, c.self)
	}
	return p, nil
}

// exists says whether up has made the cluster.
func (c *cluster) exists() bool {
	_, err := os.Stat(c.conf())
	return err == nil
}

// call is how the user types this command: "sluice" when the shell would find
// it, and with --dir when the directory is not the usual one.
func (c *cluster) call() string {
	name := c.self
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		p := filepath.Join(dir, "sluice")
		if real, err := filepath.EvalSymlinks(p); err == nil && real == c.self {
			name = "sluice"
			break
		}
	}
	if wd, err := os.Getwd(); name != "sluice" && err == nil {
		if rel, err := filepath.Rel(wd, name); err == nil && !strings.HasPrefix(rel, "..") {
			name = rel
		}
	}
	if c.chosen {
		return name + " --dir " + c.dir
	}
	return name
}

// hint prints how to use the cluster and how to stop it.
func (c *cluster) hint() {
	fmt.Fprintf(c.stdout, "use it:  eval \"$(%s env)\"\nstop it: %s down\n", c.call(), c.call())
}

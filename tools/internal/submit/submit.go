// Package submit is what sbatch, salloc and srun share around a submission:
// starting up, sending the request once, and failing as Slurm's commands do.
package submit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/version"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/tools/internal/connect"
	"github.com/sluice-hpc/sluice/tools/internal/request"
	"github.com/sluice-hpc/sluice/tools/internal/say"
)

// Process is the process that a command runs in; tests make their own.
type Process struct {
	Name    string // as called
	Args    []string
	Env     []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Context request.Context
}

// OfOS is the running process.
func OfOS() (*Process, error) {
	ctx, err := request.OfProcess()
	return &Process{Name: os.Args[0], Args: os.Args[1:], Env: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Context: ctx}, err
}

// Command is a command under way.
type Command struct {
	*Process
	*say.Voice
	Request *request.Request
	Conf    *slurmconf.Client
	Client  *client.Client
}

// What a command says before the reason why a submission failed.
var failed = map[request.Command]string{
	request.Sbatch: "Batch job submission failed",
	request.Salloc: "Job submit/allocate failed",
	request.Srun:   "Unable to allocate resources",
}

// Start makes the command's request. When it answers a question of the user's
// (--help) or is mistaken, done is true and the command exits with code.
func Start(kind request.Command, p *Process, script func(*request.Request) ([]byte, error)) (c *Command, code int, done bool) {
	c = &Command{Process: p, Voice: say.New(kind.String(), p.Stderr)}
	p.Context.Args = p.Args
	r, err := request.Parse(kind, p.Context, script)
	if err != nil {
		return c, c.Fail(failed[kind], err), true
	}
	c.Request = r
	text := ""
	switch {
	case r.Help:
		text = request.Help(kind)
	case r.Usage:
		text = request.Usage(kind)
	case r.Version:
		text = version.String() + "\n"
	}
	if text != "" {
		io.WriteString(p.Stdout, text) //nolint:errcheck // nowhere to tell
		return c, 0, true
	}
	c.SetLevel(r.Quiet, r.Verbose)
	for _, w := range r.Warnings {
		c.Warningf("%s", w)
	}
	return c, 0, false
}

// Configure reads the configuration.
func (c *Command) Configure() (err error) {
	c.Conf, err = connect.Conf()
	return err
}

// Connect opens the configured cluster, and fills in who asks.
func (c *Command) Connect(ctx context.Context) (err error) {
	if c.Conf == nil {
		if err := c.Configure(); err != nil {
			return err
		}
	}
	if err := connect.OnlyOurs(c.Conf, c.Request.Clusters()); err != nil {
		return err
	}
	if c.Client, err = connect.Dial(ctx, c.Conf); err != nil {
		return err
	}
	c.Request.Identify(c.Client.Identity().User, c.Name, c.Args)
	get := func(key string) string { v, _, _ := c.Conf.Lookup(key); return v }
	c.Request.Spec.Umask = c.Request.Umask()
	c.Request.Spec.Limits = c.Request.Limits(get("PropagateResourceLimits"), get("PropagateResourceLimitsExcept"))
	return nil
}

// Close ends the connections, if any.
func (c *Command) Close() {
	if c.Client != nil {
		c.Client.Close()
	}
}

// Fail tells why the command failed and returns its exit code.
func (c *Command) Fail(what string, err error) int {
	if m, ok := errors.AsType[*request.Mistake](err); ok {
		m.Tell(c.Voice)
		return c.exit(m.Exit)
	}
	if errs.CodeOf(err) == errs.InvalidGres {
		what = "" // so does Slurm
	}
	c.Failure(what, err)
	return c.exit(1)
}

// FailSubmit tells why the submission failed.
func (c *Command) FailSubmit(err error) int { return c.Fail(failed[c.Request.Command], err) }

// exit lets SLURM_EXIT_ERROR replace the exit code of our own errors.
func (c *Command) exit(code int) int {
	if v, ok := c.Context.Env("SLURM_EXIT_ERROR"); ok {
		if n, err := strconv.Atoi(v); err == nil && n > 0 && n < 256 {
			return n
		}
	}
	return code
}

// Message makes the submission of the request.
func (c *Command) Message(script []byte, env []string) *ctlv1.SubmitRequest {
	return &ctlv1.SubmitRequest{Spec: wire.SpecToWire(&c.Request.Spec), Script: script, Env: env,
		Key: key(), TestOnly: c.Request.TestOnly}
}

// key names one submission for a day: the same key is the same job.
func key() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

const (
	fullTries = 15 // as Slurm's commands try again while the job table is full
	fullPause = time.Second
)

// Send submits, again and again with growing pauses while the controller's
// job table is full, and tells what plugins have to say.
func (c *Command) Send(ctx context.Context, m *ctlv1.SubmitRequest) (*ctlv1.SubmitReply, error) {
	for try := 1; ; try++ {
		r, err := c.Client.Controller.Submit(ctx, m)
		if err == nil {
			for _, line := range r.GetMessages() {
				c.Infof("%s", line)
			}
			return r, nil
		}
		if errs.CodeOf(err) != errs.MaxJobCount || try == fullTries || c.Request.Spec.Immediate {
			return nil, err
		}
		c.Errorf("Slurm job queue full, sleeping and retrying.")
		t := time.NewTimer(time.Duration(try) * fullPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// Forecast prints the answer to --test-only.
func (c *Command) Forecast(r *ctlv1.SubmitReply, err error) int {
	if err != nil {
		if e, ok := errors.AsType[*errs.Error](err); ok {
			for _, d := range e.Details {
				c.Errorf("%s", d)
			}
			text := e.Code.String()
			if e.Code == 0 {
				text = e.Error()
			}
			c.Plain("allocation failure: " + text)
		} else {
			c.Plain("allocation failure: " + err.Error())
		}
		return c.exit(1)
	}
	f := r.GetForecast()
	start := time.Unix(f.GetStart(), 0).Format("2006-01-02T15:04:05")
	c.Infof("Job %d to start at %s a using %d processors on nodes %s in partition %s",
		r.GetJobId(), start, f.GetProcessors(), f.GetNodes(), f.GetPartition())
	return 0
}

// Package remote asks the cluster what the listing commands show.
//
// Each command states the calls it needs as an interface of its own; a
// [Source] satisfies all of them over an open client. Errors are those of
// sdk/errs. Streams are handed on chunk by chunk, so that a command that prints
// as it reads holds one chunk at a time.
package remote

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"github.com/sluice-hpc/sluice/sdk/wire"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"github.com/sluice-hpc/sluice/tools/internal/connect"
	"google.golang.org/grpc"
)

// Source is an open way to the cluster.
type Source struct {
	*client.Client
	Cluster string // its name

	conf *slurmconf.Client
}

// Open finds the configuration and opens the cluster for the command prog.
// clusters is what --clusters says; see [connect.OnlyOurs].
func Open(ctx context.Context, prog, clusters string) (*Source, error) {
	conf, err := connect.Conf()
	if err != nil {
		return nil, err
	}
	if err := connect.OnlyOurs(conf, clusters); err != nil {
		return nil, err
	}
	c, err := connect.Dial(ctx, conf)
	if err != nil {
		return nil, err
	}
	return &Source{Client: c, Cluster: conf.ClusterName, conf: conf}, nil
}

// ClusterName is the name that the configuration gives the cluster.
func (s *Source) ClusterName() string { return s.Cluster }

// Pong is one controller's answer to a ping.
type Pong struct {
	Host  string
	Reply *ctlv1.PingReply // nil: no answer
	Took  time.Duration
	Err   error
}

// PingEach asks every controller of the configuration, in its order; nil where
// there is only one.
func (s *Source) PingEach(ctx context.Context) []Pong {
	if s.conf == nil || len(s.conf.Hosts) < 2 {
		return nil
	}
	out := make([]Pong, len(s.conf.Hosts))
	var wg sync.WaitGroup
	for i, h := range s.conf.Hosts {
		wg.Go(func() {
			start := time.Now()
			c := s.At(ctx, h.Dial(s.conf.Port))
			defer c.Close()
			reply, err := c.Controller.Ping(ctx, &ctlv1.PingRequest{})
			if err != nil {
				reply = nil
			}
			out[i] = Pong{h.Name, reply, time.Since(start), err}
		})
	}
	wg.Wait()
	return out
}

// StepStats asks the node daemon at addr about its share of a step.
func (s *Source) StepStats(ctx context.Context, addr string, job, step uint32) (*nodev1.StepStatsReply, error) {
	api, conn, err := s.Node(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return api.StepStats(ctx, &nodev1.StepStatsRequest{Job: job, Step: step})
}

// receive reads a stream to its end.
func receive[T any](stream grpc.ServerStreamingClient[T], err error, each func(*T) error) error {
	for err == nil {
		var m *T
		if m, err = stream.Recv(); err == nil {
			if stop := each(m); stop != nil {
				return stop
			}
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return wire.ErrorOfStatus(err)
}

// Jobs calls each with chunks of the matching jobs, in id order.
func (s *Source) Jobs(ctx context.Context, r *ctlv1.JobsRequest, each func(*ctlv1.JobsReply) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.Controller.Jobs(ctx, r)
	return receive(stream, err, each)
}

// Nodes calls each with chunks of the matching nodes, in table order.
func (s *Source) Nodes(ctx context.Context, r *ctlv1.NodesRequest, each func(*ctlv1.NodesReply) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.Controller.Nodes(ctx, r)
	return receive(stream, err, each)
}

// AcctJobs calls each with chunks of the jobs that the accounting store knows.
func (s *Source) AcctJobs(ctx context.Context, r *acctstorev1.Query, each func(*acctstorev1.JobsReply) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.Accounting.Jobs(ctx, r)
	return receive(stream, err, each)
}

// Steps returns the steps of the matching jobs.
func (s *Source) Steps(ctx context.Context, r *ctlv1.StepsRequest) (*ctlv1.StepsReply, error) {
	return answer(s.Controller.Steps(ctx, r))
}

// Partitions returns the partitions, in the order of the configuration.
func (s *Source) Partitions(ctx context.Context, r *ctlv1.PartitionsRequest) (*ctlv1.PartitionsReply, error) {
	return answer(s.Controller.Partitions(ctx, r))
}

// Reservations returns the reservations, in the order of their creation.
func (s *Source) Reservations(ctx context.Context, r *ctlv1.ReservationsRequest) (*ctlv1.ReservationsReply, error) {
	return answer(s.Controller.Reservations(ctx, r))
}

// UpdateReservation changes, makes or removes a reservation.
func (s *Source) UpdateReservation(ctx context.Context, r *ctlv1.UpdateReservationRequest) (*ctlv1.UpdateReservationReply, error) {
	return answer(s.Controller.UpdateReservation(ctx, r))
}

// Signal signals or cancels jobs.
func (s *Source) Signal(ctx context.Context, r *ctlv1.SignalRequest) (*ctlv1.SignalReply, error) {
	return answer(s.Controller.Signal(ctx, r))
}

// Ping asks the serving controller how it is.
func (s *Source) Ping(ctx context.Context) (*ctlv1.PingReply, error) {
	return answer(s.Controller.Ping(ctx, &ctlv1.PingRequest{}))
}

// Config returns the running configuration.
func (s *Source) Config(ctx context.Context) (*ctlv1.ConfigReply, error) {
	return answer(s.Controller.Config(ctx, &ctlv1.ConfigRequest{}))
}

// Topology returns how the nodes are wired, as package topology encodes it.
func (s *Source) Topology(ctx context.Context) (string, error) {
	m, err := answer(s.Controller.Topology(ctx, &ctlv1.TopologyRequest{}))
	return m.GetSite(), err
}

// Script returns a batch job's script.
func (s *Source) Script(ctx context.Context, r *ctlv1.ScriptRequest) (*ctlv1.ScriptReply, error) {
	return answer(s.Controller.Script(ctx, r))
}

// UpdateJob changes jobs.
func (s *Source) UpdateJob(ctx context.Context, r *ctlv1.UpdateJobRequest) (*ctlv1.UpdateJobReply, error) {
	return answer(s.Controller.UpdateJob(ctx, r))
}

// UpdateNode changes nodes.
func (s *Source) UpdateNode(ctx context.Context, r *ctlv1.UpdateNodeRequest) (*ctlv1.UpdateReply, error) {
	return answer(s.Controller.UpdateNode(ctx, r))
}

// UpdatePartition changes, makes or removes a partition.
func (s *Source) UpdatePartition(ctx context.Context, r *ctlv1.UpdatePartitionRequest) (*ctlv1.UpdateReply, error) {
	return answer(s.Controller.UpdatePartition(ctx, r))
}

// Reconfigure makes the daemons read their configuration again.
func (s *Source) Reconfigure(ctx context.Context) (*ctlv1.ReconfigureReply, error) {
	return answer(s.Controller.Reconfigure(ctx, &ctlv1.ReconfigureRequest{}))
}

// Shutdown ends the daemons.
func (s *Source) Shutdown(ctx context.Context, r *ctlv1.ShutdownRequest) (*ctlv1.UpdateReply, error) {
	return answer(s.Controller.Shutdown(ctx, r))
}

// ChangePlugin swaps, disables or enables a plugin, or runs one as a shadow.
func (s *Source) ChangePlugin(ctx context.Context, r *ctlv1.ChangePluginRequest) (*ctlv1.ChangePluginReply, error) {
	return answer(s.Controller.ChangePlugin(ctx, r))
}

// Explain tells why a job is where it is.
func (s *Source) Explain(ctx context.Context, r *ctlv1.ExplainRequest) (*ctlv1.ExplainReply, error) {
	return answer(s.Controller.Explain(ctx, r))
}

// Shadows returns how shadows compare with what is live.
func (s *Source) Shadows(ctx context.Context) (*ctlv1.ShadowsReply, error) {
	return answer(s.Controller.Shadows(ctx, &ctlv1.ShadowsRequest{}))
}

// Plugins returns the plugins and how they fare.
func (s *Source) Plugins(ctx context.Context, r *ctlv1.PluginsRequest) (*ctlv1.PluginsReply, error) {
	return answer(s.Controller.Plugins(ctx, r))
}

// Token issues a token.
func (s *Source) Token(ctx context.Context, r *ctlv1.TokenRequest) (*ctlv1.TokenReply, error) {
	return answer(s.Controller.Token(ctx, r))
}

// SetDebug changes how much the controller logs.
func (s *Source) SetDebug(ctx context.Context, r *ctlv1.SetDebugRequest) (*ctlv1.UpdateReply, error) {
	return answer(s.Controller.SetDebug(ctx, r))
}

// WaitStarted waits until the job is no longer pending.
func (s *Source) WaitStarted(ctx context.Context, job uint32) (info *ctlv1.JobInfo, err error) {
	err = s.WatchJob(ctx, &ctlv1.WatchJobRequest{Job: job, UntilStarted: true}, func(i *ctlv1.JobInfo) error {
		info = i
		return nil
	})
	return info, wire.ErrorOfStatus(err)
}

func answer[T any](m *T, err error) (*T, error) {
	if err != nil {
		return nil, wire.ErrorOfStatus(err)
	}
	return m, nil
}

// Ref reads a job reference as users write it for the controller.
func Ref(s string) (*ctlv1.JobRef, error) {
	r, err := wlm.ParseJobRef(s)
	if err != nil {
		return nil, err
	}
	m := &ctlv1.JobRef{Job: uint32(r.Job)}
	for i := range r.Tasks {
		m.Tasks = append(m.Tasks, wire.IDRangeToWire(&r.Tasks[i]))
	}
	if r.Step != nil {
		m.HasStep, m.Step = true, uint32(*r.Step)
	}
	return m, nil
}

// RefString prints a reference as users write it.
func RefString(m *ctlv1.JobRef) string {
	r := wlm.JobRef{Job: wlm.JobID(m.GetJob()), Het: wlm.Unset}
	for _, t := range m.GetTasks() {
		r.Tasks = append(r.Tasks, *wire.IDRangeOfWire(t))
	}
	if m.GetHasStep() {
		id := wlm.StepID(m.GetStep())
		r.Step = &id
	}
	return r.String()
}

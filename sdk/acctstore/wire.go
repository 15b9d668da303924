package acctstore

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"google.golang.org/protobuf/proto"
)

const (
	methodAppend = "Append"
	methodJobs   = "Jobs"

	batchBytes = 256 << 10 // rows travel in batches of about this size
)

// Handler answers the kind's calls with s.
func Handler(s Store) wirecall.Handler {
	return wirecall.Handler{Kind: Kind, Contracts: Contracts,
		Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) {
			switch r.Method {
			case methodAppend:
				return wirecall.Answer(ctx, r, new(acctstorev1.AppendRequest), func(ctx context.Context, in *acctstorev1.AppendRequest) (*acctstorev1.AppendReply, error) {
					acked, err := s.Append(ctx, in.GetCluster(), in.GetRecords())
					return &acctstorev1.AppendReply{Acked: acked}, err
				})
			case methodJobs:
				return nil, jobs(ctx, s, r)
			}
			return nil, wirecall.UnknownMethod(Kind, r.Method)
		}}
}

func jobs(ctx context.Context, s Store, r wirecall.Request) error {
	q := new(acctstorev1.Query)
	if err := wirecall.Unmarshal("accounting_storage.Jobs", r.Payload, q); err != nil {
		return err
	}
	var batch acctstorev1.JobsReply
	size := 0
	flush := func() error {
		if len(batch.Jobs) == 0 {
			return nil
		}
		b, err := wirecall.Marshal("accounting_storage.Jobs", &batch)
		batch.Jobs, size = batch.Jobs[:0], 0
		if err != nil {
			return err
		}
		return r.Send(b)
	}
	err := s.Jobs(ctx, q, func(row *acctstorev1.JobRow) error {
		batch.Jobs = append(batch.Jobs, row)
		if size += proto.Size(row); size < batchBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// Client is the host's side: a store in another process.
type Client struct{ caller wirecall.Caller }

var _ Store = (*Client)(nil)

// NewClient returns a client that reaches the plugin through c.
func NewClient(c wirecall.Caller) *Client { return &Client{c} }

// Append is Store's.
func (c *Client) Append(ctx context.Context, cluster string, records []*acctstorev1.Record) (uint64, error) {
	out := new(acctstorev1.AppendReply)
	err := wirecall.Ask(ctx, c.caller, Kind, methodAppend, &acctstorev1.AppendRequest{Cluster: cluster, Records: records}, out)
	return out.GetAcked(), err
}

// Jobs is Store's.
func (c *Client) Jobs(ctx context.Context, q *acctstorev1.Query, yield func(*acctstorev1.JobRow) error) error {
	b, err := wirecall.Marshal("accounting_storage.Jobs", q)
	if err != nil {
		return err
	}
	return c.caller.Stream(ctx, Kind, methodJobs, b, func(item []byte) error {
		batch := new(acctstorev1.JobsReply)
		if err := wirecall.Unmarshal("accounting_storage.Jobs", item, batch); err != nil {
			return err
		}
		for _, row := range batch.GetJobs() {
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	})
}

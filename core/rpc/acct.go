package rpc

import (
	"context"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/acct/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

const acctBytes = 256 << 10 // rows travel in messages of about this size

// accounting is the Accounting service; its Jobs would clash with the
// controller's.
type accounting struct{ *Server }

// flushTime bounds how long a query waits for records that are on their way.
const flushTime = 500 * time.Millisecond

// Jobs implements acctv1.AccountingServer. What happened before the query is in
// its answer, unless the store is slow.
func (a accounting) Jobs(q *acctstorev1.Query, stream grpc.ServerStreamingServer[acctstorev1.JobsReply]) error {
	if a.deps.Store == nil {
		return errs.Coded("rpc.Accounting", errs.Disabled, "Slurm accounting storage is disabled")
	}
	if q.GetCluster() == "" {
		q.Cluster = a.deps.Cluster
	}
	if who := caller(stream.Context()); !who.Admin && a.private("jobs") {
		q.Users = []uint32{uint32(who.UID)}
	}
	if q.GetNow() == 0 {
		q.Now = int64(a.now())
	}
	if a.deps.Flush != nil {
		ctx, cancel := context.WithTimeout(stream.Context(), flushTime)
		a.deps.Flush(ctx) // the query says itself what is wrong
		cancel()
	}
	batch := &acctstorev1.JobsReply{}
	size := 0
	flush := func() error {
		if len(batch.Jobs) == 0 {
			return nil
		}
		err := stream.Send(batch) // encoded when Send returns
		batch, size = &acctstorev1.JobsReply{}, 0
		return err
	}
	err := a.deps.Store.Jobs(stream.Context(), q, func(row *acctstorev1.JobRow) error {
		batch.Jobs = append(batch.Jobs, row)
		if size += proto.Size(row); size < acctBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

var _ acctv1.AccountingServer = accounting{}

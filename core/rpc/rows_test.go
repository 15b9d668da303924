package rpc

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/proto/acct/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
	"google.golang.org/grpc"
)

// Every call has a row, and every row is of a call.
func TestRowsAreComplete(t *testing.T) {
	left := map[string]bool{}
	for m := range rows {
		left[m] = true
	}
	for _, d := range []grpc.ServiceDesc{ctlv1.Controller_ServiceDesc, acctv1.Accounting_ServiceDesc, nodev1.Fleet_ServiceDesc} {
		var names []string
		for _, m := range d.Methods {
			names = append(names, m.MethodName)
		}
		for _, m := range d.Streams {
			names = append(names, m.StreamName)
			if r := rows["/"+d.ServiceName+"/"+m.StreamName]; r.more != nil {
				t.Errorf("%s is a stream: its request is not there when its row is judged", m.StreamName)
			}
		}
		for _, n := range names {
			full := "/" + d.ServiceName + "/" + n
			if !left[full] {
				t.Errorf("%s has no row", full)
			}
			delete(left, full)
		}
	}
	for m := range left {
		t.Errorf("the row %s is of no call", m)
	}
}

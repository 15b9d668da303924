package connect

import (
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/client/clienttest"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOpen(t *testing.T) {
	cluster := clienttest.Serve(t, clienttest.Services{Controller: ctlv1.UnimplementedControllerServer{}})
	t.Setenv("SLURM_CONF", cluster.Conf)
	c, err := Open(t.Context(), "squeue")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// That the fake refuses shows that the call reached it.
	_, err = c.Controller.Ping(t.Context(), &ctlv1.PingRequest{})
	if err == nil || status.Code(err) == codes.Unavailable {
		t.Errorf("error %v", err)
	}
}

func TestMissingConfigurationIsNamed(t *testing.T) {
	t.Setenv("SLURM_CONF", "/nonexistent")
	_, err := Open(t.Context(), "squeue")
	const want = "s_p_parse_file: cannot stat file /nonexistent: No such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestOnlyOurs(t *testing.T) {
	c := &slurmconf.Client{ClusterName: "peer"}
	for _, list := range []string{"", "peer", "all", "peer,peer", " peer "} {
		if err := OnlyOurs(c, list); err != nil {
			t.Errorf("%q: %v", list, err)
		}
	}
	for _, list := range []string{"other", "peer,other"} {
		if err := OnlyOurs(c, list); err == nil || !strings.Contains(err.Error(), "No cluster 'other' known by database") {
			t.Errorf("%q: %v", list, err)
		}
	}
}

package main

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/acctstore"
	"github.com/sluice-hpc/sluice/sdk/acctstore/acctstoretest"
	"github.com/sluice-hpc/sluice/sdk/plugin"
	"github.com/sluice-hpc/sluice/sdk/plugin/session"
	"github.com/sluice-hpc/sluice/sdk/proto/acctstore/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// built is the binary, once buildPlugin made it; TestMain removes it.
var built string

// buildPlugin builds the plugin's binary once for all tests.
var buildPlugin = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "acctsqlite")
	if err != nil {
		return "", err
	}
	built = filepath.Join(dir, "accounting_storage_sqlite")
	out, err := exec.Command("go", "build", "-o", built, ".").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return built, err
})

func TestMain(m *testing.M) {
	status := m.Run()
	if built != "" {
		os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(status)
}

// startPlugin starts the binary on a database file.
func startPlugin(t *testing.T, database string) (acctstore.Store, *plugin.Process) {
	t.Helper()
	path, err := buildPlugin()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "s") // short: the kernel bounds socket names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	process, err := plugin.Start(t.Context(), plugin.StartConfig{Path: path, SocketDir: sockets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	host, err := process.Open(t.Context(), session.HostConfig{Epoch: 1, Open: &pluginv1.Open{Cluster: "c",
		Contracts: map[string]uint32{acctstore.Kind: acctstore.Contract},
		Options:   []*pluginv1.OptionValue{{Name: "path", Value: database}}}})
	if err != nil {
		t.Fatal(err)
	}
	return acctstore.NewClient(host), process
}

func TestConformanceOfTheBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the binary")
	}
	acctstoretest.Run(t, func(t *testing.T) acctstore.Store {
		store, _ := startPlugin(t, filepath.Join(t.TempDir(), "accounting.db"))
		return store
	})
}

// TestKill kills the plugin with SIGKILL at random moments while batches are
// appended, and looks into the file each time: what was acknowledged is there,
// a batch is there whole or not at all, and in the end each job is there once.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the binary")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	database := filepath.Join(t.TempDir(), "accounting.db")
	acked := uint32(0)  // jobs 1 to acked were acknowledged
	stored := uint32(0) // jobs 1 to stored were found in the file; a batch stored without an answer makes it more than acked
	repeated := 0       // such batches
	for range 15 {
		store, process := startPlugin(t, database)
		delay := time.Duration(random.Int64N(int64(60 * time.Millisecond)))
		killer := time.AfterFunc(delay, func() { syscall.Kill(process.PID(), syscall.SIGKILL) })
		last := acked
		for {
			var batch []*acctstorev1.Record
			last = acked + 1 + random.Uint32N(200)
			for id := acked + 1; id <= last; id++ {
				batch = append(batch, life(uint64(id)*5-4, id)...)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			n, err := store.Append(ctx, "c", batch)
			cancel()
			if err != nil {
				break
			}
			if n != uint64(last)*5 {
				t.Fatalf("acknowledged %d of %d", n, last*5)
			}
			acked = last
		}
		killer.Stop()
		<-process.Exited()
		process.Stop()
		stored = max(stored, acked)
		switch have := storedJobs(t, database); have {
		case stored:
		case max(stored, last):
			repeated++
			stored = have
		default:
			t.Fatalf("seed %d: %d jobs are stored, %d were there, %d acknowledged, and the batch under way was to make it %d",
				seed, have, stored, acked, last)
		}
	}
	t.Logf("%d jobs acknowledged through 15 kills, %d batches stored without an answer", acked, repeated)
	store, _ := startPlugin(t, database)
	var batch []*acctstorev1.Record
	for id := uint32(1); id <= acked+300; id++ { // all of it again, and more
		if batch = append(batch, life(uint64(id)*5-4, id)...); len(batch) < 2000 && id < acked+300 {
			continue
		}
		if _, err := store.Append(t.Context(), "c", batch); err != nil {
			t.Fatal(err)
		}
		batch = batch[:0]
	}
	if have := storedJobs(t, database); have != acked+300 {
		t.Errorf("%d jobs after everything was sent again, want %d", have, acked+300)
	}
}

// storedJobs opens the file beside or after the plugin, checks that it has
// the jobs 1 to n, each once and COMPLETED with its batch step, and returns n.
func storedJobs(t *testing.T, database string) (n uint32) {
	t.Helper()
	store, err := open(t.Context(), options{Path: database})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	err = store.Jobs(t.Context(), &acctstorev1.Query{Cluster: "c", Duplicates: true}, func(row *acctstorev1.JobRow) error {
		n++
		if row.Job.Id != n || row.Job.State != uint32(wlm.Completed) || len(row.Steps) != 1 || row.Steps[0].State != uint32(wlm.Completed) {
			t.Fatalf("place %d has job %d, state %v, with %d steps", n, row.Job.Id, wlm.JobState(row.Job.State), len(row.Steps))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

package main

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	limitTime = time.Second // for one measurement of a limit
	forks     = "forks/s"
	syncs     = "fsyncs/s"
	block     = 4096 // bytes of a synced write
)

// limit is a machine's limit. It is measured once, when a figure first refers
// to it, or by the test machine.
func (b *bench) limit(name string) float64 {
	v, ok := b.limits[name]
	if !ok {
		if name == forks {
			v = forksPerSecond(runtime.NumCPU())
		} else {
			v = syncsPerSecond()
		}
		b.limits[name] = v
	}
	return v
}

func machine(b *bench, _ *cluster) {
	var one, all, synced []float64
	for range b.runs {
		one = append(one, forksPerSecond(1))
		all = append(all, forksPerSecond(runtime.NumCPU()))
		synced = append(synced, syncsPerSecond())
	}
	b.report("machine.fork1", forks, "", one...)
	b.report("machine.fork_all", forks, "", all...)
	b.report("machine.fsync", syncs, "", synced...)
	b.limits[forks], b.limits[syncs] = middle(all), middle(synced)
}

// forksPerSecond is fork, exec of /bin/true and wait, from n loops.
func forksPerSecond(n int) float64 {
	var count atomic.Int64
	var loops sync.WaitGroup
	began := time.Now()
	for range n {
		loops.Go(func() {
			for time.Since(began) < limitTime {
				pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
				if err != nil {
					return
				}
				syscall.Wait4(pid, nil, 0, nil) //nolint:errcheck // it is our child
				count.Add(1)
			}
		})
	}
	loops.Wait()
	return perSecond(int(count.Load()), time.Since(began))
}

// syncsPerSecond is appending a block to a file and syncing it, on the file
// system where the clusters of this program keep their state.
func syncsPerSecond() float64 {
	f, err := os.CreateTemp("", "sync")
	check(err)
	defer os.Remove(f.Name())
	defer f.Close()
	data := make([]byte, block)
	n := 0
	began := time.Now()
	for ; time.Since(began) < limitTime; n++ {
		_, err := f.Write(data)
		check(err)
		check(syscall.Fdatasync(int(f.Fd())))
	}
	return perSecond(n, time.Since(began))
}

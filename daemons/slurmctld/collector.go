package main

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Collecting less often than Go would by itself saves a third of the time of a
// submission. What it costs is memory, so the freedom ends where memory would
// be felt: a heap may grow by spareShare percent of what lives, but by no more
// than spareBytes, or leastShare when much lives.
const (
	spareShare = 300
	leastShare = 40
	spareBytes = 224 << 20
	paceEvery  = 500 * time.Millisecond
	// restAfter is how long the controller must have been quiet before memory
	// that a burst left behind goes back to the system.
	restAfter  = 5 * time.Second
	restBytes  = 32 << 20 // freed memory that is worth it
	quietBytes = 4 << 20  // allocated in a second: reads, heartbeats, ticks
)

// paceCollector keeps the collector's pace in step with what lives, until stop
// is called.
func paceCollector() (stop func()) {
	debug.SetGCPercent(spareShare)
	end := make(chan struct{})
	go func() {
		tick := time.NewTicker(paceEvery)
		defer tick.Stop()
		p := newPace()
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				p.look(now)
			}
		}
	}()
	return sync.OnceFunc(func() { close(end) })
}

// share is the percentage by which a heap of so many living bytes may grow.
func share(live uint64) int {
	const hundred = 100
	if live == 0 {
		return spareShare
	}
	return min(max(int(spareBytes*hundred/live), leastShare), spareShare)
}

// pace is what the last look found.
type pace struct {
	samples []metrics.Sample
	share   int
	alloced uint64
	busy    time.Time // when more than a little was last allocated
	rested  bool      // memory was given back since
}

const (
	liveMetric = iota
	allocMetric
	objectsMetric
	freeMetric
	unusedMetric
)

func newPace() *pace {
	p := &pace{share: spareShare, busy: time.Now(), samples: make([]metrics.Sample, unusedMetric+1)}
	for i, name := range []string{"/gc/heap/live:bytes", "/gc/heap/allocs:bytes", "/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/free:bytes", "/memory/classes/heap/unused:bytes"} {
		p.samples[i].Name = name
	}
	return p
}

func (p *pace) value(i int) uint64 {
	if s := p.samples[i].Value; s.Kind() == metrics.KindUint64 {
		return s.Uint64()
	}
	return 0
}

// look adjusts the pace, and gives memory back when a burst is over.
func (p *pace) look(now time.Time) {
	metrics.Read(p.samples)
	if s := share(p.value(liveMetric)); s != p.share {
		debug.SetGCPercent(s)
		p.share = s
	}
	grown := p.value(allocMetric) - p.alloced
	p.alloced = p.value(allocMetric)
	if grown > uint64(quietBytes*paceEvery/time.Second) {
		p.busy, p.rested = now, false
		return
	}
	if p.rested || now.Sub(p.busy) < restAfter {
		return
	}
	p.rested = true
	if dead := p.value(objectsMetric) - min(p.value(objectsMetric), p.value(liveMetric)); dead+p.value(freeMetric)+p.value(unusedMetric) > restBytes {
		debug.FreeOSMemory()
	}
}

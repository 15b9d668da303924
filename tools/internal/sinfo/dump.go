package sinfo

import (
	"strings"

	"github.com/sluice-hpc/sluice/tools/internal/dump"
	"github.com/sluice-hpc/sluice/tools/internal/nodetext"
	"github.com/sluice-hpc/sluice/tools/internal/structured"
)

// dump writes a group as an element of the list "sinfo".
func (g *group) dump(w *structured.Writer) {
	n := g.first()
	if n == nil {
		n = nodetext.Of(nil)
	}
	w.Object("")
	w.Int("port", int64(n.Port))
	w.Object("node")
	if len(g.nodes) > 0 {
		w.Strs("state", n.Words()...)
	} else {
		w.Strs("state")
	}
	w.End()
	g.counts(w)
	g.span(w, "sockets", func(n *nodetext.Node) uint64 { return uint64(n.Sockets) })
	g.span(w, "cores", func(n *nodetext.Node) uint64 { return uint64(n.CoresPerSocket) })
	g.span(w, "threads", func(n *nodetext.Node) uint64 { return uint64(n.ThreadsPerCore) })
	g.span(w, "disk", func(n *nodetext.Node) uint64 { return uint64(n.TmpDisk) })
	g.memory(w)
	g.span(w, "weight", func(n *nodetext.Node) uint64 { return uint64(n.Weight) })
	w.Object("features")
	w.Str("total", strings.Join(n.Features, ","))
	w.Str("active", strings.Join(n.ActiveFeatures, ","))
	w.End()
	w.Object("gres")
	w.Str("total", n.Gres)
	w.Str("used", "")
	w.End()
	w.Str("cluster", "")
	w.Str("comment", n.Comment)
	w.Str("extra", n.Extra)
	w.Object("reason")
	w.Str("description", n.Reason)
	w.Int("time", int64(n.ReasonTime))
	user := ""
	if n.ReasonTime != 0 {
		user = g.names.User(uint32(n.ReasonUser))
	}
	w.Str("user", user)
	w.End()
	w.Str("reservation", n.Reservation)
	w.Object("resource_spec")
	w.Str("cpus", n.CPUSpecList)
	w.Int("memory", int64(n.MemSpecLimit))
	w.End()
	dump.Partition(w, "partition", g.part)
	w.End()
}

func (g *group) counts(w *structured.Writer) {
	w.Object("nodes")
	w.Int("allocated", int64(g.allocated))
	w.Int("idle", int64(g.idle))
	w.Int("other", int64(g.other))
	w.Int("total", int64(len(g.nodes)))
	w.Strs("hostnames")
	w.Strs("addresses")
	w.List("nodes")
	for _, n := range g.nodes {
		w.Str("", string(n.Name))
	}
	w.End()
	w.End()
	w.Object("cpus")
	w.Int("allocated", int64(g.cpuAlloc))
	w.Int("idle", int64(g.cpuIdle))
	w.Int("other", int64(g.cpuRest))
	w.Int("total", int64(g.cpuAlloc+g.cpuIdle+g.cpuRest))
	g.limits(w, func(n *nodetext.Node) uint64 { return uint64(n.Node.CPUs) })
	w.Object("load")
	g.limits(w, func(n *nodetext.Node) uint64 { return uint64(n.CPULoad) })
	w.End()
	w.Object("per_node")
	dump.Bound(w, "max", g.part.MaxCPUsPerNode)
	w.End()
	w.End()
}

func (g *group) limits(w *structured.Writer, value func(*nodetext.Node) uint64) {
	low, high := extremes(g, value)
	w.Int("minimum", int64(low))
	w.Int("maximum", int64(high))
}

func (g *group) span(w *structured.Writer, key string, value func(*nodetext.Node) uint64) {
	w.Object(key)
	g.limits(w, value)
	w.End()
}

func (g *group) memory(w *structured.Writer) {
	w.Object("memory")
	g.limits(w, func(n *nodetext.Node) uint64 { return uint64(n.RealMemory) })
	low, high := extremes(g, func(n *nodetext.Node) uint64 { return uint64(n.FreeMem) })
	w.Object("free")
	w.Number("minimum", high != 0, false, int64(low))
	w.Number("maximum", high != 0, false, int64(high))
	w.End()
	// Slurm gives the last node's here, not the sum.
	var allocated int64
	if len(g.nodes) > 0 {
		allocated = int64(g.nodes[len(g.nodes)-1].AllocMem)
	}
	w.Int("allocated", allocated)
	w.End()
}

package cluster

import (
	"slices"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// unknownFeature is a feature of the expression that no node of the cluster
// has; empty: there is none.
func (c *Cluster) unknownFeature(x *wlm.FeatureExpr) string {
	for _, name := range x.Names() {
		if !slices.ContainsFunc(c.Nodes, func(n *wlm.Node) bool { return slices.Contains(n.Features, name) }) {
			return name
		}
	}
	return ""
}

// testCounts refuses counts of nodes that are more than the job has, as Slurm
// does: no node counts twice.
func testCounts(op string, k *Class, x *wlm.FeatureExpr) error {
	sum := uint64(0)
	for _, t := range x.Counts() {
		sum += uint64(t.Count)
	}
	if most := uint64(max(k.MaxNodes, k.MinNodes)); sum > most && k.MaxNodes > 0 && len(x.Alternatives()) == 1 {
		return errs.Coded(op, errs.NodeConfigUnavailable).With("--constraint=%s counts %d nodes, the job has at most %d", k.Features, sum, most)
	}
	return nil
}

// testBatch checks --batch, which picks the node of the batch script by
// features: they must be among those of --constraint.
func testBatch(op string, spec *wlm.Spec) error {
	batch := spec.Option("batch")
	if batch == "" {
		return nil
	}
	want, err := wlm.ParseFeatures(batch)
	if err != nil {
		return errs.Coded(op, errs.InvalidBatch).With("--batch=%s: %v", batch, err)
	}
	have, err := wlm.ParseFeatures(spec.Features)
	if err != nil {
		return errs.Coded(op, errs.InvalidFeature).With("--constraint=%s: %v", spec.Features, err)
	}
	for _, name := range want.Names() {
		if !slices.Contains(have.Names(), name) {
			return errs.Coded(op, errs.InvalidBatch).With("--batch=%s: %s is no part of --constraint", batch, name)
		}
	}
	return nil
}

// batchHost is the node of an allocation where a job's batch script runs: the
// first with the features of --batch, else the first.
func (c *Cluster) batchHost(spec *wlm.Spec, nodes []wlm.NodeAlloc) wlm.NodeName {
	if batch := spec.Option("batch"); batch != "" {
		if want, err := wlm.ParseFeatures(batch); err == nil {
			for i := range nodes {
				if n := c.Node(nodes[i].Node); n != nil && want.Match(n.ActiveFeatures) {
					return n.Name
				}
			}
		}
	}
	return nodes[0].Node
}

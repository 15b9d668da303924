package cluster

import (
	"strconv"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// segmentOf is --segment: of how many nodes the parts of a job are that have to
// be in one block; 0: it was not given.
func segmentOf(s *wlm.Spec) uint32 {
	n, err := strconv.ParseUint(s.Option("segment"), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// switchWait fills in for how long at most a job waits for few switches.
func (c *Cluster) switchWait(spec *wlm.Spec) {
	most := c.settings.MaxSwitchWait
	if most == 0 {
		most = 300 // Slurm's default
	}
	if spec.Switches > 0 && (spec.SwitchWait == 0 || spec.SwitchWait > most) {
		spec.SwitchWait = most
	}
}

package cluster

import "github.com/sluice-hpc/sluice/sdk/wlm"

// Beside returns an empty cluster for a history beside the true one, such as a
// shadow's: it is fed by Replay, and commits a Start by the same rules. It keeps
// no timers and no accounting records, and lets no job that depends on another
// go; what it starts of arrays gets ids from first on.
func Beside(s Settings, first wlm.JobID) *Cluster {
	c := New(s)
	c.beside, c.NextJob = true, first
	return c
}

// SetRules changes the settings of a cluster that Beside returned.
func (c *Cluster) SetRules(s Settings) { c.settings = s }

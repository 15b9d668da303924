package place

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/mirror"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// pool is all of one generic resource on nodes of a kind.
type pool struct {
	name    string
	count   uint64
	all     uint64   // devices; 0: only counted
	types   []string // by device
	near    [][]uint64
	sets    []uint64 // devices with the same near cores, each set once
	typed   map[string]uint64
	shared  uint64 // shares of a device; 0: a device goes to one job
	partner int    // the pool with the same devices (gpu and shard); -1: none
}

// poolUse is what is taken of a pool.
type poolUse struct {
	busy   uint64 // devices in use by any job
	count  uint64
	shares []uint64 // by device
}

// gresTake is a job's part of a pool on a node.
type gresTake struct {
	pool  int
	devs  uint64
	count uint64
}

// gresAsk is a request for a generic resource, per node, per task, or for the
// whole job.
type gresAsk struct {
	wlm.GresCount
	perTask, perJob, perSocket bool
}

// poolsOf reads what nodes of a kind have. What cannot be read is not there.
func (t *table) poolsOf(n *mirror.Node, words int32) []pool {
	if n.Gres == "" {
		return nil
	}
	have, err := wlm.NodeGres(n.Gres, n.GresConf)
	if err != nil {
		return nil
	}
	out := make([]pool, len(have))
	for i, h := range have {
		p := pool{name: h.Name, count: h.Count, shared: h.Shared, partner: -1, typed: map[string]uint64{}}
		for _, c := range h.Types {
			p.typed[c.Type] += c.Count
		}
		for d, dev := range h.Devices {
			p.all |= 1 << d
			p.types = append(p.types, dev.Type)
			p.near = append(p.near, maskOf(dev.Cores, words))
		}
		for d := range p.near {
			at := slices.IndexFunc(p.sets, func(s uint64) bool {
				return slices.Equal(p.near[bits.TrailingZeros64(s)], p.near[d])
			})
			if at < 0 {
				at, p.sets = len(p.sets), append(p.sets, 0)
			}
			p.sets[at] |= 1 << d
		}
		for k := range i {
			if (p.shared > 0) != (out[k].shared > 0) && out[k].all != 0 && out[k].all == p.all {
				p.partner, out[k].partner = k, i
			}
		}
		out[i] = p
	}
	return out
}

func maskOf(set wlm.CPUSet, words int32) []uint64 {
	if set == nil {
		return nil
	}
	m := make([]uint64, words)
	copy(m, set)
	return m
}

// takeGres reads what a class asks for.
func (n *need) takeGres(t *table, c *mirror.Class) {
	add := func(list string, times uint64, perTask, perJob bool) {
		asks, err := wlm.ParseGres(list)
		if err != nil {
			n.refuse(wlm.FailBadConstraints, "generic resources %q cannot be read", list)
		}
		for _, a := range asks {
			if a.Count *= times; a.Count > 0 {
				n.gres = append(n.gres, gresAsk{a, perTask, perJob, times > 1})
			}
		}
	}
	sockets := uint64(1)
	if c.SocketsPerNode > 0 && c.SocketsPerNode < wlm.Unset {
		sockets = uint64(c.SocketsPerNode)
	}
	add(c.TresPerNode, 1, false, false)
	add(c.TresPerSocket, sockets, false, false)
	add(c.TresPerTask, 1, true, false)
	add(c.TresPerJob, 1, false, true)
	n.enforce = strings.Contains(c.GresFlags, "enforce-binding")
	n.unbound = strings.Contains(c.GresFlags, "disable-binding")
	n.cpusPerGPU, n.memPerGPU = int(c.CPUsPerGPU), int64(c.MemPerGPU)
	for _, a := range n.gres {
		if a.Name != "gpu" || !a.perTask {
			continue
		}
		n.cpusPerTask = max(n.cpusPerTask, int(a.Count)*n.cpusPerGPU)
		if n.memPerGPU > 0 {
			n.memNode, n.memCPU = 0, (int64(a.Count)*n.memPerGPU+int64(n.cpusPerTask)-1)/int64(n.cpusPerTask)
		}
	}
	n.spreadGres(t)
	n.setGPUs(n.gpusOf(0))
}

// spreadGres raises the number of nodes until a job's total fits on as many.
func (n *need) spreadGres(t *table) {
	for _, a := range n.gres {
		if !a.perJob {
			continue
		}
		most := uint64(0)
		for k := range t.kinds {
			if t.kinds[k].slots.countAnd(t.partSlots[n.part]) == 0 {
				continue
			}
			have := amount(t.pools[k], a.GresCount)
			if node := &t.nodes[t.kinds[k].node]; a.Name == "gpu" && n.cpusPerGPU > 0 {
				have = min(have, uint64(max(node.CPUs, 0)/n.cpusPerGPU))
			}
			most = max(most, have)
		}
		if most == 0 {
			continue // no node has any: enough says so
		}
		n.min = max(n.min, int(min((a.Count+most-1)/most, unbounded)))
		n.max = min(n.max, int(min(a.Count, unbounded)))
		n.target = max(n.target, n.min)
		if n.tasks > 0 && n.tasks < n.min {
			n.tasks = n.min
		}
	}
	if n.min > n.max {
		n.refuse(wlm.FailBadConstraints, "the generic resources asked for need %s", nodeCount(n.min))
	}
}

// amount is how much a kind of node has.
func amount(pools []pool, g wlm.GresCount) uint64 {
	for _, p := range pools {
		if p.name == g.Name {
			if g.Type != "" {
				return p.typed[g.Type]
			}
			return p.count
		}
	}
	return 0
}

// gpusOf is how many GPUs the i-th node of the job gets, when that does not
// depend on its tasks.
func (n *need) gpusOf(i int) int {
	sum := 0
	for _, a := range n.gres {
		if a.Name == "gpu" && !a.perTask {
			sum += int(n.part1(a, i))
		}
	}
	return sum
}

// part1 is the i-th node's part of an ask: of a job's total, the nodes share
// evenly and the first ones have one more.
func (n *need) part1(a gresAsk, i int) uint64 {
	if !a.perJob {
		return a.Count
	}
	nodes := uint64(max(n.spread, n.min, 1))
	part := a.Count / nodes
	if uint64(i) < a.Count%nodes {
		part++
	}
	return part
}

// setGPUs sets what follows from a node's number of GPUs.
func (n *need) setGPUs(gpus int) {
	if gpus == 0 {
		return
	}
	n.minCPUs = max(int(n.class.MinCPUsPerNode), gpus*n.cpusPerGPU)
	if n.memPerGPU > 0 {
		n.memNode, n.memCPU = int64(gpus)*n.memPerGPU, 0
	}
}

// onNode is the need on one of the job's nodes.
func (n *need) onNode(sh share) *need {
	one := *n
	one.spread = sh.of
	one.setGPUs(one.gpusOf(sh.place))
	return &one
}

// free is the devices of a pool that a job can have count of, of a type.
func (p *pool) free(st []poolUse, at int, typ string, count uint64) uint64 {
	free := p.all
	if p.shared > 0 {
		for d := range p.types {
			if st[at].shares[d]+count > p.shared || p.partner >= 0 && st[p.partner].busy&(1<<d) != 0 {
				free &^= 1 << d
			}
		}
	} else {
		free &^= st[at].busy
		if p.partner >= 0 {
			free &^= st[p.partner].busy
		}
	}
	if typ != "" {
		for d, have := range p.types {
			if have != typ {
				free &^= 1 << d
			}
		}
	}
	return free
}

func newUse(pools []pool) []poolUse {
	st := make([]poolUse, len(pools))
	for i := range pools {
		if pools[i].shared > 0 {
			st[i].shares = make([]uint64, len(pools[i].types))
		}
	}
	return st
}

func applyTakes(st []poolUse, takes []gresTake, pools []pool) {
	for _, k := range takes {
		u := &st[k.pool]
		u.busy |= k.devs
		u.count += k.count
		if pools[k.pool].shared > 0 && k.devs != 0 {
			u.shares[bits.TrailingZeros64(k.devs)] += k.count
		}
	}
}

// grab takes what a node's tasks need of its pools. With spread, devices come
// from all sockets in turn, else from the one with most free cores that has
// enough. near is the cores near them; nil: any. ok is false when it is not there.
func (n *need) grab(pools []pool, st []poolUse, mask []uint64, tasks, node int, spread bool) (takes []gresTake, near []uint64, ok bool) {
	for _, a := range n.gres {
		at := slices.IndexFunc(pools, func(p pool) bool { return p.name == a.Name })
		want := n.part1(a, node)
		if a.perTask {
			want *= uint64(max(tasks, 1))
		}
		if want == 0 {
			continue
		}
		if at < 0 || want > pools[at].count-min(st[at].count, pools[at].count) {
			return nil, nil, false
		}
		p := &pools[at]
		if p.all == 0 {
			if a.Type != "" && want > p.typed[a.Type] {
				return nil, nil, false
			}
			takes = append(takes, gresTake{at, 0, want})
			continue
		}
		free := p.free(st, at, a.Type, want)
		for _, k := range takes {
			if k.pool == at {
				free &^= k.devs
			}
		}
		k := int(want)
		if p.shared > 0 {
			k = 1
		}
		if bits.OnesCount64(free) < k {
			return nil, nil, false
		}
		devs := p.choose(free, k, mask, spread || a.perSocket)
		takes = append(takes, gresTake{at, devs, want})
		near = p.union(near, devs, len(mask))
	}
	return takes, near, true
}

// choose picks k of the free devices.
func (p *pool) choose(free uint64, k int, mask []uint64, spread bool) (devs uint64) {
	if p.shared > 0 && k == 1 {
		return p.choose1(free, mask)
	}
	best, most := -1, -1
	for i, s := range p.sets {
		near := p.near[bits.TrailingZeros64(s)]
		cores := count(mask)
		if near != nil {
			cores = bitmap(mask).countAnd(near)
		}
		if !spread && bits.OnesCount64(s&free) >= k && cores > most {
			best, most = i, cores
		}
	}
	if best >= 0 {
		free &= p.sets[best]
	}
	for k > 0 {
		for _, s := range p.sets {
			if here := s & free; here != 0 && k > 0 {
				take := here & -here
				devs, free, k = devs|take, free&^take, k-1
				for !spread && s&free != 0 && k > 0 {
					take = s & free & -(s & free)
					devs, free, k = devs|take, free&^take, k-1
				}
			}
		}
	}
	return devs
}

func (p *pool) choose1(free uint64, _ []uint64) uint64 { return free & -free }

// union adds the cores near devices to near.
func (p *pool) union(near []uint64, devs uint64, words int) []uint64 {
	for d := range p.near {
		if devs&(1<<d) == 0 || p.near[d] == nil {
			continue
		}
		if near == nil {
			near = make([]uint64, words)
		}
		for w := range near {
			near[w] |= p.near[d][w]
		}
	}
	return near
}

// everything takes all of a node's pools, for a job that has it alone.
func everything(pools []pool) (takes []gresTake) {
	for i, p := range pools {
		if p.shared == 0 {
			takes = append(takes, gresTake{i, p.all, p.count})
		}
	}
	return takes
}

// fitGres is fit on a node with its generic resources.
func (t *table) fitGres(n *need, i int32, st []poolUse, cores int32, mem int64, room int, mask []uint64) int {
	g := &t.geo[i]
	if len(n.gres) == 0 {
		return n.fit(&t.params, g, cores, mem, room, mask)
	}
	tasks := n.fit(&t.params, g, cores, mem, room, mask)
	pools := t.pools[g.kind]
	for tasks > 0 {
		takes, near, ok := n.grab(pools, st, mask, min(tasks, max(n.tasks, n.taskCapped())), 0, false)
		if !ok {
			if n.perTaskGres() && tasks > 1 {
				tasks = n.fewer(tasks)
				continue
			}
			return 0
		}
		if near == nil || n.unbound || n.whole {
			break
		}
		if local := t.localFit(n, g, mem, room, mask, near); local > 0 {
			tasks = min(tasks, local)
			break
		}
		if _, near, ok = n.grab(pools, st, mask, min(tasks, max(n.tasks, n.taskCapped())), 0, true); ok {
			if local := t.localFit(n, g, mem, room, mask, near); local > 0 {
				tasks = min(tasks, local)
				break
			}
		}
		if n.enforce {
			return 0
		}
		_ = takes
		break
	}
	if tasks < n.taskMin {
		return 0
	}
	return tasks
}

// taskCapped is how many tasks a node has at most when their total is not given.
func (n *need) taskCapped() int { return min(n.taskCap, max(n.perNode, 1)) }

func (n *need) perTaskGres() bool {
	return slices.ContainsFunc(n.gres, func(a gresAsk) bool { return a.perTask })
}

// fewer is the next number of tasks to try.
func (n *need) fewer(tasks int) int { return min(tasks, max(n.tasks, n.taskCapped())) - 1 }

func (t *table) localFit(n *need, g *geometry, mem int64, room int, mask, near []uint64) int {
	both := intersect(mask, near)
	return n.fit(&t.params, g, t.usableCores(g, both), mem, room, both)
}

// settle decides which devices a share gets and from which cores its own come.
func (t *table) settle(n *need, sh share, st []poolUse, mask []uint64) ([]gresTake, []uint64) {
	g := &t.geo[sh.node]
	pools := t.pools[g.kind]
	if n.whole {
		return everything(pools), mask
	}
	if len(n.gres) == 0 {
		return nil, mask
	}
	one := *n
	one.taskMin = 1
	takes, near, _ := n.grab(pools, st, mask, sh.tasks, sh.place, false)
	if near == nil || n.unbound {
		return takes, mask
	}
	if t.localFit(&one, g, g.memory, unbounded, mask, near) >= sh.tasks {
		return takes, intersect(mask, near)
	}
	if more, near, ok := n.grab(pools, st, mask, sh.tasks, sh.place, true); ok && t.localFit(&one, g, g.memory, unbounded, mask, near) >= sh.tasks {
		return more, intersect(mask, near)
	}
	return takes, mask
}

// gresWords prints takes of a node as a use of the placement.
func (t *table) gresWords(i int32, takes []gresTake) string {
	if len(takes) == 0 {
		return ""
	}
	pools := t.pools[t.geo[i].kind]
	var uses []wlm.GresUse
	for _, k := range takes {
		p := &pools[k.pool]
		if k.devs == 0 {
			if k.count > 0 {
				uses = append(uses, wlm.GresUse{Name: p.name, Count: k.count})
			}
			continue
		}
		for d, typ := range p.types {
			if k.devs&(1<<d) == 0 {
				continue
			}
			at := slices.IndexFunc(uses, func(u wlm.GresUse) bool { return u.Name == p.name && u.Type == typ })
			if at < 0 {
				at, uses = len(uses), append(uses, wlm.GresUse{Name: p.name, Type: typ})
			}
			uses[at].Devices = uses[at].Devices.Set(d)
			if uses[at].Count++; p.shared > 0 {
				uses[at].Count = k.count
			}
		}
	}
	return wlm.FormatGresUse(uses)
}

// takesOf reads what a running job has of a node.
func (p *pass) takesOf(i int32, text string) []gresTake {
	if text == "" {
		return nil
	}
	pools := p.t.pools[p.t.geo[i].kind]
	uses, err := wlm.ParseGresUse(text)
	if err != nil {
		return nil
	}
	var takes []gresTake
	for _, u := range uses {
		at := slices.IndexFunc(pools, func(q pool) bool { return q.name == u.Name })
		if at < 0 {
			continue
		}
		k := gresTake{pool: at, count: u.Count}
		if len(u.Devices) > 0 {
			k.devs = u.Devices[0] & pools[at].all
		}
		takes = append(takes, k)
	}
	return takes
}

// gresAt is what is taken of node i at some moment of a window; nil when the
// need does not ask.
func (p *pass) gresAt(n *need, i int32, start, end int64) []poolUse {
	pools := p.t.pools[p.t.geo[i].kind]
	if len(n.gres) == 0 || len(pools) == 0 {
		return nil
	}
	st := newUse(pools)
	for k := p.head[i]; k >= 0; k = p.spans[k].next {
		if s := &p.spans[k]; s.end > start && s.start < end && s.skip != skipAll {
			applyTakes(st, s.gres, pools)
		}
	}
	return st
}

package steps

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// asks is what a step wants of the job's generic resources. A step that says
// nothing has all that the job has on its nodes, alone.
type asks struct {
	all                       bool
	perNode, perTask, perStep []wlm.GresCount
	wholeOf                   []wlm.GresCount // per socket: what the job has of the name on the node
	tasksPerGPU               int
}

// gresAsks reads a request's lists.
func gresAsks(r *Request) (a asks, err error) {
	said := false
	read := func(list string) []wlm.GresCount {
		var out []wlm.GresCount
		for item := range strings.SplitSeq(list, ",") {
			name, isGres := strings.CutPrefix(strings.Replace(item, "gres:", "gres/", 1), "gres/")
			switch {
			case strings.EqualFold(name, "none"):
				said = true
				continue
			case item == "" || !isGres && (strings.HasPrefix(item, "cpu") || strings.HasPrefix(item, "mem") || strings.Contains(item, "/")):
				continue
			}
			counts, perr := wlm.ParseGres(name)
			if perr != nil {
				err = errs.Coded("steps.gres", errs.InvalidGres, perr.Error())
			}
			said = true
			for _, c := range counts {
				if c.Count > 0 {
					out = append(out, c)
				}
			}
		}
		return out
	}
	a.perNode, a.perTask, a.perStep, a.wholeOf = read(r.Gres), read(r.TresPerTask), read(r.TresPerStep), read(r.TresPerSocket)
	if r.TasksPerGPU > 0 && len(a.perNode)+len(a.perTask)+len(a.perStep)+len(a.wholeOf) == 0 {
		a.tasksPerGPU, said = int(r.TasksPerGPU), true
	}
	a.all = !said
	return a, err
}

// freeGres is what no step holds of a node's resources, or all that the job has
// of them; the caller may change the result.
func (m *Manager) freeGres(i int, empty bool) []wlm.GresUse {
	out := append([]wlm.GresUse(nil), m.nodes[i].Gres...)
	for k := range out {
		out[k].Devices = out[k].Devices.Clone()
		if m.nodes[i].Gres[k].Devices != nil && out[k].Devices == nil {
			out[k].Devices = wlm.CPUSet{}
		}
		if empty || len(m.gres[i]) == 0 {
			continue
		}
		out[k].Count -= min(m.gres[i][k].Count, out[k].Count)
		if !shares(&m.nodes[i].Gres[k]) {
			out[k].Devices = out[k].Devices.AndNot(m.gres[i][k].Devices)
		}
	}
	return out
}

// shares reports whether a use counts parts of devices, which steps share.
func shares(u *wlm.GresUse) bool {
	return u.Devices == nil || uint64(u.Devices.Count()) != u.Count || u.Name == "shard" || u.Name == "mps"
}

func fits(u *wlm.GresUse, c wlm.GresCount) bool {
	return u.Name == c.Name && (c.Type == "" || u.Type == c.Type)
}

// available adds up what there is of an amount's name and type.
func available(free []wlm.GresUse, c wlm.GresCount) (n uint64) {
	for k := range free {
		if fits(&free[k], c) {
			n += free[k].Count
		}
	}
	return n
}

// gresRoom is how many of so many tasks a node's free resources suffice for.
func (m *Manager) gresRoom(p *plan, i, tasks int, empty bool) int {
	if len(m.nodes[i].Gres) == 0 && p.asks.all || tasks == 0 {
		return tasks
	}
	free := m.freeGres(i, empty)
	if p.asks.all || len(p.asks.wholeOf) > 0 {
		for k := range free {
			if free[k].Count < m.nodes[i].Gres[k].Count && (p.asks.all || fits(&free[k], p.asks.wholeOf[0])) {
				return 0
			}
		}
	}
	for _, c := range p.asks.perNode {
		if available(free, c) < c.Count {
			return 0
		}
	}
	for _, c := range p.asks.perTask {
		tasks = min(tasks, int(available(free, c)/c.Count))
	}
	if p.asks.tasksPerGPU > 0 {
		tasks = min(tasks, int(available(free, wlm.GresCount{Name: "gpu"}))*p.asks.tasksPerGPU)
	}
	for _, c := range p.asks.perStep {
		if available(free, c) == 0 {
			return 0
		}
	}
	return tasks
}

// gresSuffice reports whether nodes have what the step wants in all.
func (m *Manager) gresSuffice(p *plan, nodes []int, empty bool) bool {
	for _, c := range p.asks.perStep {
		sum := uint64(0)
		for _, i := range nodes {
			sum += available(m.freeGres(i, empty), c)
		}
		if sum < c.Count {
			return false
		}
	}
	return true
}

// gresNever says what of a step's wishes the job does not have, nil when it has
// all of it.
func (m *Manager) gresNever(op string, p *plan) error {
	most := func(c wlm.GresCount) (node, sum uint64) {
		for _, i := range p.allowed {
			n := available(m.nodes[i].Gres, c)
			node, sum = max(node, n), sum+n
		}
		return node, sum
	}
	for _, c := range p.asks.perNode {
		if n, _ := most(c); n < c.Count {
			have := c
			have.Count = n
			return errs.Coded(op, errs.InvalidGres, fmt.Sprintf("Step requested gres_per_node=%s is more than the job's gres_per_node=%s", c, have))
		}
	}
	for _, c := range p.asks.perStep {
		if _, sum := most(c); sum < c.Count {
			have := c
			have.Count = sum
			return errs.Coded(op, errs.InvalidGres, fmt.Sprintf("Step requested gres_per_step=%s is more than the job's gres=%s", c, have))
		}
	}
	for _, c := range p.asks.perTask {
		if _, sum := most(c); sum < c.Count*uint64(p.tasks) {
			return errs.Coded(op, errs.InvalidGres, fmt.Sprintf("Insufficient GRES available in allocation: %d tasks with %s each; the job has %d", p.tasks, c, sum))
		}
	}
	if n := p.asks.tasksPerGPU; n > 0 {
		if _, sum := most(wlm.GresCount{Name: "gpu"}); int(sum)*n < p.tasks {
			return errs.Coded(op, errs.InvalidGres, fmt.Sprintf("Insufficient GRES available in allocation: %d tasks with %d a GPU; the job has %d GPUs", p.tasks, n, sum))
		}
	}
	return nil
}

// takeGres moves an amount from free to a step's part.
func takeGres(free, part []wlm.GresUse, c wlm.GresCount) {
	for k := range free {
		f, g := &free[k], &part[k]
		if c.Count == 0 || !fits(f, c) || f.Count == 0 {
			continue
		}
		n := min(f.Count, c.Count)
		c.Count -= n
		g.Count += n
		if f.Devices == nil {
			f.Count -= n
			continue
		}
		if shares(f) {
			g.Devices = f.Devices
			f.Count -= n
			continue
		}
		f.Count -= n
		for d := range f.Devices.Clone().All {
			if n > 0 {
				g.Devices = g.Devices.Set(d)
				f.Devices = f.Devices.AndNot(wlm.CPUSet{}.Set(d))
				n--
			}
		}
	}
}

// dealGres gives each share of a step its part of the nodes' resources.
func (m *Manager) dealGres(p *plan, g *Grant) {
	left := append([]wlm.GresCount(nil), p.asks.perStep...)
	for at := range g.Shares {
		s := &g.Shares[at]
		own := m.nodes[s.Index].Gres
		if len(own) == 0 {
			continue
		}
		if p.asks.all {
			s.Gres = own
			continue
		}
		free := m.freeGres(s.Index, p.Overlap)
		part := make([]wlm.GresUse, len(own))
		for k := range own {
			part[k].Name, part[k].Type = own[k].Name, own[k].Type
		}
		for _, c := range p.asks.perNode {
			takeGres(free, part, c)
		}
		for _, c := range p.asks.wholeOf {
			c.Count = available(free, c)
			takeGres(free, part, c)
		}
		for _, c := range p.asks.perTask {
			c.Count *= uint64(len(s.TaskIDs))
			takeGres(free, part, c)
		}
		if n := p.asks.tasksPerGPU; n > 0 {
			takeGres(free, part, wlm.GresCount{Name: "gpu", Count: uint64((len(s.TaskIDs) + n - 1) / n)})
		}
		for k := range left {
			c := left[k]
			later := uint64(len(g.Shares) - at - 1)
			c.Count = min(available(free, c), c.Count-min(later, c.Count))
			left[k].Count -= c.Count
			takeGres(free, part, c)
		}
		s.Gres = part
	}
}

// holdGres adds a share's part to what is held of its node, or takes it off.
func (m *Manager) holdGres(s *Share, sign int) {
	own := m.nodes[s.Index].Gres
	if len(s.Gres) != len(own) || len(own) == 0 {
		return
	}
	held := m.gres[s.Index]
	if held == nil {
		held = make([]wlm.GresUse, len(own))
		m.gres[s.Index] = held
	}
	for k := range s.Gres {
		if sign > 0 {
			held[k].Count += s.Gres[k].Count
			held[k].Devices = held[k].Devices.Or(s.Gres[k].Devices)
			continue
		}
		held[k].Count -= min(s.Gres[k].Count, held[k].Count)
		held[k].Devices = held[k].Devices.AndNot(s.Gres[k].Devices)
	}
}

// GresText is a share's part as wlm.FormatGresUse prints it, without what it has
// nothing of.
func (s *Share) GresText() string {
	var uses []wlm.GresUse
	for _, u := range s.Gres {
		if u.Count > 0 {
			uses = append(uses, u)
		}
	}
	return wlm.FormatGresUse(uses)
}

// RestoreGres finds the part of a node's resources that a text of
// [Share.GresText] tells of.
func (n *Node) RestoreGres(text string) []wlm.GresUse {
	uses, err := wlm.ParseGresUse(text)
	if err != nil || len(n.Gres) == 0 {
		return nil
	}
	part := make([]wlm.GresUse, len(n.Gres))
	for k := range n.Gres {
		part[k].Name, part[k].Type = n.Gres[k].Name, n.Gres[k].Type
		for _, u := range uses {
			if u.Name == part[k].Name && u.Type == part[k].Type {
				part[k] = u
			}
		}
	}
	return part
}

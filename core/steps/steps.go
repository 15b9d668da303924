// Package steps is the step manager of one job: which step gets which CPUs and
// how much memory of the job's allocation. It is pure; slurmd of the job's
// first node runs it.
//
// The rules are srun's. A step has the whole of each of its nodes unless it
// asks for exactly what it needs (--exact, or --cpus-per-task); steps share
// nothing unless one of them overlaps (--overlap). A step that finds no room
// waits its turn, first come first served, so that a wide step is not starved
// by narrow ones.
//
// Invariant: no CPU is held by two steps, and no more memory than the job has,
// except by steps that overlap, which hold nothing.
package steps

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Node is the job's share of one node, in the allocation's order.
type Node struct {
	Name           wlm.NodeName
	CPUs           wlm.CPUSet
	Mem            wlm.MiB // 0: not limited
	ThreadsPerCore uint32  // 0: 1
	Gres           []wlm.GresUse
}

// Request is what a step asks for; numbers that were not given are 0.
type Request struct {
	MinNodes     uint32
	MaxNodes     uint32
	NTasks       uint32
	CPUsPerTask  uint32
	TasksPerNode uint32
	NodeList     string // must be part of the step
	Exclude      string
	Relative     uint32 // first node to use, by its place in the job; wlm.Unset: any
	MemPerNode   wlm.MiB
	MemPerCPU    wlm.MiB
	Exact        bool
	Overlap      bool
	Whole        bool
	Overcommit   bool
	Distribution string
	// What the step wants of generic resources: for each node, for all of it, for
	// each task, for each socket. With none given it has all of the job's.
	Gres          string // "gres/gpu:2,gres/bw:10", or "none"
	TresPerStep   string
	TresPerTask   string
	TresPerSocket string
	TasksPerGPU   uint32
	Interactive   bool // salloc's shell: overlaps everything and has a name for a number
}

// Share is a step's part of one node.
type Share struct {
	Index   int // of the node in the job
	CPUs    wlm.CPUSet
	Mem     wlm.MiB // 0: the job's
	TaskIDs []uint32
	Gres    []wlm.GresUse // one for each of the node's; see [Share.GresText]
}

// Grant is a step that may run.
type Grant struct {
	Step        wlm.StepID
	Shares      []Share
	NTasks      uint32
	CPUsPerTask uint32
	Dist        string // in srun's words; empty: neither asked for nor of consequence
	Overlap     bool
}

// Ticket numbers a request that waits; the caller chooses it.
type Ticket uint64

// Admitted is a waiting request that got its step.
type Admitted struct {
	Ticket Ticket
	Grant  *Grant
}

// Manager is the state of one job's steps. Its zero value is not usable.
type Manager struct {
	nodes   []Node
	tasks   uint32 // of the job; 0: not said
	next    wlm.StepID
	steps   map[wlm.StepID]*Grant
	held    []wlm.CPUSet    // by node
	mem     []wlm.MiB       // held, by node
	gres    [][]wlm.GresUse // held, by node; nil: nothing
	waiting []waiter
}

type waiter struct {
	ticket Ticket
	req    Request
}

// New returns the manager of an allocation. tasks is the number of tasks that
// the job asked for, 0 when it did not.
func New(nodes []Node, tasks uint32) *Manager {
	return &Manager{nodes: nodes, tasks: tasks, steps: make(map[wlm.StepID]*Grant),
		held: make([]wlm.CPUSet, len(nodes)), mem: make([]wlm.MiB, len(nodes)),
		gres: make([][]wlm.GresUse, len(nodes))}
}

// Steps is the number of steps that hold resources or overlap.
func (m *Manager) Steps() int { return len(m.steps) }

// Step returns a step that has not ended, or nil.
func (m *Manager) Step(id wlm.StepID) *Grant { return m.steps[id] }

// Next is the number that the next step gets.
func (m *Manager) Next() wlm.StepID { return m.next }

// Restore puts back a step that was granted before a restart.
func (m *Manager) Restore(g *Grant) {
	m.hold(g)
	if g.Step < wlm.StepInteractive && g.Step >= m.next {
		m.next = g.Step + 1
	}
}

// Skip makes sure that step ids below next are not given again.
func (m *Manager) Skip(next wlm.StepID) { m.next = max(m.next, next) }

// Ask grants a step at once, or makes it wait: then both results are nil, and
// the grant comes out of a later End or Cancel. With wait not set, a step that
// would wait fails with code NodesBusy. Other errors mean that the step can
// never run within this job.
func (m *Manager) Ask(t Ticket, r Request, wait bool) (*Grant, error) {
	g, err := m.place(r)
	queued := len(m.waiting) > 0 && !r.Overlap && !r.Interactive
	if err == nil && !queued {
		m.admit(g)
		return g, nil
	}
	if err != nil && errs.CodeOf(err) != errs.NodesBusy {
		return nil, err
	}
	if !wait {
		return nil, errs.Coded("steps.Ask", errs.NodesBusy)
	}
	m.waiting = append(m.waiting, waiter{t, r})
	return nil, nil
}

// Cancel takes back a waiting request, and returns those who waited behind it.
func (m *Manager) Cancel(t Ticket) []Admitted {
	for i, w := range m.waiting {
		if w.ticket == t {
			m.waiting = append(m.waiting[:i:i], m.waiting[i+1:]...)
			return m.advance()
		}
	}
	return nil
}

// End frees a step's resources and returns who gets them.
func (m *Manager) End(id wlm.StepID) []Admitted {
	g := m.steps[id]
	if g == nil {
		return nil
	}
	delete(m.steps, id)
	if !g.Overlap {
		for _, s := range g.Shares {
			m.held[s.Index] = m.held[s.Index].AndNot(s.CPUs)
			m.mem[s.Index] -= s.Mem
			m.holdGres(&s, -1)
		}
	}
	return m.advance()
}

// advance grants waiting requests from the front, as far as they fit.
func (m *Manager) advance() (out []Admitted) {
	for len(m.waiting) > 0 {
		g, err := m.place(m.waiting[0].req)
		if err != nil {
			break
		}
		m.admit(g)
		out = append(out, Admitted{m.waiting[0].ticket, g})
		m.waiting = m.waiting[1:]
	}
	return out
}

func (m *Manager) admit(g *Grant) {
	if g.Step != wlm.StepInteractive {
		g.Step = m.next
		m.next++
	}
	m.hold(g)
}

func (m *Manager) hold(g *Grant) {
	m.steps[g.Step] = g
	if g.Overlap {
		return
	}
	for _, s := range g.Shares {
		m.held[s.Index] = m.held[s.Index].Or(s.CPUs)
		m.mem[s.Index] += s.Mem
		m.holdGres(&s, 1)
	}
}

// plan is a request with its defaults filled in.
type plan struct {
	Request
	exact    bool
	min, max int
	tasks    int
	cpt      int
	require  []int // nodes that must be part of it
	sequence []int // arbitrary: the node of each task
	allowed  []int // nodes that may be, in order
	asks     asks
}

// place finds room for a request without taking it. An error with code
// NodesBusy means that there will be room.
func (m *Manager) place(r Request) (*Grant, error) {
	p, err := m.plan(r)
	if err != nil {
		return nil, err
	}
	// Could it run if the job had nothing else to do?
	if _, err := m.pick(p, true); err != nil {
		return nil, err
	}
	nodes, err := m.pick(p, p.Overlap)
	if err != nil {
		return nil, errs.Coded("steps.place", errs.NodesBusy)
	}
	return m.grant(p, nodes), nil
}

// plan fills in the defaults and refuses what can never be.
func (m *Manager) plan(r Request) (*plan, error) {
	const op = "steps.plan"
	p := &plan{Request: r, exact: (r.Exact || r.CPUsPerTask > 0) && !r.Whole, cpt: int(max(r.CPUsPerTask, 1))}
	if r.Interactive {
		p.Overlap, p.exact = true, false
		p.MinNodes, p.MaxNodes, p.NTasks = 1, 1, 1
	}
	if err := m.filter(p); err != nil {
		return nil, err
	}
	var err error
	if p.asks, err = gresAsks(&p.Request); err != nil {
		return nil, err
	}
	switch {
	case p.NTasks > 0:
		p.tasks = int(p.NTasks)
	case p.TasksPerNode > 0:
		p.tasks = int(p.TasksPerNode) * max(int(p.MinNodes), len(p.require), 1)
		if p.MinNodes == 0 && len(p.require) == 0 {
			p.tasks = int(p.TasksPerNode) * len(p.allowed)
		}
	case p.MinNodes > 0 && m.tasks < p.MinNodes:
		p.tasks = int(p.MinNodes)
	case m.tasks > 0:
		p.tasks = int(m.tasks)
	default:
		p.tasks = len(p.allowed)
	}
	p.min, p.max = int(p.MinNodes), int(p.MaxNodes)
	if p.min == 0 {
		p.min = max(min(len(p.allowed), p.tasks), len(p.require))
		if p.max > 0 {
			p.min = min(p.min, p.max)
		}
	}
	if p.max == 0 {
		p.max = p.min
	}
	if p.min > p.tasks {
		p.min = max(p.tasks, len(p.require))
		p.max = max(p.max, p.min)
	}
	if p.min > len(p.allowed) {
		return nil, errs.Coded(op, errs.NodeConfigUnavailable, "the step asks for "+strconv.Itoa(p.min)+
			" nodes; the job has "+strconv.Itoa(len(p.allowed))+" that it may use")
	}
	p.max = min(p.max, len(p.allowed), max(p.tasks, p.min))
	return p, m.gresNever(op, p)
}

// filter finds which of the job's nodes the step must and may use.
func (m *Manager) filter(p *plan) error {
	const op = "steps.filter"
	byName := make(map[string]int, len(m.nodes))
	for i, n := range m.nodes {
		byName[string(n.Name)] = i
	}
	places := func(option, list string) (out []int, err error) {
		if list == "" {
			return nil, nil
		}
		names, err := hostlist.Expand(list)
		if err != nil {
			return nil, errs.Coded(op, errs.InvalidNodeName, option+": "+err.Error())
		}
		for _, n := range names {
			i, ok := byName[n]
			if ok {
				out = append(out, i)
			} else if option == "--nodelist" {
				return nil, errs.Coded(op, errs.NodeConfigUnavailable, "node "+n+" of --nodelist is not in the job's allocation")
			}
		}
		return out, nil
	}
	require, err := places("--nodelist", p.NodeList)
	if err != nil {
		return err
	}
	exclude, err := places("--exclude", p.Exclude)
	if err != nil {
		return err
	}
	not := make(map[int]bool)
	for _, i := range exclude {
		not[i] = true
	}
	first := 0
	if p.Relative != wlm.Unset {
		first = int(p.Relative)
		if first >= len(m.nodes) {
			return errs.Coded(op, errs.NodeConfigUnavailable, "--relative="+strconv.Itoa(first)+": the job has "+
				strconv.Itoa(len(m.nodes))+" nodes, counted from 0")
		}
	}
	in := make(map[int]bool)
	for _, i := range require {
		if not[i] {
			return errs.Coded(op, errs.NodeConfigUnavailable, "node "+string(m.nodes[i].Name)+" is in --nodelist and in --exclude")
		}
		if !in[i] {
			in[i] = true
			p.require = append(p.require, i)
		}
	}
	if strings.HasPrefix(strings.ToLower(p.Distribution), "arbitrary") {
		p.sequence = require
	}
	p.allowed = append(p.allowed, p.require...)
	for i := first; i < len(m.nodes); i++ {
		if !not[i] && !in[i] {
			p.allowed = append(p.allowed, i)
		}
	}
	if len(p.allowed) == 0 {
		return errs.Coded(op, errs.NodeConfigUnavailable, "no node of the job is left for the step")
	}
	return nil
}

// room is how many of the step's tasks a node could take. whole pretends that
// no other step runs.
func (m *Manager) room(p *plan, i int, empty bool) int {
	n := &m.nodes[i]
	free := n.CPUs
	if !empty {
		free = free.AndNot(m.held[i])
		if !p.exact && free.Count() < n.CPUs.Count() {
			return 0
		}
	}
	tasks := free.Count() / p.cpt
	if p.Overcommit && free.Count() > 0 {
		tasks = p.tasks
	}
	if p.TasksPerNode > 0 {
		tasks = min(tasks, int(p.TasksPerNode))
	}
	for tasks > 0 && !m.memoryFits(p, i, tasks, empty) {
		if p.MemPerCPU == 0 {
			return 0
		}
		tasks--
	}
	return m.gresRoom(p, i, tasks, empty)
}

// memory is what a step holds of a node's memory. Asking for all that the job
// has, as SLURM_MEM_PER_NODE makes every srun do, is no wish to be alone.
func (m *Manager) memory(p *plan, i, cpus int) wlm.MiB {
	want := p.MemPerNode
	if p.MemPerCPU > 0 {
		want = p.MemPerCPU * wlm.MiB(cpus)
	}
	if m.nodes[i].Mem == 0 || want == m.nodes[i].Mem {
		return 0
	}
	return want
}

func (m *Manager) memoryFits(p *plan, i, tasks int, empty bool) bool {
	want := m.memory(p, i, m.cpus(p, i, tasks))
	have := m.nodes[i].Mem
	if !empty {
		have -= m.mem[i]
	}
	return want == 0 || want <= have
}

// cpus is how many CPUs of a node so many tasks of the step occupy.
func (m *Manager) cpus(p *plan, i, tasks int) int {
	all := m.nodes[i].CPUs.Count()
	if !p.exact {
		return all
	}
	return min(tasks*p.cpt, all)
}

// pick chooses the nodes of a step: those it must have, then as many as it
// needs in the allocation's order.
func (m *Manager) pick(p *plan, empty bool) ([]int, error) {
	const op = "steps.pick"
	var nodes []int
	total := 0
	for k, i := range p.allowed {
		must := k < len(p.require)
		room := m.room(p, i, empty)
		if room == 0 {
			if must {
				return nil, m.tooSmall(op, p, i)
			}
			continue
		}
		if !must && len(nodes) >= p.min && (total >= p.tasks && m.gresSuffice(p, nodes, empty) || len(nodes) >= p.max) {
			break
		}
		nodes = append(nodes, i)
		total += room
	}
	switch {
	case len(nodes) < p.min:
		return nil, m.tooSmall(op, p, p.allowed[0])
	case !m.gresSuffice(p, nodes, empty):
		return nil, errs.Coded(op, errs.InvalidGres, "Insufficient GRES available in allocation")
	case total < p.tasks:
		return nil, errs.Coded(op, errs.TooManyCPUs, "the step asks for "+strconv.Itoa(p.tasks)+" tasks with "+
			strconv.Itoa(p.cpt)+" CPUs each; its nodes have room for "+strconv.Itoa(total))
	}
	if !strings.HasPrefix(strings.ToLower(p.Distribution), "arbitrary") {
		slices.Sort(nodes)
	}
	return nodes, nil
}

// tooSmall says why a node cannot take any of the step's tasks.
func (m *Manager) tooSmall(op string, p *plan, i int) error {
	n := &m.nodes[i]
	if m.gresRoom(p, i, 1, true) == 0 {
		return errs.Coded(op, errs.InvalidGres, "Insufficient GRES available in allocation")
	}
	if n.CPUs.Count() >= p.cpt {
		if want := m.memory(p, i, m.cpus(p, i, 1)); want > n.Mem {
			return errs.Coded(op, errs.InvalidMemory, "the step asks for "+strconv.FormatUint(uint64(want), 10)+
				"M on node "+string(n.Name)+"; the job has "+strconv.FormatUint(uint64(n.Mem), 10)+"M there")
		}
		return errs.Coded(op, errs.NodeConfigUnavailable)
	}
	return errs.Coded(op, errs.TooManyCPUs, "a task asks for "+strconv.Itoa(p.cpt)+" CPUs; the job has "+
		strconv.Itoa(n.CPUs.Count())+" on node "+string(n.Name))
}

// grant deals tasks and CPUs out to the nodes.
func (m *Manager) grant(p *plan, nodes []int) *Grant {
	g := &Grant{NTasks: uint32(p.tasks), CPUsPerTask: uint32(p.cpt), Overlap: p.Overlap}
	if p.Interactive {
		g.Step = wlm.StepInteractive
	}
	rooms := make([]int, len(nodes))
	for k, i := range nodes {
		rooms[k] = m.room(p, i, p.Overlap)
	}
	var ids [][]uint32
	ids, g.Dist = deal(p.tasks, rooms, p.Distribution)
	if len(p.sequence) == p.tasks {
		ids = inSequence(p.sequence, nodes)
	}
	if p.Distribution == "" && !p.exact {
		g.Dist = ""
	}
	for k, i := range nodes {
		s := Share{Index: i, TaskIDs: ids[k]}
		want := m.cpus(p, i, len(ids[k]))
		s.CPUs = m.nodes[i].CPUs
		if want < s.CPUs.Count() {
			s.CPUs = m.choose(i, want, p.Overlap)
		}
		s.Mem = m.memory(p, i, want)
		g.Shares = append(g.Shares, s)
	}
	m.dealGres(p, g)
	return g
}

// choose takes CPUs that no step holds, whole cores first. A step that
// overlaps takes others too when these do not suffice.
func (m *Manager) choose(i, want int, overlap bool) wlm.CPUSet {
	n := &m.nodes[i]
	free := n.CPUs.AndNot(m.held[i])
	threads := int(max(n.ThreadsPerCore, 1))
	var out wlm.CPUSet
	take := func(from wlm.CPUSet, ok func(cpu int) bool) {
		for c := range from.All {
			if want > 0 && !out.Has(c) && ok(c) {
				out = out.Set(c)
				want--
			}
		}
	}
	take(free, func(c int) bool {
		for t := c - c%threads; t < c-c%threads+threads; t++ {
			if n.CPUs.Has(t) && !free.Has(t) {
				return false
			}
		}
		return true
	})
	take(free, func(int) bool { return true })
	if overlap {
		take(n.CPUs, func(int) bool { return true })
	}
	return out
}

// inSequence gives the k-th task to the k-th node of a host file.
func inSequence(sequence, nodes []int) [][]uint32 {
	ids := make([][]uint32, len(nodes))
	for task, i := range sequence {
		if k := slices.Index(nodes, i); k >= 0 {
			ids[k] = append(ids[k], uint32(task))
		}
	}
	return ids
}

// Deal is how many of a step's tasks each node gets, by default, when it has
// room for so many.
func Deal(tasks int, rooms []int) []int {
	ids, _ := deal(tasks, rooms, "block")
	out := make([]int, len(ids))
	for i := range ids {
		out[i] = len(ids[i])
	}
	return out
}

// deal gives each node its tasks' global ids. How many a node gets is found by
// going round the nodes as long as they have room; the distribution only says
// which. It returns the distribution's word for the environment.
func deal(tasks int, rooms []int, distribution string) (ids [][]uint32, word string) {
	counts := make([]int, len(rooms))
	word, rest, _ := strings.Cut(strings.ToLower(distribution), ":")
	word, _, _ = strings.Cut(word, ",")
	plane := 0
	if v, ok := strings.CutPrefix(word, "plane="); ok {
		plane, _ = strconv.Atoi(v)
		word = "plane"
	}
	if word == "" || word == "*" {
		word = "block"
		if tasks <= len(rooms) {
			word = "cyclic"
		}
	}
	left := tasks
	for left > 0 {
		moved := false
		for k := range counts {
			n := min(1, left)
			if word == "plane" && plane > 0 {
				n = min(plane, left, rooms[k]-counts[k])
			}
			if n > 0 && counts[k] < rooms[k] {
				counts[k] += n
				left -= n
				moved = true
			}
		}
		if !moved { // callers checked the room; never lose a task
			counts[len(counts)-1] += left
			left = 0
		}
	}
	ids = make([][]uint32, len(rooms))
	next := uint32(0)
	switch word {
	case "cyclic", "plane":
		size := max(plane, 1)
		for next < uint32(tasks) {
			for k := range counts {
				for range size {
					if len(ids[k]) < counts[k] {
						ids[k] = append(ids[k], next)
						next++
					}
				}
			}
		}
	default:
		for k, c := range counts {
			for range c {
				ids[k] = append(ids[k], next)
				next++
			}
		}
	}
	if rest != "" {
		word += ":" + rest
	}
	return ids, word
}

// Package bind says which of a step's CPUs and GPUs on a node each of its tasks
// gets (--cpu-bind, --gpu-bind, the second and third part of --distribution).
// It is pure; slurmd asks it at each launch.
//
// CPUs are the node's abstract ones: thread by thread, core by core, socket by
// socket. [Node.Host] translates them to the kernel's numbers, which masks and
// lists of users and of the environment mean.
//
// Invariant: a task is never bound outside of the step's CPUs and devices.
// Failure modes: a list or mask outside of the step's CPUs is refused; a list
// of GPUs that names none of the step's gives the first of them, and says so.
package bind

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Node is how a node's CPUs are laid out.
type Node struct {
	Name    string
	Sockets int
	Cores   int   // of a socket
	Threads int   // of a core
	Host    []int // the kernel's number of each abstract CPU; nil: the host has other CPUs
	Width   int   // CPUs of the host, for masks; 0: those of the node
}

// socketOf and coreOf number the sockets and cores of the node.
func (n *Node) socketOf(cpu int) int { return cpu / max(n.Threads, 1) / max(n.Cores, 1) }
func (n *Node) coreOf(cpu int) int   { return cpu / max(n.Threads, 1) }

// HostSet translates abstract CPUs; what the host does not have stays as it is.
func (n *Node) HostSet(s wlm.CPUSet) (out wlm.CPUSet) {
	for c := range s.All {
		out = out.Set(n.host(c))
	}
	return out
}

func (n *Node) host(cpu int) int {
	if cpu < len(n.Host) {
		return n.Host[cpu]
	}
	return cpu
}

func (n *Node) ofHost(cpu int) int {
	if i := slices.Index(n.Host, cpu); i >= 0 {
		return i
	}
	return cpu
}

// CPURequest is what a step asks of a node's CPUs.
type CPURequest struct {
	CPUs         wlm.CPUSet // of the step
	Tasks        int        // on the node
	CPUsPerTask  int
	Bind         string // --cpu-bind
	Distribution string // --distribution
	Block        bool   // CR_CORE_DEFAULT_DIST_BLOCK
	Auto         string // TaskPluginParam's Autobind=: cores, sockets, threads; empty: none
	Verbose      bool   // TaskPluginParam's Verbose
}

// CPUs is the answer.
type CPUs struct {
	Tasks   []wlm.CPUSet // by task, abstract; nil: not bound
	Verbose bool
	word    string // in verbose lines
	kind    string // of SLURM_CPU_BIND_TYPE
	list    string // of SLURM_CPU_BIND_LIST
}

// parsed is --cpu-bind taken apart.
type parsed struct {
	verbose    bool
	kind, list string
}

func parse(text string) (p parsed) {
	for text != "" {
		word, rest, _ := strings.Cut(text, ",")
		low := strings.ToLower(word)
		switch {
		case low == "v" || low == "verbose":
			p.verbose = true
		case low == "q" || low == "quiet":
			p.verbose = false
		case strings.HasPrefix(low, "map_") || strings.HasPrefix(low, "mask_"):
			i := strings.IndexAny(text, ":=")
			if i < 0 {
				p.kind, text = low, rest
				continue
			}
			p.kind, p.list = strings.ToLower(text[:i]), text[i+1:]
			return p
		default:
			p.kind = low
		}
		text = rest
	}
	return p
}

// Bind deals the step's CPUs out.
func (n *Node) Bind(r CPURequest) (*CPUs, error) {
	p := parse(r.Bind)
	out := &CPUs{Verbose: p.verbose || r.Verbose && r.Bind == "", word: "MASK"}
	r.CPUsPerTask = max(r.CPUsPerTask, 1)
	var err error
	switch p.kind {
	case "none", "no":
		out.word, out.kind = "NONE", "none"
		return out, nil
	case "rank":
		out.word, out.kind = "RANK", p.kind
		cpus := slices.Collect(r.CPUs.All)
		for t := range r.Tasks {
			if len(cpus) > 0 {
				out.Tasks = append(out.Tasks, wlm.CPUSet{}.Set(cpus[t%len(cpus)]))
			}
		}
		return out, nil
	case "map_cpu", "mask_cpu":
		out.kind, out.list = p.kind+":", strings.ReplaceAll(p.list, "0x", "")
		if p.kind == "map_cpu" {
			out.word = "MAP "
		}
		out.Tasks, err = n.listed(p, &r, n.ofHost)
		return out, err
	case "rank_ldom", "map_ldom", "mask_ldom":
		out.kind, out.list = p.kind, strings.ReplaceAll(p.list, "0x", "")
		out.word = map[string]string{"rank_ldom": "LDRANK", "map_ldom": "LDMAP ", "mask_ldom": "LDMASK"}[p.kind]
		if p.kind != "rank_ldom" {
			out.kind += ":"
		}
		out.Tasks, err = n.ldoms(p, &r)
		return out, err
	}
	out.Tasks = n.deal(p.kind, &r)
	out.kind = "mask_cpu:"
	if p.kind == "" && n.auto(&r) == "" && len(out.Tasks) > 0 {
		out.list = n.mask(r.CPUs) // the same for all
		return out, nil
	}
	masks := make([]string, len(out.Tasks))
	for t, s := range out.Tasks {
		masks[t] = n.mask(s)
	}
	out.list = strings.Join(masks, ",")
	return out, nil
}

// deal binds to sockets, cores or threads, or to what suits the numbers.
func (n *Node) deal(kind string, r *CPURequest) []wlm.CPUSet {
	switch kind {
	case "", "autobind":
		kind = n.auto(r)
	case "boards":
		kind = ""
	case "ldoms":
		kind = "sockets"
	}
	if kind == "" {
		return slices.Repeat([]wlm.CPUSet{r.CPUs}, r.Tasks)
	}
	out := n.pick(kind, r)
	if kind == "sockets" {
		for t := range out {
			var wide wlm.CPUSet
			for c := range r.CPUs.All {
				for own := range out[t].All {
					if n.socketOf(own) == n.socketOf(c) {
						wide = wide.Set(c)
						break
					}
				}
			}
			out[t] = wide
		}
	}
	return out
}

// auto finds what there are as many of as the tasks want CPUs.
func (n *Node) auto(r *CPURequest) string {
	sockets, cores, threads := map[int]bool{}, map[int]bool{}, r.CPUs.Count()
	for c := range r.CPUs.All {
		sockets[n.socketOf(c)], cores[n.coreOf(c)] = true, true
	}
	switch want := r.Tasks * r.CPUsPerTask; want {
	case len(cores):
		return "cores"
	case len(sockets):
		return "sockets"
	case threads:
		return "threads"
	}
	return r.Auto
}

// levels are the words of a distribution for sockets and for cores.
func levels(r *CPURequest) (second, third string) {
	parts := strings.Split(strings.ToLower(r.Distribution), ":")
	word := func(i int) string {
		if i >= len(parts) {
			return ""
		}
		w, _, _ := strings.Cut(parts[i], ",")
		return strings.Trim(w, "*")
	}
	if second = word(1); second == "" {
		second = "cyclic"
		if r.Block {
			second = "block"
		}
	}
	if third = word(2); third == "" {
		third = second
	}
	return second, third
}

// pick gives each task cores or threads until it has its CPUs, going over the
// sockets as the distribution says. When all are given away, it begins again.
func (n *Node) pick(kind string, r *CPURequest) []wlm.CPUSet {
	second, third := levels(r)
	sockets := n.units(kind, third, r.CPUs)
	if len(sockets) == 0 {
		return slices.Repeat([]wlm.CPUSet{r.CPUs}, r.Tasks)
	}
	next := make([]int, len(sockets)) // the first unit of a socket that is free
	at := 0
	advance := func() bool { // to a socket with a free unit
		for range sockets {
			if next[at] < len(sockets[at]) {
				return true
			}
			at = (at + 1) % len(sockets)
		}
		return false
	}
	out := make([]wlm.CPUSet, r.Tasks)
	for t := range out {
		for out[t].Count() < r.CPUsPerTask {
			if !advance() {
				if out[t].Count() > 0 || t == 0 && out[t] != nil {
					break
				}
				clear(next)
				at = 0
				continue
			}
			out[t] = out[t].Or(sockets[at][next[at]])
			next[at]++
			if second == "fcyclic" {
				at = (at + 1) % len(sockets)
			}
		}
		if second == "cyclic" {
			at = (at + 1) % len(sockets)
		}
	}
	return out
}

// units are a socket's cores, or its threads in the order of the distribution.
func (n *Node) units(kind, third string, cpus wlm.CPUSet) (out [][]wlm.CPUSet) {
	byCore := map[int][]int{}
	var cores []int
	for c := range cpus.All {
		core := n.coreOf(c)
		if byCore[core] == nil {
			cores = append(cores, core)
		}
		byCore[core] = append(byCore[core], c)
	}
	place := map[int]int{}
	add := func(socket int, s wlm.CPUSet) {
		i, ok := place[socket]
		if !ok {
			i = len(out)
			place[socket], out = i, append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	if kind != "threads" {
		for _, core := range cores {
			var s wlm.CPUSet
			for _, c := range byCore[core] {
				s = s.Set(c)
			}
			add(n.socketOf(byCore[core][0]), s)
		}
		return out
	}
	if third == "block" {
		for c := range cpus.All {
			add(n.socketOf(c), wlm.CPUSet{}.Set(c))
		}
		return out
	}
	for thread := range max(n.Threads, 1) {
		for _, core := range cores {
			if thread < len(byCore[core]) {
				c := byCore[core][thread]
				add(n.socketOf(c), wlm.CPUSet{}.Set(c))
			}
		}
	}
	return out
}

// ErrOutside says that a list or mask names none of the step's CPUs.
//
//lint:ignore ST1005 this is Slurm's text
var ErrOutside = errors.New("Unable to satisfy cpu bind request")

// listed reads map_cpu or mask_cpu.
func (n *Node) listed(p parsed, r *CPURequest, own func(int) int) ([]wlm.CPUSet, error) {
	sets, err := sets(p.list, strings.HasPrefix(p.kind, "mask_"))
	if err != nil {
		return nil, fmt.Errorf("--cpu-bind=%s:%s: %w", p.kind, p.list, err)
	}
	out := make([]wlm.CPUSet, r.Tasks)
	for t := range out {
		for c := range sets[t%len(sets)].All {
			if a := own(c); r.CPUs.Has(a) {
				out[t] = out[t].Set(a)
			} else if p.kind == "map_cpu" {
				out[t] = nil
			}
		}
		if out[t].Count() == 0 {
			return nil, fmt.Errorf("%w: CPU binding outside of job step allocation, allocated CPUs are: %s", ErrOutside, n.mask(r.CPUs))
		}
	}
	return out, nil
}

// ldoms binds to the step's CPUs of locality domains, which are sockets here.
func (n *Node) ldoms(p parsed, r *CPURequest) ([]wlm.CPUSet, error) {
	domains := make([]wlm.CPUSet, max(n.Sockets, 1))
	for t := range domains {
		domains[t] = wlm.CPUSet{}.Set(t)
	}
	if p.kind != "rank_ldom" {
		var err error
		if domains, err = sets(p.list, p.kind == "mask_ldom"); err != nil {
			return nil, fmt.Errorf("--cpu-bind=%s:%s: %w", p.kind, p.list, err)
		}
	}
	out := make([]wlm.CPUSet, r.Tasks)
	for t := range out {
		for c := range r.CPUs.All {
			if domains[t%len(domains)].Has(n.socketOf(c)) {
				out[t] = out[t].Set(c)
			}
		}
		if out[t] == nil {
			out[t] = r.CPUs
		}
	}
	return out, nil
}

// maxNumber bounds what a list may name.
const maxNumber = 1 << 12

// sets reads a list of numbers or of hexadecimal masks; n*k stands for k times n.
func sets(list string, masks bool) (out []wlm.CPUSet, err error) {
	for item := range strings.SplitSeq(list, ",") {
		item, times, repeated := strings.Cut(item, "*")
		count := uint64(1)
		if repeated {
			if count, err = strconv.ParseUint(times, 10, 16); err != nil || count == 0 {
				return nil, fmt.Errorf("%q is not a count", times)
			}
		}
		var s wlm.CPUSet
		if masks {
			s, err = mask(item)
		} else {
			var cpu uint64
			if cpu, err = strconv.ParseUint(item, 0, 16); err == nil && cpu < maxNumber {
				s = s.Set(int(cpu))
			}
		}
		if err != nil || s.Count() == 0 {
			return nil, fmt.Errorf("%q is not a number or mask", item)
		}
		for range min(count, maxNumber) {
			out = append(out, s)
		}
	}
	return out, nil
}

func mask(text string) (s wlm.CPUSet, err error) {
	const digit = 4
	text = strings.TrimPrefix(strings.ToLower(text), "0x")
	if text == "" || len(text) > maxNumber/digit {
		return nil, strconv.ErrSyntax
	}
	for i := range len(text) {
		v, err := strconv.ParseUint(text[len(text)-1-i:len(text)-i], 16, 8)
		if err != nil {
			return nil, err
		}
		for b := range digit {
			if v>>b&1 != 0 {
				s = s.Set(i*digit + b)
			}
		}
	}
	return s, nil
}

// mask prints abstract CPUs as a mask of the host's, as wide as its CPUs are many.
func (n *Node) mask(s wlm.CPUSet) string {
	const digit = 4
	total := n.Width
	if total == 0 {
		total = n.Sockets * n.Cores * n.Threads
	}
	return "0x" + strings.ToUpper(hex(n.HostSet(s), (total+digit-1)/digit))
}

// hex prints a set as a number of at least so many digits.
func hex(s wlm.CPUSet, width int) string {
	const bits = 64
	var b strings.Builder
	for i := len(s) - 1; i >= 0; i-- {
		if b.Len() > 0 {
			fmt.Fprintf(&b, "%0*x", bits/4, s[i])
		} else if s[i] != 0 {
			fmt.Fprintf(&b, "%x", s[i])
		}
	}
	return strings.Repeat("0", max(width-b.Len(), 0)) + b.String()
}

// Note is the line that --cpu-bind=verbose writes to a task's stderr; %p stands
// for the task's process. bound says whether the kernel can be told.
func (c *CPUs) Note(n *Node, global uint32, local int, bound bool) string {
	text, outcome := "0x0", ""
	if len(c.Tasks) > local {
		text = "0x" + hex(n.HostSet(c.Tasks[local]), 1)
		if outcome = " set"; !bound {
			outcome += " FAILED"
		}
	}
	return fmt.Sprintf("cpu-bind=%s - %s, task %2d %2d [%%p]: mask %s%s", c.word, n.Name, global, local, text, outcome)
}

// Env is what tasks hear of their binding.
func (c *CPUs) Env() [][2]string {
	how := "quiet"
	if c.Verbose {
		how = "verbose"
	}
	return [][2]string{{"SLURM_CPU_BIND_VERBOSE", how}, {"SLURM_CPU_BIND_TYPE", c.kind}, {"SLURM_CPU_BIND_LIST", c.list},
		{"SLURM_CPU_BIND", how + "," + c.kind + c.list}}
}

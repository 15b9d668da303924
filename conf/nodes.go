package conf

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// maxNodes bounds the node table, so that a slip in a range is an error and
// not an empty machine.
const maxNodes = 1 << 20

// nodes expands the NodeName lines.
func (l *loader) nodes() {
	l.nodeAt = map[wlm.NodeName]int{}
	var defaults map[string]option
	for _, e := range l.nodeRecs {
		r := l.record("NodeName", e, defaults)
		if isDefault(e) {
			defaults = r.opts
			continue
		}
		if e.Value == "" {
			l.fail(e.Pos, "NodeName", "names no node; want a name or a list such as n[1-4]")
			continue
		}
		n, err := hostlist.Count(e.Value)
		if err == nil && n+len(l.cfg.Nodes) > maxNodes {
			err = fmt.Errorf("%d nodes are more than the %d that fit", n+len(l.cfg.Nodes), maxNodes)
		}
		if err != nil {
			l.fail(e.Pos, "NodeName", err.Error())
			continue
		}
		r.addNodes()
	}
}

// addNodes makes the records of one line.
func (r *record) addNodes() {
	l := r.l
	names := r.hosts("NodeName", r.name.Value)
	hosts := r.zip("NodeHostname", names, names)
	addrs := r.zip("NodeAddr", hosts, names)
	ports := r.ports(len(names))
	proto := r.proto()
	for i, name := range names {
		nn := wlm.NodeName(name)
		if at, dup := l.nodeAt[nn]; dup {
			l.fail(r.name.Pos, "NodeName", fmt.Sprintf("%s is defined at %s already", name, l.cfg.Nodes[at].Comment))
			continue
		}
		if strings.EqualFold(name, "ALL") || strings.EqualFold(name, "DEFAULT") {
			l.fail(r.name.Pos, "NodeName", name+" is a reserved word")
			continue
		}
		n := proto
		n.Name, n.Hostname, n.Addr, n.Port = nn, hosts[i], addrs[i], ports[i]
		n.Index = wlm.NodeIndex(len(l.cfg.Nodes))
		n.Comment = r.name.Pos.String() // until rules ends: for messages
		l.nodeAt[nn] = len(l.cfg.Nodes)
		l.cfg.Nodes = append(l.cfg.Nodes, n)
	}
}

// zip pairs an option's host list with the nodes: one entry for each node, or
// one for all.
func (r *record) zip(key string, def, names []string) []string {
	text := r.text(key)
	if text == "" {
		return def
	}
	list := r.hosts(key, text)
	switch len(list) {
	case len(names):
		return list
	case 0:
		return def
	case 1:
		all := make([]string, len(names))
		for i := range all {
			all[i] = list[0]
		}
		return all
	}
	r.fail(key, fmt.Sprintf("%s has %d entries for the %d nodes of %s: want one for each, or a single one",
		text, len(list), len(names), r.name.Value))
	return def
}

func (r *record) ports(n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(r.l.cfg.SlurmdPort)
	}
	text := r.text("Port")
	if text == "" {
		return all
	}
	list, err := parsePortList(text)
	switch {
	case err != nil:
		r.fail("Port", err.Error())
	case len(list) == n:
		return list
	case len(list) == 1:
		for i := range all {
			all[i] = list[0]
		}
	default:
		r.fail("Port", fmt.Sprintf("%s has %d ports for the %d nodes of %s: want one for each, or a single one",
			text, len(list), n, r.name.Value))
	}
	return all
}

// proto is what all nodes of the line share.
func (r *record) proto() wlm.Node {
	n := wlm.Node{
		RealMemory:    r.mem("RealMemory", 1),
		TmpDisk:       r.mem("TmpDisk", 0),
		Weight:        r.uint("Weight", 1),
		Features:      r.features(),
		Gres:          r.text("Gres"),
		CoreSpecCount: r.uint("CoreSpecCount", 0),
		CPUSpecList:   r.text("CPUSpecList"),
		MemSpecLimit:  r.mem("MemSpecLimit", 0),
		Reason:        r.text("Reason"),
		CPULoad:       wlm.Unset,
	}
	n.ActiveFeatures = n.Features
	r.topology(&n)
	n.State, n.Flags = nodeState(r.word("State", "UNKNOWN"))
	if strings.EqualFold(r.word("State", ""), "EXTERNAL") {
		r.l.warn(r.opts["State"].Pos, "State", "EXTERNAL nodes are treated as UNKNOWN")
	}
	if n.Reason != "" && n.Flags&(wlm.NodeDrain|wlm.NodeFailFlag) == 0 && n.State != wlm.NodeDown {
		r.l.warn(r.opts["Reason"].Pos, "Reason", "has no effect unless State is DOWN, DRAIN or FAIL")
	}
	r.gres()
	if r.has("CoreSpecCount") && r.has("CPUSpecList") {
		r.fail("CPUSpecList", "excludes CoreSpecCount; give one of them")
	}
	if cores := n.Sockets * n.CoresPerSocket; n.CoreSpecCount > 0 && n.CoreSpecCount >= cores {
		r.fail("CoreSpecCount", fmt.Sprintf("%d leaves no core of %d for jobs", n.CoreSpecCount, cores))
	}
	if n.MemSpecLimit > 0 && n.MemSpecLimit >= n.RealMemory {
		r.fail("MemSpecLimit", fmt.Sprintf("%d MiB leave no memory of %d MiB for jobs", n.MemSpecLimit, n.RealMemory))
	}
	return n
}

func (r *record) features() []string {
	var out []string
	for _, f := range r.list("Features") {
		if strings.ContainsAny(f, "&|[]()*! \t") {
			r.fail("Features", fmt.Sprintf("%q holds an operator of --constraint: want names separated by commas", f))
			continue
		}
		if !inList(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// topology applies the rules of slurm.conf(5): what is not given follows from
// the rest, and CPUs are the sockets, the cores or the threads.
func (r *record) topology(n *wlm.Node) {
	n.Boards = r.uint("Boards", 1)
	n.CoresPerSocket = r.uint("CoresPerSocket", 1)
	n.ThreadsPerCore = r.uint("ThreadsPerCore", 1)
	n.CPUs = r.uint("CPUs", 0)
	perSocket := uint64(n.CoresPerSocket) * uint64(n.ThreadsPerCore)
	switch {
	case r.has("Sockets") && r.has("SocketsPerBoard"):
		r.fail("SocketsPerBoard", "excludes Sockets; give one of them")
		n.Sockets = r.uint("Sockets", 1)
	case r.has("SocketsPerBoard"):
		n.Sockets = n.Boards * r.uint("SocketsPerBoard", 1)
	case r.has("Sockets"):
		n.Sockets = r.uint("Sockets", 1)
	case n.CPUs > 0:
		n.Sockets = max(1, uint32(uint64(n.CPUs)/perSocket))
	default:
		n.Sockets = n.Boards
	}
	if n.Sockets%n.Boards != 0 {
		r.fail("Boards", fmt.Sprintf("%d boards cannot share %d sockets evenly", n.Boards, n.Sockets))
	}
	cores := uint64(n.Sockets) * uint64(n.CoresPerSocket)
	threads := uint64(n.Sockets) * perSocket
	if threads > 65533 {
		r.fail("CPUs", fmt.Sprintf("%d sockets of %d cores of %d threads are more than 65533 CPUs", n.Sockets, n.CoresPerSocket, n.ThreadsPerCore))
		threads = 1
	}
	if n.CPUs == 0 {
		n.CPUs = uint32(threads)
	}
	if c := uint64(n.CPUs); c != threads && c != cores && c != uint64(n.Sockets) {
		r.fail("CPUs", fmt.Sprintf("%d does not fit Sockets=%d CoresPerSocket=%d ThreadsPerCore=%d: want %d sockets, %d cores or %d threads",
			n.CPUs, n.Sockets, n.CoresPerSocket, n.ThreadsPerCore, n.Sockets, cores, threads))
	}
}

// gres checks the form name[:type]:count, and the names against GresTypes.
func (r *record) gres() {
	p, _ := r.opts["Gres"].parsed.(Params)
	for _, item := range p.Items {
		parts := strings.Split(item, ":")
		last := len(parts) - 1
		if last > 0 {
			if i := strings.IndexByte(parts[last], '('); i >= 0 {
				parts[last] = parts[last][:i] // gpu:2(S:0)
			}
			for i, s := range parts {
				if i > 0 && i < last && s == "no_consume" {
					parts[i] = "_"
				}
			}
		}
		name := parts[0]
		if name == "" || last > 3 || last > 0 && parts[last] == "" {
			r.fail("Gres", fmt.Sprintf("%q is not name[:type]:count, with K, M, G or T behind a large count", item))
			continue
		}
		if !inList(r.l.cfg.GresTypes.Items, name) {
			r.fail("Gres", fmt.Sprintf("%q is not in GresTypes (%s)", name, orNone(r.l.cfg.GresTypes.Raw)))
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// nodeState reads State of NodeName and DownNodes.
func nodeState(word string) (wlm.NodeState, wlm.NodeFlags) {
	switch strings.ToUpper(word) {
	case "DOWN":
		return wlm.NodeDown, 0
	case "DRAIN":
		return wlm.NodeUnknown, wlm.NodeDrain
	case "FAIL", "FAILING":
		return wlm.NodeUnknown, wlm.NodeFailFlag
	case "FUTURE":
		return wlm.NodeFuture, 0
	case "CLOUD":
		return wlm.NodeUp, wlm.NodeCloud | wlm.NodePoweredDown
	}
	return wlm.NodeUnknown, 0
}

// nodeSets expands the NodeSet lines.
func (l *loader) nodeSets() {
	l.setAt = map[string]int{}
	for _, e := range l.setRecs {
		r := l.record("NodeSet", e, nil)
		name := e.Value
		switch {
		case name == "" || strings.EqualFold(name, "ALL") || strings.EqualFold(name, "DEFAULT"):
			l.fail(e.Pos, "NodeSet", fmt.Sprintf("%q cannot name a node set", name))
			continue
		case l.isSet(name):
			l.fail(e.Pos, "NodeSet", name+" is defined already")
			continue
		case !r.has("Feature") && !r.has("Nodes"):
			l.fail(e.Pos, "NodeSet", name+" has neither Nodes nor Feature")
		}
		if _, node := l.nodeAt[wlm.NodeName(name)]; node {
			l.fail(e.Pos, "NodeSet", name+" is also the name of a node")
		}
		set := NodeSet{Name: name, Feature: r.text("Feature")}
		in := map[wlm.NodeName]bool{}
		if r.has("Nodes") {
			for _, n := range r.known("Nodes", r.text("Nodes")) {
				in[n] = true
			}
		}
		for i := range l.cfg.Nodes {
			n := &l.cfg.Nodes[i]
			if in[n.Name] || set.Feature != "" && inList(n.Features, set.Feature) {
				set.Nodes = append(set.Nodes, n.Name)
			}
		}
		l.setAt[name] = len(l.cfg.NodeSets)
		l.cfg.NodeSets = append(l.cfg.NodeSets, set)
	}
}

func (l *loader) isSet(name string) bool { _, ok := l.setAt[name]; return ok }

// known expands a list of nodes, node sets and ALL into node names in the
// order of the node table; what does not exist is an error.
func (r *record) known(key, text string) []wlm.NodeName {
	in := make(map[wlm.NodeName]bool)
	var missing []string
	for _, part := range hostlist.Split(text) {
		if strings.EqualFold(part, "ALL") {
			for i := range r.l.cfg.Nodes {
				in[r.l.cfg.Nodes[i].Name] = true
			}
			continue
		}
		if at, ok := r.l.setAt[part]; ok {
			for _, n := range r.l.cfg.NodeSets[at].Nodes {
				in[n] = true
			}
			continue
		}
		for _, name := range r.hosts(key, part) {
			if _, ok := r.l.nodeAt[wlm.NodeName(name)]; !ok {
				missing = append(missing, name)
				continue
			}
			in[wlm.NodeName(name)] = true
		}
	}
	if len(missing) > 0 {
		what := " are neither nodes nor node sets"
		if len(missing) == 1 {
			what = " is neither a node nor a node set"
		}
		r.fail(key, hostlist.Compress(missing)+what)
	}
	out := make([]wlm.NodeName, 0, len(in))
	for i := range r.l.cfg.Nodes {
		if in[r.l.cfg.Nodes[i].Name] {
			out = append(out, r.l.cfg.Nodes[i].Name)
		}
	}
	return out
}

// downNodes applies the DownNodes lines to the nodes.
func (l *loader) downNodes() {
	var defaults map[string]option
	for _, e := range l.downRecs {
		r := l.record("DownNodes", e, defaults)
		if isDefault(e) {
			defaults = r.opts
			continue
		}
		d := DownNodes{Nodes: r.known("DownNodes", e.Value), State: strings.ToUpper(r.word("State", "DOWN")), Reason: r.text("Reason")}
		for _, name := range d.Nodes {
			n := &l.cfg.Nodes[l.nodeAt[name]]
			n.State, n.Flags = nodeState(d.State)
			if d.Reason != "" {
				n.Reason = d.Reason
			}
		}
		l.cfg.DownNodes = append(l.cfg.DownNodes, d)
	}
}

package place

import "slices"

// fit is how many tasks a node of geometry g takes, given its free cores
// (counted and as a mask), free memory, and the CPUs that the partition may
// still use there; 0 when it is not even the least that a node must be good for.
func (n *need) fit(pr *params, g *geometry, cores int32, mem int64, cpuRoom int, mask []uint64) int {
	if cores < 1 {
		return 0
	}
	var tasks int
	if n.whole {
		cpus := int(g.avail * g.threads)
		if cores < g.avail || cpus > cpuRoom || pr.memory && mem < n.memory(pr, g, cpus) {
			return 0
		}
		tasks = n.tasksIn(g, cores, mask)
	} else {
		tasks = n.partFit(pr, g, cores, mem, cpuRoom, mask)
	}
	if int(cores*g.threads) < n.minCPUs {
		return 0
	}
	if tasks = min(tasks, n.taskCap); tasks < n.taskMin {
		return 0
	}
	return tasks
}

// partFit is fit on a node that may be shared.
func (n *need) partFit(pr *params, g *geometry, cores int32, mem int64, cpuRoom int, mask []uint64) int {
	if pr.memory && (n.memNode > mem || n.memAll && mem < g.memory) {
		return 0
	}
	if pr.cpus {
		if n.memCPU > 0 && pr.memory {
			cpuRoom = int(min(int64(cpuRoom), mem/n.memCPU))
		}
		return min(n.tasksIn(g, cores, mask), cpuRoom/n.cpusPerTask)
	}
	if pr.memory && n.memCPU > 0 {
		cpuRoom = int(min(int64(cpuRoom), mem/(n.memCPU*int64(n.threadsOf(g)))*int64(g.threads)))
	}
	if room := int32(min(int64(cpuRoom)/int64(g.threads), int64(g.cores))); room < cores {
		cores = room
	}
	if int(cores*g.threads) < n.minCPUs {
		return 0
	}
	tasks := n.tasksIn(g, cores, mask)
	if pr.sockets {
		tasks = min(tasks, n.taskCap, max(n.tasks, n.perNode))
		for tasks > 0 && int(n.socketsFor(g, mask, n.coresFor(g, tasks))*g.perSocket*g.threads) > cpuRoom {
			tasks--
		}
	}
	return tasks
}

// socketsFor is at most how many sockets that many cores are dealt over.
func (n *need) socketsFor(g *geometry, mask []uint64, cores int32) int32 {
	if n.block || n.cpusPerTask > 1 {
		return min(int32(ceil(int(cores), int(max(g.perSocket, 1))))+int32(min(n.cpusPerTask-1, 1)), g.sockets, cores)
	}
	return min(cores, g.sockets)
}

// threadsOf is how many threads of a core tasks may use.
func (n *need) threadsOf(g *geometry) int32 {
	if n.threads > 0 && n.threads < g.threads {
		return n.threads
	}
	return g.threads
}

// tasksIn is how many tasks run on cores.
func (n *need) tasksIn(g *geometry, cores int32, mask []uint64) int {
	if n.perSocket == 0 || g.sockets <= 1 && n.perSocket >= unbounded {
		return n.tasksOn(g, cores)
	}
	total := 0
	for s := range g.sockets {
		free := int32(countRange(mask, s*g.perSocket, (s+1)*g.perSocket))
		total += min(n.perSocket, n.tasksOn(g, free))
	}
	return min(total, n.tasksOn(g, cores))
}

func (n *need) tasksOn(g *geometry, cores int32) int {
	if n.overcommit {
		if int(cores*n.threadsOf(g)) >= n.cpusPerTask {
			return unbounded
		}
		return 0
	}
	use := n.threadsOf(g)
	if n.perCore == 1 {
		return int(cores) / ceil(n.cpusPerTask, int(use))
	}
	tasks := int(cores*use) / n.cpusPerTask
	if n.perCore > 1 {
		tasks = min(tasks, int(cores)*n.perCore)
	}
	return tasks
}

// coresOfTasks is how many cores tasks take, the inverse of tasksOn.
func (n *need) coresOfTasks(g *geometry, tasks int) int32 {
	use := int(n.threadsOf(g))
	switch {
	case n.overcommit:
		return int32(ceil(n.cpusPerTask, use))
	case n.perCore == 1:
		return int32(tasks * ceil(n.cpusPerTask, use))
	case n.perCore > 1:
		return int32(max(ceil(tasks*n.cpusPerTask, use), ceil(tasks, n.perCore)))
	}
	return int32(ceil(tasks*n.cpusPerTask, use))
}

// coresFor is how many cores a node's tasks take, with what else is asked of
// the node.
func (n *need) coresFor(g *geometry, tasks int) int32 {
	threads := int(g.threads)
	if n.perCore == 1 {
		threads = 1
	}
	return max(n.coresOfTasks(g, tasks), int32(ceil(n.minCPUs, threads)), 1)
}

// cpusFor is how many CPUs of cores are a job's, given its tasks there.
func (n *need) cpusFor(pr *params, g *geometry, tasks int, cores int32) int {
	all := int(cores * g.threads)
	if !pr.cpus || n.whole {
		return all
	}
	if n.overcommit {
		tasks = 1
	}
	return min(max(tasks*n.cpusPerTask, n.minCPUs, int(cores)), all)
}

// memory is the memory of a node that goes with cpus of its CPUs.
func (n *need) memory(pr *params, g *geometry, cpus int) int64 {
	switch {
	case !pr.memory:
		return 0
	case n.memAll:
		return g.memory
	case n.memCPU > 0 && n.whole:
		return min(n.memCPU*int64(cpus), g.memory)
	case n.memCPU > 0 && pr.cpus:
		return n.memCPU * int64(cpus)
	case n.memCPU > 0: // threads that tasks do not use count for nothing
		return n.memCPU * int64(ceil(cpus*int(n.threadsOf(g)), int(g.threads)))
	}
	return n.memNode
}

func ceil(a, b int) int { return (a + b - 1) / b }

// cut chooses the cores for tasks on node i from those in mask, into dst,
// which is empty. The node was found to fit.
func (t *table) cut(n *need, i int32, tasks int, mask, dst []uint64) {
	g := &t.geo[i]
	full := t.full[g.off : g.off+g.words]
	want := n.coresFor(g, tasks)
	switch {
	case n.whole:
		copy(dst, full)
	case t.params.sockets:
		t.deal(n, g, mask, dst, want)
		for s := int32(0); s < g.sockets; s++ {
			if lo, hi := s*g.perSocket, (s+1)*g.perSocket; countRange(dst, lo, hi) > 0 {
				takeCores(full, dst, lo, hi, g.perSocket)
			}
		}
	case n.perSocket > 0:
		t.cutSockets(n, g, mask, dst, tasks, want)
	default:
		t.deal(n, g, mask, dst, want)
	}
}

// cutSockets takes cores of as many sockets as --ntasks-per-socket needs: the
// last of those that have any, or with block distribution one after the other,
// each as far as its tasks go.
func (t *table) cutSockets(n *need, g *geometry, mask, dst []uint64, tasks int, want int32) {
	if n.block {
		for s := int32(0); s < g.sockets && tasks > 0; s++ {
			lo, hi := s*g.perSocket, (s+1)*g.perSocket
			if here := min(tasks, n.perSocket, n.tasksOn(g, int32(countRange(mask, lo, hi)))); here > 0 {
				want -= takeCores(mask, dst, lo, hi, n.coresFor(g, here))
				tasks -= here
			}
		}
		takeCores(mask, dst, 0, g.cores, max(want, 0))
		return
	}
	some := slices.Clone(mask)
	left := tasks
	for s := g.sockets - 1; s >= 0; s-- {
		lo, hi := s*g.perSocket, (s+1)*g.perSocket
		if left <= 0 {
			clearRange(some, lo, hi)
			continue
		}
		left -= min(n.perSocket, n.tasksOn(g, int32(countRange(mask, lo, hi))))
	}
	want -= t.deal(n, g, some, dst, want)
	if want > 0 {
		takeCores(mask, dst, 0, g.cores, want)
	}
}

// deal takes want cores of mask: one socket after the other, or one of each in
// turn, such that the CPUs of a task share a socket where they fit into one. It
// returns how many it took.
func (t *table) deal(n *need, g *geometry, mask, dst []uint64, want int32) (taken int32) {
	if n.block || g.sockets == 1 || g.perSocket == 1 || want == 1 {
		return takeCores(mask, dst, 0, g.cores, want)
	}
	if n.cpusPerTask > 1 {
		for s := int32(0); s < g.sockets && taken < want; s++ {
			lo, hi := s*g.perSocket, (s+1)*g.perSocket
			here := n.tasksOn(g, int32(countRange(mask, lo, hi)))
			if n.perSocket > 0 {
				here = min(here, n.perSocket)
			}
			if here > 0 {
				taken += takeCores(mask, dst, lo, hi, min(want-taken, n.coresOfTasks(g, here)))
			}
		}
	}
	for before := int32(-1); taken < want && taken != before; {
		before = taken
		for s := int32(0); s < g.sockets && taken < want; s++ {
			taken += takeCores(mask, dst, s*g.perSocket, (s+1)*g.perSocket, 1)
		}
	}
	return taken
}

// takeCores adds up to want cores from lo up to hi that are in mask and not in
// dst, lowest first, and returns how many.
func takeCores(mask, dst []uint64, lo, hi, want int32) (taken int32) {
	for w := lo >> 6; w <= (hi-1)>>6 && lo < hi && taken < want; w++ {
		x := mask[w] &^ dst[w] & rangeOf(w, lo, hi)
		for ; x != 0 && taken < want; taken++ {
			dst[w] |= x & -x
			x &= x - 1
		}
	}
	return taken
}

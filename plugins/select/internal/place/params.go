package place

import "strings"

// params is what SelectTypeParameters says.
type params struct {
	linear  bool // whole nodes only
	sockets bool // CR_Socket: whole sockets
	cpus    bool // CR_CPU: a job is given the CPUs it asked for, though it shares no core
	memory  bool // memory is consumed
	lln     bool // least loaded nodes first
	oneTask bool // at most one task on a core
	block   bool // fill socket after socket
}

// parseParams reads SelectTypeParameters. Words it does not know are for
// others; cons_tres without any counts cores and memory.
func parseParams(s string, linear bool) params {
	p := params{linear: linear, memory: strings.TrimSpace(s) == "" && !linear}
	for _, word := range strings.Split(s, ",") {
		word = strings.ToUpper(strings.TrimSpace(word))
		switch word {
		case "CR_LLN":
			p.lln = true
		case "CR_ONE_TASK_PER_CORE":
			p.oneTask = true
		case "CR_CORE_DEFAULT_DIST_BLOCK":
			p.block = true
		case "CR_SOCKET", "CR_SOCKET_MEMORY":
			p.sockets = !linear
		case "CR_CPU", "CR_CPU_MEMORY":
			p.cpus = !linear
		}
		if strings.HasPrefix(word, "CR_") && strings.HasSuffix(word, "MEMORY") {
			p.memory = true
		}
	}
	return p
}

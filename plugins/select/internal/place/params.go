package place

import (
	"strconv"
	"strings"
)

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

// windowOf reads bf_window, in seconds; 0: no bound.
func windowOf(parameters string) int64 {
	for item := range strings.SplitSeq(parameters, ",") {
		if key, v, _ := strings.Cut(strings.ToLower(strings.TrimSpace(item)), "="); key == "bf_window" {
			if minutes, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32); err == nil && minutes > 0 {
				return minutes * 60
			}
		}
	}
	return 0
}

package main

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
	glua "github.com/yuin/gopher-lua"
)

// What Slurm's numbers mean "not set" and "no limit" by, by their width.
const (
	noVal8     = 0xfe
	noVal16    = 0xfffe
	noVal      = 0xfffffffe
	noVal64    = 0xfffffffffffffffe
	infinite   = 0xffffffff
	infinite16 = 0xffff
	infinite64 = 0xffffffffffffffff
	memPerCPU  = 0x8000000000000000
	niceOffset = 0x80000000
)

// constants are the numbers of the table slurm that scripts compare with.
var constants = map[string]float64{
	"SUCCESS": 0, "ERROR": -1, "FAILURE": -1,
	"NO_VAL": noVal, "NO_VAL8": noVal8, "NO_VAL16": noVal16, "NO_VAL64": noVal64,
	"INFINITE": infinite, "INFINITE16": infinite16, "INFINITE64": infinite64,
	"MEM_PER_CPU": memPerCPU, "NICE_OFFSET": niceOffset,
	"JOB_SHARED_NONE": 0, "JOB_SHARED_OK": 1, "JOB_SHARED_USER": 2, "JOB_SHARED_MCS": 3, "JOB_SHARED_TOPO": 4,
	"MAIL_JOB_BEGIN": 0x1, "MAIL_JOB_END": 0x2, "MAIL_JOB_FAIL": 0x4, "MAIL_JOB_REQUEUE": 0x8, "MAIL_JOB_TIME100": 0x10,
	"MAIL_JOB_TIME90": 0x20, "MAIL_JOB_TIME80": 0x40, "MAIL_JOB_TIME50": 0x80, "MAIL_JOB_STAGE_OUT": 0x100,
	"MAIL_ARRAY_TASKS": 0x200, "MAIL_INVALID_DEPEND": 0x400,
	"PARTITION_DOWN": 0x1, "PARTITION_UP": 0x3, "PARTITION_DRAIN": 0x2, "PARTITION_INACTIVE": 0x0,
	"ESLURM_INVALID_PARTITION_NAME":               float64(errs.InvalidPartition),
	"ESLURM_DEFAULT_PARTITION_NOT_SET":            float64(errs.NoDefaultPartition),
	"ESLURM_ACCESS_DENIED":                        float64(errs.AccessDenied),
	"ESLURM_JOB_MISSING_REQUIRED_PARTITION_GROUP": float64(errs.PartitionGroup),
	"ESLURM_REQUESTED_NODES_NOT_IN_PARTITION":     float64(errs.NodesNotInPartition),
	"ESLURM_TOO_MANY_REQUESTED_CPUS":              float64(errs.TooManyCPUs),
	"ESLURM_INVALID_NODE_COUNT":                   float64(errs.InvalidNodeCount),
	"ESLURM_JOB_SCRIPT_MISSING":                   float64(errs.JobScriptMissing),
	"ESLURM_USER_ID_MISSING":                      float64(errs.UserIDMissing),
	"ESLURM_PATHNAME_TOO_LONG":                    float64(errs.PathTooLong),
	"ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE":    float64(errs.NodeConfigUnavailable),
	"ESLURM_REQUESTED_PART_CONFIG_UNAVAILABLE":    float64(errs.PartConfigUnavailable),
	"ESLURM_NODES_BUSY":                           float64(errs.NodesBusy),
	"ESLURM_INVALID_NODE_NAME":                    float64(errs.InvalidNodeName),
	"ESLURM_BAD_TASK_COUNT":                       float64(errs.BadTaskCount),
	"ESLURM_INVALID_FEATURE":                      float64(errs.InvalidFeature),
	"ESLURM_INVALID_GRES":                         float64(errs.InvalidGres),
	"ESLURM_INVALID_TIME_LIMIT":                   float64(errs.InvalidTimeLimit),
	"ESLURM_DEPENDENCY":                           float64(errs.DependencyProblem),
	"ESLURM_INVALID_ACCOUNT":                      float64(errs.InvalidAccount),
	"ESLURM_INVALID_QOS":                          float64(errs.InvalidQOS),
	"ESLURM_INVALID_ARRAY":                        float64(errs.InvalidArray),
	"ESLURM_INVALID_LICENSES":                     float64(errs.InvalidLicenses),
	"ESLURM_INVALID_CPU_COUNT":                    float64(errs.InvalidCPUCount),
	"ESLURM_NOT_SUPPORTED":                        float64(errs.NotSupported),
	"ESLURM_RESERVATION_INVALID":                  float64(errs.ReservationInvalid),
	"ESLURM_INVALID_NICE":                         float64(errs.InvalidNice),
	"ESLURM_INVALID_TASK_MEMORY":                  float64(errs.InvalidMemory),
}

// levels are the log functions of the table slurm.
var levels = map[string]slog.Level{"log_error": slog.LevelError, "log_info": slog.LevelInfo, "log_verbose": slog.LevelInfo,
	"log_debug": slog.LevelDebug, "log_debug2": slog.LevelDebug, "log_debug3": slog.LevelDebug, "log_debug4": slog.LevelDebug}

// install puts the table slurm and what Lua 5.1 lacks into the state.
func (s *state) install() {
	l := s.lua
	m := l.NewTable()
	for name, v := range constants {
		m.RawSetString(name, glua.LNumber(v))
	}
	format := s.format()
	text := func(l *glua.LState) string {
		args := make([]glua.LValue, l.GetTop())
		for i := range args {
			args[i] = l.Get(i + 1)
		}
		if len(args) == 1 { // a lone text may have any % in it
			return args[0].String()
		}
		l.CallByParam(glua.P{Fn: format, NRet: 1}, args...) //nolint:errcheck // unprotected: raises in the script
		out := l.ToString(-1)
		l.Pop(1)
		return out
	}
	for name, level := range levels {
		m.RawSetString(name, l.NewFunction(func(l *glua.LState) int {
			slog.Log(l.Context(), level, "job_submit.lua says", "text", text(l))
			return 0
		}))
	}
	say := l.NewFunction(func(l *glua.LState) int {
		s.messages = append(s.messages, strings.Split(strings.TrimRight(text(l), "\n"), "\n")...)
		return 0
	})
	m.RawSetString("user_msg", say)
	m.RawSetString("log_user", say)
	l.SetGlobal("slurm", m)
	s.bit32()
	if t, ok := l.GetGlobal("table").(*glua.LTable); ok {
		t.RawSetString("unpack", l.GetGlobal("unpack"))
	}
	s.lazyPairs()
}

// format makes string.format know %u and %i, which C's printf had.
func (s *state) format() *glua.LFunction {
	lib := s.lua.GetGlobal("string")
	plain := s.lua.GetField(lib, "format")
	f := s.lua.NewFunction(func(l *glua.LState) int {
		args := []glua.LValue{glua.LString(verb.ReplaceAllString(l.CheckString(1), "${1}d"))}
		for i := 2; i <= l.GetTop(); i++ {
			args = append(args, l.Get(i))
		}
		l.CallByParam(glua.P{Fn: plain, NRet: 1}, args...) //nolint:errcheck // unprotected: raises in the script
		return 1
	})
	s.lua.SetField(lib, "format", f)
	return f
}

var verb = regexp.MustCompile(`((?:^|[^%])(?:%%)*%[-+ #0]*[0-9]*(?:\.[0-9]+)?)[ui]`)

// bit32 is that of Lua 5.2, without its shifts of fields.
func (s *state) bit32() {
	t := s.lua.NewTable()
	word := func(l *glua.LState, i int) uint32 { return uint32(int64(l.CheckNumber(i))) }
	fold := func(start uint32, f func(a, b uint32) uint32) *glua.LFunction {
		return s.lua.NewFunction(func(l *glua.LState) int {
			x := start
			for i := range l.GetTop() {
				x = f(x, word(l, i+1))
			}
			l.Push(glua.LNumber(x))
			return 1
		})
	}
	t.RawSetString("band", fold(^uint32(0), func(a, b uint32) uint32 { return a & b }))
	t.RawSetString("bor", fold(0, func(a, b uint32) uint32 { return a | b }))
	t.RawSetString("bxor", fold(0, func(a, b uint32) uint32 { return a ^ b }))
	for name, f := range map[string]func(x, by uint32) uint32{
		"bnot":   func(x, _ uint32) uint32 { return ^x },
		"lshift": func(x, by uint32) uint32 { return x << by },
		"rshift": func(x, by uint32) uint32 { return x >> by },
	} {
		t.RawSetString(name, s.lua.NewFunction(func(l *glua.LState) int {
			by := uint32(0)
			if l.GetTop() > 1 {
				by = word(l, 2)
			}
			l.Push(glua.LNumber(f(word(l, 1), by)))
			return 1
		}))
	}
	s.lua.SetGlobal("bit32", t)
}

// fill is the metamethod of tables whose contents are fetched when they are
// first looked at.
const fill = "__fill"

// lazyPairs makes pairs and next fetch such a table's contents.
func (s *state) lazyPairs() {
	for _, name := range []string{"pairs", "next"} {
		plain := s.lua.GetGlobal(name)
		s.lua.SetGlobal(name, s.lua.NewFunction(func(l *glua.LState) int {
			if f := l.GetMetaField(l.Get(1), fill); f != glua.LNil {
				l.CallByParam(glua.P{Fn: f}, l.Get(1)) //nolint:errcheck // unprotected: raises in the script
			}
			n := l.GetTop()
			l.Insert(plain, 1)
			l.Call(n, glua.MultRet)
			return l.GetTop()
		}))
	}
}

// lazy returns a table that get fills when the script first looks into it.
func (s *state) lazy(get func(into *glua.LTable) error) *glua.LTable {
	l := s.lua
	t, meta := l.NewTable(), l.NewTable()
	filled := false
	run := func(l *glua.LState) {
		if filled {
			return
		}
		filled = true
		if err := get(t); err != nil {
			l.RaiseError("%s", fmt.Sprint(err))
		}
	}
	meta.RawSetString(fill, l.NewFunction(func(l *glua.LState) int {
		run(l)
		return 0
	}))
	meta.RawSetString("__index", l.NewFunction(func(l *glua.LState) int {
		run(l)
		l.Push(t.RawGet(l.Get(2)))
		return 1
	}))
	l.SetMetatable(t, meta)
	return t
}

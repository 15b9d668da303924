package main

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/jobsubmit"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	glua "github.com/yuin/gopher-lua"
)

// desc is the job_desc of one call: a request, and what the script set in it.
type desc struct {
	spec    *wlm.Spec
	request *jobsubmit.Request
	only    map[string]bool // Modify: the fields that the request changes; others read as not set
	set     []string        // fields that the script assigned
	env     []string        // the job's environment, NAME=value
}

// field reads and writes one field of job_desc. A nil write is read-only.
type field struct {
	read  func(*wlm.Spec) glua.LValue
	write func(*wlm.Spec, glua.LValue)
}

// table is what the script gets: an empty table whose accesses come here.
func (d *desc) table(l *glua.LState) *glua.LTable {
	t, meta := l.NewTable(), l.NewTable()
	meta.RawSetString("__index", l.NewFunction(func(l *glua.LState) int {
		l.Push(d.get(l, l.CheckString(2)))
		return 1
	}))
	meta.RawSetString("__newindex", l.NewFunction(func(l *glua.LState) int {
		d.put(l, l.CheckString(2), l.Get(3))
		return 0
	}))
	l.SetMetatable(t, meta)
	return t
}

func (d *desc) get(l *glua.LState, name string) glua.LValue {
	switch name {
	case "script":
		if len(d.request.Script) == 0 {
			return glua.LNil
		}
		return glua.LString(d.request.Script)
	case "argv":
		return list(l, d.spec.Argv)
	case "environment":
		return d.environment(l)
	case "spank_job_env": // there are no SPANK plugins
		return l.NewTable()
	}
	f, ok := fields[name]
	if !ok {
		return glua.LNil
	}
	if d.only != nil && !d.only[name] && !slices.Contains(d.set, name) {
		return f.read(&wlm.Spec{Priority: wlm.Unset, CoreSpec: wlm.Unset})
	}
	return f.read(d.spec)
}

func (d *desc) put(l *glua.LState, name string, v glua.LValue) {
	f := fields[name]
	if f.read != nil && d.get(l, name) == v {
		return // written back as it was read, which a float may have rounded
	}
	if f.write == nil {
		slog.Error("job_submit.lua assigns a field of job_desc that cannot be set", "field", name, "value", v.String())
		return
	}
	f.write(d.spec, v)
	if !slices.Contains(d.set, name) {
		d.set = append(d.set, name)
	}
}

// environment is the job's: its entries are read and assigned by name, nil
// removes one. As in Slurm, it cannot be walked through.
func (d *desc) environment(l *glua.LState) *glua.LTable {
	find := func(name string) int {
		return slices.IndexFunc(d.env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	t, meta := l.NewTable(), l.NewTable()
	meta.RawSetString("__index", l.NewFunction(func(l *glua.LState) int {
		name := l.CheckString(2)
		if i := find(name); i >= 0 {
			l.Push(glua.LString(d.env[i][len(name)+1:]))
			return 1
		}
		l.Push(glua.LNil)
		return 1
	}))
	meta.RawSetString("__newindex", l.NewFunction(func(l *glua.LState) int {
		name, v := l.CheckString(2), l.Get(3)
		if d.only != nil || name == "" || strings.ContainsAny(name, "=\x00") {
			slog.Error("job_submit.lua assigns what cannot be set of an environment", "name", name)
			return 0
		}
		i := find(name)
		switch text := name + "=" + v.String(); {
		case v == glua.LNil && i < 0:
		case v == glua.LNil:
			d.env = slices.Delete(d.env, i, i+1)
		case i < 0:
			d.env = append(d.env, text)
		default:
			d.env[i] = text
		}
		return 0
	}))
	l.SetMetatable(t, meta)
	return t
}

// list is a table as Slurm makes it of a C array: from 0.
func list(l *glua.LState, words []string) *glua.LTable {
	t := l.NewTable()
	for i, w := range words {
		t.RawSet(glua.LNumber(i), glua.LString(w))
	}
	return t
}

// number reads a number for a field; what is no number, or "not set" in 32 or 64
// bits, is ok=false.
func number(v glua.LValue) (n float64, ok bool) {
	x, is := v.(glua.LNumber)
	if s, text := v.(glua.LString); text {
		if y, err := parseNumber(string(s)); err == nil {
			x, is = y, true
		}
	}
	n = float64(x)
	return n, is && n >= 0 && n != noVal && n < noVal64
}

func text(at func(*wlm.Spec) *string) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue { return orNil(*at(s)) },
		write: func(s *wlm.Spec, v glua.LValue) {
			*at(s) = ""
			if v != glua.LNil {
				*at(s) = v.String()
			}
		},
	}
}

func orNil(s string) glua.LValue {
	if s == "" {
		return glua.LNil
	}
	return glua.LString(s)
}

// count is a number that is 0 when it was not given; unset is what Lua sees then.
func count(at func(*wlm.Spec) *uint32, unset float64) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue {
			if n := *at(s); n != 0 && n != wlm.Unset {
				return glua.LNumber(n)
			}
			return glua.LNumber(unset)
		},
		write: func(s *wlm.Spec, v glua.LValue) {
			n, ok := number(v)
			if !ok || n == unset || n > infinite {
				n = 0
			}
			*at(s) = uint32(n)
		},
	}
}

func flag(at func(*wlm.Spec) *bool, unset float64) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue {
			if *at(s) {
				return glua.LNumber(1)
			}
			return glua.LNumber(unset)
		},
		write: func(s *wlm.Spec, v glua.LValue) {
			n, ok := number(v)
			*at(s) = ok && n != 0 && n != unset || v == glua.LTrue
		},
	}
}

func tristate(at func(*wlm.Spec) *wlm.Tristate) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue {
			switch *at(s) {
			case wlm.Yes:
				return glua.LNumber(1)
			case wlm.No:
				return glua.LNumber(0)
			}
			return glua.LNumber(noVal16)
		},
		write: func(s *wlm.Spec, v glua.LValue) {
			n, ok := number(v)
			ok = ok && n != noVal16
			switch {
			case v == glua.LTrue || ok && n != 0:
				*at(s) = wlm.Yes
			case v == glua.LFalse || ok:
				*at(s) = wlm.No
			default:
				*at(s) = wlm.Unsaid
			}
		},
	}
}

func when(at func(*wlm.Spec) *wlm.Time) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue { return glua.LNumber(*at(s)) },
		write: func(s *wlm.Spec, v glua.LValue) {
			n, _ := number(v)
			*at(s) = wlm.Time(n)
		},
	}
}

func minutes(at func(*wlm.Spec) *wlm.Minutes) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue { return orNoVal(*at(s)) },
		write: func(s *wlm.Spec, v glua.LValue) {
			n, ok := number(v)
			switch {
			case !ok:
				*at(s) = 0
			case n >= infinite:
				*at(s) = wlm.Unlimited
			default:
				*at(s) = wlm.Minutes(n)
			}
		},
	}
}

func readOnly(read func(*wlm.Spec) glua.LValue) field { return field{read: read} }

// memory is per node or per CPU: setting one clears the other.
func memory(at, other func(*wlm.Spec) *wlm.MiB) field {
	return field{
		read: func(s *wlm.Spec) glua.LValue {
			if *at(s) == 0 {
				return glua.LNil
			}
			return glua.LNumber(*at(s))
		},
		write: func(s *wlm.Spec, v glua.LValue) {
			n, ok := number(v)
			if !ok {
				*at(s) = 0
				return
			}
			*at(s), *other(s), s.MemAll = wlm.MiB(n), 0, false
		},
	}
}

func perNode(s *wlm.Spec) *wlm.MiB { return &s.MemPerNode }
func perCPU(s *wlm.Spec) *wlm.MiB  { return &s.MemPerCPU }

// coreSpec is Unset when it was not given, since 0 says something.
var coreSpec = field{
	read: func(s *wlm.Spec) glua.LValue {
		if s.CoreSpec == wlm.Unset {
			return glua.LNumber(noVal16)
		}
		return glua.LNumber(s.CoreSpec)
	},
	write: func(s *wlm.Spec, v glua.LValue) {
		s.CoreSpec = wlm.Unset
		if n, ok := number(v); ok && n < noVal16 {
			s.CoreSpec = uint32(n)
		}
	},
}

// rawMemory is pn_min_memory: MiB for each node, or with MEM_PER_CPU for each CPU.
var rawMemory = field{
	read: func(s *wlm.Spec) glua.LValue {
		switch {
		case s.MemPerCPU != 0:
			return glua.LNumber(memPerCPU) + glua.LNumber(s.MemPerCPU)
		case s.MemAll:
			return glua.LNumber(0)
		case s.MemPerNode != 0:
			return glua.LNumber(s.MemPerNode)
		}
		return glua.LNumber(noVal64)
	},
	write: func(s *wlm.Spec, v glua.LValue) {
		n, ok := number(v)
		s.MemPerNode, s.MemPerCPU, s.MemAll = 0, 0, ok && n == 0
		switch {
		case !ok:
		case n >= memPerCPU:
			s.MemPerCPU = wlm.MiB(n - memPerCPU)
		default:
			s.MemPerNode = wlm.MiB(n)
		}
	},
}

// mailBits are the words of --mail-type in the order of Slurm's bits.
var mailBits = []string{"BEGIN", "END", "FAIL", "REQUEUE", "TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "STAGE_OUT",
	"ARRAY_TASKS", "INVALID_DEPEND"}

const mailAll = 0x1 | 0x2 | 0x4 | 0x8 | 0x100 | 0x400

var mailType = field{
	read: func(s *wlm.Spec) glua.LValue {
		bits := 0
		for w := range strings.SplitSeq(strings.ToUpper(s.MailType), ",") {
			if w == "ALL" {
				bits |= mailAll
			}
			if i := slices.Index(mailBits, w); i >= 0 {
				bits |= 1 << i
			}
		}
		return glua.LNumber(bits)
	},
	write: func(s *wlm.Spec, v glua.LValue) {
		n, _ := number(v)
		var words []string
		for i, w := range mailBits {
			if uint64(n)>>i&1 == 1 {
				words = append(words, w)
			}
		}
		s.MailType = strings.Join(words, ",")
	},
}

// shares are Slurm's numbers of wlm.Exclusivity.
var shares = map[wlm.Exclusivity]float64{wlm.ShareDefault: noVal16, wlm.ShareNever: 0, wlm.ShareAllow: 1, wlm.ShareUser: 2, wlm.ShareMCS: 3, wlm.ShareTopo: 4}

var shared = field{
	read: func(s *wlm.Spec) glua.LValue { return glua.LNumber(shares[s.Share]) },
	write: func(s *wlm.Spec, v glua.LValue) {
		s.Share = wlm.ShareDefault
		n, ok := number(v)
		for share, x := range shares {
			if ok && x == n {
				s.Share = share
			}
		}
	},
}

var nice = field{
	read: func(s *wlm.Spec) glua.LValue {
		if s.Nice == 0 {
			return glua.LNumber(noVal)
		}
		return glua.LNumber(niceOffset + float64(s.Nice))
	},
	write: func(s *wlm.Spec, v glua.LValue) {
		s.Nice = 0
		if n, ok := number(v); ok {
			s.Nice = int32(min(max(n-niceOffset, -(1<<31)), 1<<31-1))
		}
	},
}

var priority = field{
	read: func(s *wlm.Spec) glua.LValue {
		if s.Hold {
			return glua.LNumber(0)
		}
		if s.Priority == wlm.Unset {
			return glua.LNumber(noVal)
		}
		return glua.LNumber(s.Priority)
	},
	write: func(s *wlm.Spec, v glua.LValue) {
		n, ok := number(v)
		s.Hold, s.Priority = ok && n == 0, wlm.Unset
		if ok && n > 0 && n < noVal {
			s.Priority = uint32(n)
		}
	},
}

var partition = field{
	read: func(s *wlm.Spec) glua.LValue { return orNil(strings.Join(s.Partitions, ",")) },
	write: func(s *wlm.Spec, v glua.LValue) {
		s.Partitions = nil
		if v != glua.LNil {
			s.Partitions = strings.FieldsFunc(v.String(), func(r rune) bool { return r == ',' })
		}
	},
}

// minNodes also moves an exact count: --nodes=2 is both bounds.
var minNodes = field{
	read: func(s *wlm.Spec) glua.LValue { return orNoVal(s.MinNodes) },
	write: func(s *wlm.Spec, v glua.LValue) {
		n, ok := number(v)
		if !ok {
			n = 0
		}
		s.MinNodes, s.NodeSizes = uint32(min(n, infinite)), ""
		if s.MaxNodes != 0 {
			s.MaxNodes = max(s.MaxNodes, s.MinNodes)
		}
	},
}

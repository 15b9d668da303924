package conf

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Forever is a duration without end, where a key allows UNLIMITED or INFINITE.
const Forever time.Duration = math.MaxInt64

// Infinite is a count without bound.
const Infinite uint32 = math.MaxUint32

// infinite is what parsers return for UNLIMITED.
const infinite uint64 = math.MaxUint64

// Params is a comma-separated value: flags, and options with values. Names
// have no case. The zero Params is empty.
type Params struct {
	Raw   string   // as written
	Items []string // as written, in order
	m     map[string]string
}

// ParseParams splits s at commas.
func ParseParams(s string) Params {
	p := Params{Raw: s}
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		p.Items = append(p.Items, item)
		if p.m == nil {
			p.m = map[string]string{}
		}
		name, value, _ := strings.Cut(item, "=")
		p.m[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return p
}

// Has reports whether the flag or option is given.
func (p Params) Has(name string) bool { _, ok := p.m[strings.ToLower(name)]; return ok }

// Get returns an option's value.
func (p Params) Get(name string) (string, bool) { v, ok := p.m[strings.ToLower(name)]; return v, ok }

// Int returns an option's number, def when it is not given or not a number.
func (p Params) Int(name string, def int) int {
	if n, err := strconv.Atoi(p.m[strings.ToLower(name)]); err == nil {
		return n
	}
	return def
}

// Map returns a copy as a map from lower-case names to values; a flag's value
// is empty.
func (p Params) Map() map[string]string {
	m := make(map[string]string, len(p.m))
	for k, v := range p.m {
		m[k] = v
	}
	return m
}

// Level is how much a daemon logs, in Slurm's scale.
type Level uint8

// The log levels.
const (
	Quiet Level = iota
	Fatal
	Error
	Info
	Verbose
	Debug
	Debug2
	Debug3
	Debug4
	Debug5
)

var levels = []string{"quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5"}

// String is Slurm's word.
func (l Level) String() string {
	if int(l) < len(levels) {
		return levels[l]
	}
	return "?"
}

// Slog is the least severe level of package slog that l lets through.
func (l Level) Slog() slog.Level {
	switch {
	case l == Quiet:
		return slog.LevelError + 4
	case l <= Error:
		return slog.LevelError
	case l == Info:
		return slog.LevelInfo
	case l == Verbose:
		return slog.LevelInfo - 2
	}
	return slog.LevelDebug - slog.Level(l-Debug)
}

// ParseLevel reads a level's word, or its number 0 to 9.
func ParseLevel(s string) (Level, error) {
	for i, w := range levels {
		if strings.EqualFold(s, w) || s == strconv.Itoa(i) {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not a log level: allowed are %s, or 0 to 9", s, strings.Join(levels, ", "))
}

// PortRange is one port or several neighbours. Zero is "any".
type PortRange struct{ First, Last uint16 }

// String prints first-last, or the one port.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ExitCodes is a set of exit codes from 0 to 255.
type ExitCodes [4]uint64

// Has reports whether code is in the set.
func (s *ExitCodes) Has(code int) bool {
	return code >= 0 && code < 256 && s[code/64]&(1<<(code%64)) != 0
}

// License is a counted name of Licenses.
type License struct {
	Name  string
	Count uint32
}

// SelectParams is SelectTypeParameters, taken apart.
type SelectParams struct {
	Raw              string
	CPU              bool // CR_CPU*
	Core             bool // CR_Core*
	Socket           bool // CR_Socket*
	Memory           bool // CR_*Memory
	OneTaskPerCore   bool
	LLN              bool
	PackNodes        bool
	DefaultDistBlock bool
}

func selectParams(p Params) SelectParams {
	s := SelectParams{Raw: strings.ToUpper(p.Raw)}
	for _, item := range p.Items {
		switch item := strings.ToUpper(item); item {
		case "CR_ONE_TASK_PER_CORE":
			s.OneTaskPerCore = true
		case "CR_LLN":
			s.LLN = true
		case "CR_PACK_NODES":
			s.PackNodes = true
		case "CR_CORE_DEFAULT_DIST_BLOCK":
			s.DefaultDistBlock = true
		case "CR_MEMORY":
			s.Memory = true
		default:
			base, mem := strings.CutSuffix(item, "_MEMORY")
			s.Memory = s.Memory || mem
			s.CPU = s.CPU || base == "CR_CPU"
			s.Core = s.Core || base == "CR_CORE"
			s.Socket = s.Socket || base == "CR_SOCKET"
		}
	}
	return s
}

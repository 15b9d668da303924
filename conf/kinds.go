package conf

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// parse reads a value as the key's kind says. Its errors say what is wrong
// and what is allowed; the caller adds file, line and key.
func (k *Key) parse(s string) (any, error) {
	switch k.Kind {
	case "bool":
		return parseBool(s)
	case "uint":
		return k.parseUint(s)
	case "float":
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f < 0 || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, fmt.Errorf("%q is not a number of at least 0", s)
		}
		return f, nil
	case "enum":
		return oneOf(s, strings.Split(k.Arg, ","))
	case "flags":
		return k.parseFlags(s)
	case "debugflags":
		return parseDebugFlags(s)
	case "list", "params":
		return ParseParams(s), nil
	case "level":
		return ParseLevel(s)
	case "span":
		return parseSpan(s)
	case "minutes":
		return parseMinutes(s)
	case "mem":
		return parseMem(s)
	case "ports":
		return parsePorts(s)
	case "exitcodes":
		return parseExitCodes(s)
	case "path":
		if k.Arg == "abs" && s != "" && s[0] != '/' {
			return nil, fmt.Errorf("%q is not an absolute path", s)
		}
		return s, nil
	case "plugin":
		return pluginName(k.Arg, s)
	case "plugins":
		return pluginNames(k.Arg, s)
	case "oversub":
		return parseOverSub(s)
	}
	return s, nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "1", "up", "on":
		return true, nil
	case "no", "false", "0", "down", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is not a truth value: allowed are yes and no, true and false, 1 and 0", s)
}

func isInfinite(s string) bool {
	return strings.EqualFold(s, "UNLIMITED") || strings.EqualFold(s, "INFINITE")
}

// parseUint reads a number within the range of Arg, "lo..hi" with "+inf" if
// UNLIMITED is allowed.
func (k *Key) parseUint(s string) (uint64, error) {
	span, inf := strings.CutSuffix(k.Arg, "+inf")
	if inf && (isInfinite(s) || s == "-1") {
		return infinite, nil
	}
	low, high, _ := strings.Cut(span, "..")
	lo, _ := strconv.ParseUint(low, 10, 64)
	hi, err := strconv.ParseUint(high, 10, 64)
	if err != nil {
		hi = math.MaxInt64
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil && n >= lo && n <= hi {
		return n, nil
	}
	allowed := fmt.Sprintf("a whole number from %d to %d", lo, hi)
	if hi == math.MaxInt64 {
		allowed = fmt.Sprintf("a whole number of at least %d", lo)
	}
	if k.Unit != "" {
		allowed += " (" + k.Unit + ")"
	}
	if inf {
		allowed += " or UNLIMITED"
	}
	return 0, fmt.Errorf("%q is not allowed: want %s", s, allowed)
}

// oneOf finds s among words, in any case, and returns the word's spelling.
func oneOf(s string, words []string) (string, error) {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return w, nil
		}
	}
	hint := ""
	if n := nearest(s, append([]string(nil), words...)); n != "" && len(s) > 1 {
		hint = "; did you mean " + n + "?"
	}
	return "", fmt.Errorf("%q is not allowed: want one of %s%s", s, strings.Join(words, ", "), hint)
}

func (k *Key) parseFlags(s string) (Params, error) {
	p := ParseParams(s)
	words := strings.Split(k.Arg, ",")
	for _, item := range p.Items {
		if _, err := oneOf(item, words); err != nil {
			return p, err
		}
	}
	return p, nil
}

// parseDebugFlags reads names, each perhaps with + or - before it.
func parseDebugFlags(s string) (Params, error) {
	p := ParseParams(s)
	var words []string
	for _, k := range Keys() {
		if k.Section == "DebugFlags" {
			words = append(words, k.Name)
		}
	}
	for _, item := range p.Items {
		if strings.EqualFold(item, "none") || strings.EqualFold(item, "NO_CONF_HASH") {
			continue
		}
		if _, err := oneOf(strings.TrimLeft(item, "+-"), words); err != nil {
			return p, err
		}
	}
	return p, nil
}

// parseSpan reads a time in the forms of sbatch(1) --time. A plain number is
// minutes; -1 and UNLIMITED are Forever.
func parseSpan(s string) (time.Duration, error) {
	n, err := wlm.ParseSeconds(s)
	switch {
	case err != nil:
		return 0, err
	case n == wlm.UnlimitedSeconds:
		return Forever, nil
	}
	return time.Duration(n) * time.Second, nil
}

// parseMinutes reads a limit; part of a minute counts as one.
func parseMinutes(s string) (wlm.Minutes, error) {
	if strings.EqualFold(s, "NONE") {
		return 0, nil
	}
	d, err := parseSpan(s)
	if err != nil {
		return 0, err
	}
	if d == Forever {
		return wlm.Unlimited, nil
	}
	return wlm.Minutes((d + time.Minute - 1) / time.Minute), nil
}

// maxMem bounds an amount of memory, so that sums over a cluster fit.
const maxMem wlm.MiB = 1 << 40

// parseMem reads MiB, or a number with K, M, G or T behind it. UNLIMITED is 0,
// as it is for Slurm.
func parseMem(s string) (wlm.MiB, error) {
	if isInfinite(s) {
		return 0, nil
	}
	m, err := wlm.ParseMiB(s)
	if err == nil && m > maxMem {
		return 0, fmt.Errorf("memory size %q is too large", s)
	}
	return m, err
}

func parsePorts(s string) (PortRange, error) {
	first, last, ranged := strings.Cut(s, "-")
	if !ranged {
		last = first
	}
	lo, err1 := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || (lo == 0) != (hi == 0) || lo > hi {
		return PortRange{}, fmt.Errorf("%q is not a port or a rising range of ports from 1 to 65535", s)
	}
	return PortRange{uint16(lo), uint16(hi)}, nil
}

func parseExitCodes(s string) (ExitCodes, error) {
	var set ExitCodes
	for _, item := range ParseParams(s).Items {
		first, last, ranged := strings.Cut(item, "-")
		if !ranged {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 8)
		hi, err2 := strconv.ParseUint(last, 10, 8)
		if err1 != nil || err2 != nil || lo > hi {
			return set, fmt.Errorf("%q is not an exit code or a rising range of exit codes from 0 to 255", item)
		}
		for c := lo; c <= hi; c++ {
			set[c/64] |= 1 << (c % 64)
		}
	}
	return set, nil
}

// pluginName returns kind/name for name or kind/name, and nothing for none.
func pluginName(kind, s string) (string, error) {
	prefix, name, has := strings.Cut(s, "/")
	if !has {
		prefix, name = kind, s
	}
	if prefix != kind || strings.Contains(name, "/") || name == "" && s != "" {
		return "", fmt.Errorf("%q is not a plugin of this kind: want %s/<name>", s, kind)
	}
	if name == "" || strings.EqualFold(name, "none") {
		return "", nil
	}
	return kind + "/" + name, nil
}

func pluginNames(kind, s string) ([]string, error) {
	var out []string
	for _, item := range ParseParams(s).Items {
		name, err := pluginName(kind, item)
		if err != nil {
			return nil, err
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return out, nil
}

// overSub is a partition's OverSubscribe with its count.
type overSub struct {
	mode  wlm.OverSub
	count uint32
}

// defaultOverSub is how many jobs share a resource when YES and FORCE do not say.
const defaultOverSub = 4

func parseOverSub(s string) (overSub, error) {
	word, count, has := strings.Cut(s, ":")
	o := overSub{count: defaultOverSub}
	switch strings.ToUpper(word) {
	case "NO":
		o = overSub{wlm.OverSubNo, 1}
	case "EXCLUSIVE":
		o = overSub{wlm.OverSubExclusive, 0}
	case "YES":
		o.mode = wlm.OverSubYes
	case "FORCE":
		o.mode = wlm.OverSubForce
	default:
		return o, fmt.Errorf("%q is not allowed: want NO, EXCLUSIVE, YES[:count] or FORCE[:count]", s)
	}
	if !has {
		return o, nil
	}
	n, err := strconv.ParseUint(count, 10, 15)
	if err != nil || n == 0 || o.mode == wlm.OverSubNo || o.mode == wlm.OverSubExclusive {
		return o, fmt.Errorf("%q is not allowed: only YES and FORCE take a count, from 1 to 32767", s)
	}
	o.count = uint32(n)
	return o, nil
}

// parsePortList reads ports for a list of nodes: "7001", "7001-7004",
// "[7001-7004]", "7001,7005-7007".
func parsePortList(s string) ([]uint32, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if in, ok := strings.CutSuffix(inner, "]"); ok {
			s = in
		}
	}
	var out []uint32
	for item := range strings.SplitSeq(s, ",") {
		r, err := parsePorts(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		if r.First == 0 {
			return nil, fmt.Errorf("%q is not a port from 1 to 65535", item)
		}
		for p := uint32(r.First); p <= uint32(r.Last); p++ {
			out = append(out, p)
		}
	}
	return out, nil
}

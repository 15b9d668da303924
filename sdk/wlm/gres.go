package wlm

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/hostlist"
)

// MaxGresDevices is how many devices of one name a node may have.
const MaxGresDevices = 64

// GresCount is an amount of a generic resource: gpu:a100:2.
type GresCount struct {
	Name  string
	Type  string // empty: any
	Count uint64
}

// String prints the amount as --gres takes it.
func (g GresCount) String() string {
	if g.Type != "" {
		return fmt.Sprintf("%s:%s:%d", g.Name, g.Type, g.Count)
	}
	return fmt.Sprintf("%s:%d", g.Name, g.Count)
}

// ParseGres reads a node's Gres or a request: name[:type][:count] separated by
// commas, with "gres/" before it or not, "=" for the last ":" or not, and K, M,
// G, T or P behind a count. What stands in parentheses is left aside, and so is
// what begins with another kind ("license/").
func ParseGres(s string) ([]GresCount, error) {
	var out []GresCount
	for s != "" {
		item := s
		depth := 0
		if i := strings.IndexFunc(s, func(r rune) bool {
			switch r {
			case '(':
				depth++
			case ')':
				depth--
			}
			return r == ',' && depth <= 0
		}); i >= 0 {
			item, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		item, _, _ = strings.Cut(strings.TrimSpace(item), "(")
		item = strings.TrimPrefix(item, "gres/")
		if item == "" || strings.Contains(item, "/") {
			continue
		}
		parts := strings.Split(strings.Replace(item, "=", ":", 1), ":")
		g := GresCount{Name: parts[0], Count: 1}
		rest := parts[1:]
		if n := len(rest); n > 0 {
			if count, ok := gresNumber(rest[n-1]); ok {
				g.Count, rest = count, rest[:n-1]
			}
		}
		if len(rest) == 1 {
			g.Type = rest[0]
		}
		if g.Name == "" || len(rest) > 1 || len(rest) == 1 && g.Type == "" {
			return nil, fmt.Errorf("%q is not name[:type][:count]", clip(item))
		}
		out = append(out, g)
	}
	return out, nil
}

func gresNumber(s string) (uint64, bool) {
	shift := 0
	if n := len(s); n > 1 {
		if i := strings.IndexByte("KMGTP", s[n-1]&^0x20); i >= 0 {
			s, shift = s[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n << shift, err == nil && bits.Len64(n)+shift < 64
}

// GresGroup is a line of gres.conf as it applies to one node.
type GresGroup struct {
	Name, Type string
	Count      uint64
	Files      []string // one for each device, several joined by [FileSeparator]; nil: only counted
	Cores      CPUSet   // cores near the devices, by number; nil: all are
	Links      string
	Flags      string
}

// String prints the group as [ParseGresGroups] reads it.
func (g *GresGroup) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Name=%s", g.Name)
	add := func(key, value string) {
		if value != "" {
			b.WriteString(" " + key + "=" + value)
		}
	}
	add("Type", g.Type)
	add("Count", strconv.FormatUint(g.Count, 10))
	add("File", strings.Join(g.Files, ","))
	add("Cores", g.Cores.String())
	add("Links", g.Links)
	add("Flags", g.Flags)
	return b.String()
}

// ParseGresGroups reads groups separated by semicolons.
func ParseGresGroups(s string) ([]GresGroup, error) {
	var out []GresGroup
	for line := range strings.SplitSeq(s, ";") {
		g := GresGroup{}
		for word := range strings.FieldsSeq(line) {
			key, value, _ := strings.Cut(word, "=")
			var err error
			switch key {
			case "Name":
				g.Name = value
			case "Type":
				g.Type = value
			case "Count":
				g.Count, err = strconv.ParseUint(value, 10, 63)
			case "File":
				g.Files, err = hostlist.Expand(value)
			case "Cores":
				g.Cores, err = ParseCPUSet(value)
			case "Links":
				g.Links = value
			case "Flags":
				g.Flags = value
			}
			if err != nil {
				return nil, fmt.Errorf("%s=%s: %v", key, clip(value), err)
			}
		}
		if g.Name != "" {
			out = append(out, g)
		}
	}
	return out, nil
}

// GresPool is all of one name on a node. Devices are numbered over the groups;
// a pool without devices is counted only.
type GresPool struct {
	Name    string
	Count   uint64
	Types   []GresCount // amounts by type, in the order of the configuration
	Devices []GresDevice
	Shared  uint64 // shares of each device, where jobs share devices (shard, mps); 0: they do not
}

// GresDevice is one device of a pool.
type GresDevice struct {
	Type  string
	File  string // several are joined by [FileSeparator]
	Cores CPUSet // nil: all are near
	Flags string // of gres.conf
}

// FileSeparator stands between the files of one device (MultipleFiles).
const FileSeparator = "|"

// sharesOf says which names are shares of the devices of another.
func sharesGPU(name string) bool { return name == "shard" || name == "mps" }

// NodeGres works out what a node has from Gres of slurm.conf and its lines of
// gres.conf.
func NodeGres(gres, conf string) ([]GresPool, error) {
	counts, err := ParseGres(gres)
	if err != nil {
		return nil, err
	}
	groups, err := ParseGresGroups(conf)
	if err != nil {
		return nil, err
	}
	var pools []GresPool
	pool := func(name string) *GresPool {
		i := slices.IndexFunc(pools, func(p GresPool) bool { return p.Name == name })
		if i < 0 {
			i, pools = len(pools), append(pools, GresPool{Name: name})
		}
		return &pools[i]
	}
	for _, c := range counts {
		p := pool(c.Name)
		p.Count += c.Count
		if c.Type != "" {
			p.Types = append(p.Types, c)
		}
		left := c.Count
		for i := range groups {
			g := &groups[i]
			if g.Name != c.Name || c.Type != "" && g.Type != c.Type {
				continue
			}
			for _, f := range g.Files {
				if left > 0 && len(p.Devices) < MaxGresDevices {
					p.Devices = append(p.Devices, GresDevice{g.Type, f, g.Cores, g.Flags})
					left--
				}
			}
		}
	}
	gpu := slices.IndexFunc(pools, func(p GresPool) bool { return p.Name == "gpu" })
	for i := range pools {
		if p := &pools[i]; sharesGPU(p.Name) && gpu >= 0 && len(pools[gpu].Devices) > 0 {
			p.Devices = pools[gpu].Devices
			p.Shared = p.Count / uint64(len(p.Devices))
		}
	}
	return pools, nil
}

// GresUse is what a job has of one name and type on a node.
type GresUse struct {
	Name    string
	Type    string
	Count   uint64
	Devices CPUSet // indexes; nil: only counted
}

// FormatGresUse prints uses as scontrol show job -d does:
// gpu:a:2(IDX:0-1),bw(CNT:60).
func FormatGresUse(uses []GresUse) string {
	var b strings.Builder
	for i, u := range uses {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(u.Name)
		if u.Type != "" {
			b.WriteString(":" + u.Type)
		}
		if u.Devices == nil {
			fmt.Fprintf(&b, "(CNT:%d)", u.Count)
			continue
		}
		fmt.Fprintf(&b, ":%d(IDX:%s)", u.Count, u.Devices)
	}
	return b.String()
}

// ParseGresUse reads what [FormatGresUse] prints.
func ParseGresUse(s string) ([]GresUse, error) {
	var out []GresUse
	for s != "" {
		head, rest, ok := strings.Cut(s, "(")
		inner, tail, closed := strings.Cut(rest, ")")
		kind, value, colon := strings.Cut(inner, ":")
		if !ok || !closed || !colon || tail != "" && tail[0] != ',' {
			return nil, fmt.Errorf("%q is not name[:type]:count(IDX:list) or name[:type](CNT:count)", clip(s))
		}
		s = strings.TrimPrefix(tail, ",")
		parts := strings.Split(head, ":")
		u := GresUse{Name: parts[0]}
		var err error
		switch kind {
		case "IDX":
			if u.Devices, err = ParseCPUSet(value); err == nil {
				u.Count, err = strconv.ParseUint(parts[len(parts)-1], 10, 63)
				parts = parts[:max(len(parts)-1, 1)]
			}
			if u.Devices == nil {
				u.Devices = CPUSet{}
			}
		case "CNT":
			u.Count, err = strconv.ParseUint(value, 10, 63)
		default:
			err = fmt.Errorf("%q is neither IDX nor CNT", clip(kind))
		}
		if err != nil {
			return nil, err
		}
		if len(parts) > 1 {
			u.Type = parts[1]
		}
		out = append(out, u)
	}
	return out, nil
}

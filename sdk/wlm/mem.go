package wlm

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// sizeUnits are the suffixes of sizes, each 1024 of the one before.
const sizeUnits = "KMGTPE"

// ParseMiB reads an amount of memory: a whole number of MiB, or one with K, M,
// G or T and perhaps B after it, in any case. K rounds up to whole MiB.
func ParseMiB(s string) (MiB, error) {
	bad := func(why string) (MiB, error) {
		return 0, errs.Newf("wlm.ParseMiB", errs.Invalid,
			"invalid memory size %q: %s", s, why)
	}
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	unit := ""
	num := s
	if end >= 0 {
		num, unit = s[:end], strings.ToUpper(s[end:])
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		return bad("want a whole number with K, M, G or T after it; M is the default")
	}
	shift := 0
	switch strings.TrimSuffix(unit, "B") {
	case "K":
		return MiB(n/1024 + min(n%1024, 1)), nil
	case "M":
	case "G":
		shift = 10
	case "T":
		shift = 20
	default:
		if unit != "" {
			return bad("want a whole number with K, M, G or T after it; M is the default")
		}
	}
	if n > math.MaxUint64>>shift {
		return bad("too large")
	}
	return MiB(n << shift), nil
}

// SizeStyle says how [FormatSize] chooses the unit.
type SizeStyle uint8

// The styles of sizes.
const (
	SizeExact  SizeStyle = iota // the largest unit that loses nothing: 8000M, 2G
	SizeScaled                  // the largest unit not below one, two decimals unless whole: 7.81G
	SizeRaw                     // the unit given: --noconvert
)

// FormatSize prints n of unit (one of K, M, G, T, P, E).
func FormatSize(n uint64, unit byte, style SizeStyle) string {
	u := max(0, strings.IndexByte(sizeUnits, unit))
	if style == SizeScaled {
		f := float64(n)
		for f >= 1024 && u < len(sizeUnits)-1 {
			f /= 1024
			u++
		}
		if f == math.Trunc(f) {
			return fmt.Sprintf("%.0f%c", f, sizeUnits[u])
		}
		return fmt.Sprintf("%.2f%c", f, sizeUnits[u])
	}
	if style == SizeExact {
		for n > 0 && n%1024 == 0 && u < len(sizeUnits)-1 {
			n /= 1024
			u++
		}
	}
	return strconv.FormatUint(n, 10) + string(sizeUnits[u])
}

// FormatMiB prints memory as scontrol, squeue and sacct do: the largest unit
// that loses nothing: 500M, 8000M, 2G. Zero is 0.
func FormatMiB(m MiB) string {
	if m == 0 {
		return "0"
	}
	return FormatSize(uint64(m), 'M', SizeExact)
}

// FormatMiBScaled prints memory shortened to two decimals: 7.81G. Zero is 0.
func FormatMiBScaled(m MiB) string {
	if m == 0 {
		return "0"
	}
	return FormatSize(uint64(m), 'M', SizeScaled)
}

// TRESCount is an amount of one trackable resource: mem in MiB, others in
// pieces.
type TRESCount struct {
	Name  string // cpu, mem, node, billing, gres/gpu, gres/gpu:a100, license/x
	Count uint64
}

// TRES are amounts of trackable resources, each name once, in the order in
// which Slurm numbers them: cpu, mem, energy, node, billing, fs/disk, vmem,
// pages, then the others by name. The methods that change return a new value.
type TRES []TRESCount

var tresRank = map[string]int{"cpu": 1, "mem": 2, "energy": 3, "node": 4, "billing": 5, "fs/disk": 6, "vmem": 7, "pages": 8}

func compareTRES(a, b TRESCount) int {
	ra, rb := tresRank[a.Name], tresRank[b.Name]
	switch {
	case ra != 0 && rb != 0:
		return cmp.Compare(ra, rb)
	case ra != 0:
		return -1
	case rb != 0:
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// Get returns the amount of name, 0 when it is not there.
func (t TRES) Get(name string) uint64 {
	for _, c := range t {
		if c.Name == name {
			return c.Count
		}
	}
	return 0
}

// With returns t with the amount of name set to count.
func (t TRES) With(name string, count uint64) TRES {
	c := TRESCount{name, count}
	u := slices.Clone(t)
	i, found := slices.BinarySearchFunc(u, c, compareTRES)
	if found {
		u[i] = c
		return u
	}
	return slices.Insert(u, i, c)
}

// Plus returns the sum of both.
func (t TRES) Plus(o TRES) TRES {
	u := slices.Clone(t)
	for _, c := range o {
		u = u.With(c.Name, u.Get(c.Name)+c.Count)
	}
	return u
}

// NonZero returns t without the resources of which there are none.
func (t TRES) NonZero() TRES {
	return slices.DeleteFunc(slices.Clone(t), func(c TRESCount) bool { return c.Count == 0 })
}

// String is [FormatTRES].
func (t TRES) String() string { return FormatTRES(t) }

// FormatTRES prints t in its order, as scontrol does:
// cpu=4,mem=400M,node=2,billing=4. Leave zeros out with [TRES.NonZero].
func FormatTRES(t TRES) string {
	var b strings.Builder
	for i, c := range t {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c.Name)
		b.WriteByte('=')
		if (c.Name == "mem" || c.Name == "vmem") && c.Count > 0 {
			b.WriteString(FormatSize(c.Count, 'M', SizeExact))
			continue
		}
		b.WriteString(strconv.FormatUint(c.Count, 10))
	}
	return b.String()
}

// FormatTRESByName prints t in alphabetical order, as sacct does.
func FormatTRESByName(t TRES) string {
	return FormatTRES(slices.SortedFunc(slices.Values(t), func(a, b TRESCount) int {
		return strings.Compare(a.Name, b.Name)
	}))
}

// ParseTRES reads what [FormatTRES] prints, in any order.
func ParseTRES(s string) (TRES, error) {
	var t TRES
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			return nil, errs.Newf("wlm.ParseTRES", errs.Invalid, "invalid TRES %q: want name=count", part)
		}
		var n uint64
		var err error
		if name == "mem" || name == "vmem" {
			var m MiB
			m, err = ParseMiB(value)
			n = uint64(m)
		} else {
			n, err = strconv.ParseUint(value, 10, 64)
		}
		if err != nil {
			return nil, errs.Newf("wlm.ParseTRES", errs.Invalid, "invalid TRES %q: the count is not a number", part)
		}
		t = t.With(name, n)
	}
	return t, nil
}

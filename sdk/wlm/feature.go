package wlm

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

// FeatureOp is what a [FeatureExpr] is.
type FeatureOp uint8

// The forms of an expression.
const (
	FeatureName    FeatureOp = iota // one feature
	FeatureAnd                      // all of Args
	FeatureOr                       // one of Args
	FeatureBracket                  // [Args[0]]: one choice for all nodes, or counts of nodes
)

// FeatureExpr is an expression of --constraint. Count, when not 0, is the
// number of nodes that must satisfy it ("gpu*4"). Immutable.
type FeatureExpr struct {
	Op    FeatureOp
	Name  string
	Args  []*FeatureExpr
	Count uint32
}

// maxFeatureDepth bounds how deep brackets and parentheses nest.
const maxFeatureDepth = 32

// ParseFeatures reads --constraint: names with & or a comma, and | (& binds
// closer), parentheses, [a|b] for one choice that all nodes share, and *count behind a
// name or parentheses, inside or outside of brackets. Empty gives nil, which
// matches every node. Whether nodes have such features is not looked at.
func ParseFeatures(s string) (*FeatureExpr, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	p := featureParser{s: s}
	e := p.or(0)
	if p.problem == "" && p.pos < len(s) {
		p.fail("unexpected " + strconv.Quote(s[p.pos:p.pos+1]))
	}
	if p.problem != "" {
		return nil, errs.Coded("wlm.ParseFeatures", errs.InvalidFeature,
			"constraint "+strconv.Quote(clip(s))+", at "+strconv.Itoa(p.pos)+": "+p.problem)
	}
	return e, nil
}

type featureParser struct {
	s       string
	pos     int
	problem string // the first one; pos is its place
	bracket bool   // inside of [ ]
}

func (p *featureParser) fail(problem string) *FeatureExpr {
	if p.problem == "" {
		p.problem = problem
	}
	return &FeatureExpr{}
}

// next skips spaces and returns the byte at pos, 0 at the end or after a
// problem.
func (p *featureParser) next() byte {
	for p.pos < len(p.s) && p.s[p.pos] == ' ' {
		p.pos++
	}
	if p.pos == len(p.s) || p.problem != "" {
		return 0
	}
	return p.s[p.pos]
}

func (p *featureParser) or(depth int) *FeatureExpr {
	return p.chain("|", FeatureOr, func() *FeatureExpr {
		return p.chain("&,", FeatureAnd, func() *FeatureExpr { return p.term(depth) })
	})
}

// chain reads operands with one of signs between them.
func (p *featureParser) chain(signs string, op FeatureOp, operand func() *FeatureExpr) *FeatureExpr {
	first := operand()
	more := func() bool { c := p.next(); return c != 0 && strings.IndexByte(signs, c) >= 0 }
	if !more() {
		return first
	}
	e := &FeatureExpr{Op: op, Args: []*FeatureExpr{first}}
	for more() {
		p.pos++
		e.Args = append(e.Args, operand())
	}
	return e
}

func (p *featureParser) term(depth int) *FeatureExpr {
	if depth > maxFeatureDepth {
		return p.fail("nested too deep")
	}
	var e *FeatureExpr
	switch c := p.next(); {
	case c == '(':
		e = p.enclosed(')', depth)
	case c == '[' && p.bracket:
		return p.fail("brackets within brackets")
	case c == '[':
		p.bracket = true
		e = &FeatureExpr{Op: FeatureBracket, Args: []*FeatureExpr{p.enclosed(']', depth)}}
		p.bracket = false
		return e
	case isFeatureByte(c):
		start := p.pos
		for p.pos < len(p.s) && isFeatureByte(p.s[p.pos]) {
			p.pos++
		}
		e = &FeatureExpr{Name: p.s[start:p.pos]}
	default:
		return p.fail("a feature is missing")
	}
	if p.next() == '*' {
		p.count(e)
	}
	return e
}

func (p *featureParser) enclosed(end byte, depth int) *FeatureExpr {
	p.pos++
	e := p.or(depth + 1)
	if p.next() != end {
		return p.fail(strconv.Quote(string(end)) + " is missing")
	}
	p.pos++
	return e
}

func (p *featureParser) count(e *FeatureExpr) {
	p.pos++
	start := p.pos
	for p.pos < len(p.s) && p.s[p.pos] >= '0' && p.s[p.pos] <= '9' {
		p.pos++
	}
	n, ok := digitsOnly(p.s[start:p.pos])
	switch {
	case !ok || n == 0 || n >= int64(AllTasks):
		p.pos = start
		p.fail("a count of nodes is missing after \"*\"")
	case hasCount(e):
		p.fail("a count of counts")
	default:
		e.Count = uint32(n)
	}
}

func hasCount(e *FeatureExpr) bool {
	return e.Count != 0 || slices.ContainsFunc(e.Args, hasCount)
}

func isFeatureByte(c byte) bool {
	return c > ' ' && c != 0x7f && !strings.ContainsRune("&|()[]*,!", rune(c))
}

// String prints the expression as [ParseFeatures] reads it.
func (e *FeatureExpr) String() string {
	if e == nil {
		return ""
	}
	s := e.Name
	switch e.Op {
	case FeatureBracket:
		s = "[" + e.Args[0].String() + "]"
	case FeatureAnd, FeatureOr:
		sign := "&"
		if e.Op == FeatureOr {
			sign = "|"
		}
		parts := make([]string, len(e.Args))
		for i, a := range e.Args {
			parts[i] = a.String()
			if a.Count == 0 && (a.Op == FeatureAnd || a.Op == FeatureOr) && (a.Op == e.Op || e.Op == FeatureAnd) {
				parts[i] = "(" + parts[i] + ")"
			}
		}
		s = strings.Join(parts, sign)
		if e.Count != 0 {
			s = "(" + s + ")"
		}
	}
	if e.Count != 0 {
		s += "*" + strconv.FormatUint(uint64(e.Count), 10)
	}
	return s
}

// Match reports whether a node with the active features can serve in the job.
// A term with a count outside of brackets asks for some nodes only, so no node
// fails it; within brackets, a node must serve one of the choices or counts.
// Whether a set of nodes is enough is for [FeatureExpr.Alternatives],
// [FeatureExpr.Counts] to say. A nil expression matches every node.
func (e *FeatureExpr) Match(active []string) bool {
	return e == nil || e.match(active, false)
}

func (e *FeatureExpr) match(active []string, bracket bool) bool {
	if e.Count != 0 && !bracket {
		return true
	}
	not := func(a *FeatureExpr) bool { return !a.match(active, bracket) }
	one := func(a *FeatureExpr) bool { return a.match(active, bracket) }
	switch e.Op {
	case FeatureName:
		return slices.Contains(active, e.Name)
	case FeatureAnd:
		if bracket && slices.ContainsFunc(e.Args, hasCount) {
			return slices.ContainsFunc(e.Args, one) // [a*2&b*4]: each node serves one of the counts
		}
		return !slices.ContainsFunc(e.Args, not)
	case FeatureOr:
		return slices.ContainsFunc(e.Args, one)
	}
	return e.Args[0].match(active, true)
}

// Names lists the features that the expression mentions, sorted, once each.
func (e *FeatureExpr) Names() []string {
	var out []string
	e.walk(func(x *FeatureExpr) {
		if x.Op == FeatureName {
			out = append(out, x.Name)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// walk visits e and everything below it.
func (e *FeatureExpr) walk(visit func(*FeatureExpr)) {
	if e == nil {
		return
	}
	visit(e)
	for _, a := range e.Args {
		a.walk(visit)
	}
}

// maxAlternatives bounds what several [a|b] in one expression make together;
// the alternatives beyond it are not tried.
const maxAlternatives = 64

// Alternatives returns the expressions of which all nodes of the job must
// satisfy the same one, in the order written: e with one choice in the place of
// each [a|b]. Without such brackets, that is e alone; nil of a nil expression.
func (e *FeatureExpr) Alternatives() []*FeatureExpr {
	switch {
	case e == nil:
		return nil
	case e.Op == FeatureName:
		return []*FeatureExpr{e}
	case e.Op == FeatureBracket:
		in := e.Args[0]
		if in.Op != FeatureOr || in.Count != 0 {
			if hasCount(in) {
				return []*FeatureExpr{e} // counts of nodes
			}
			return []*FeatureExpr{in} // [a]: nothing to choose
		}
		out := make([]*FeatureExpr, 0, len(in.Args))
		for _, a := range in.Args {
			if hasCount(a) {
				a = &FeatureExpr{Op: FeatureBracket, Args: []*FeatureExpr{a}}
			}
			out = append(out, a)
		}
		return out[:min(len(out), maxAlternatives)]
	}
	out := []*FeatureExpr{{Op: e.Op, Count: e.Count}}
	for _, arg := range e.Args {
		var longer []*FeatureExpr
		for _, x := range out {
			for _, a := range arg.Alternatives() {
				longer = append(longer, &FeatureExpr{Op: e.Op, Count: e.Count, Args: append(slices.Clip(x.Args), a)})
			}
		}
		out = longer[:min(len(longer), maxAlternatives)]
	}
	return out
}

// Counts returns the terms with a count, in the order written: at least Count
// nodes of the job must match each, their own count aside ([FeatureExpr.Plain]).
func (e *FeatureExpr) Counts() []*FeatureExpr {
	var out []*FeatureExpr
	e.walk(func(x *FeatureExpr) {
		if x.Count != 0 {
			out = append(out, x)
		}
	})
	return out
}

// Plain returns e without its own count.
func (e *FeatureExpr) Plain() *FeatureExpr {
	if e == nil || e.Count == 0 {
		return e
	}
	c := *e
	c.Count = 0
	return &c
}

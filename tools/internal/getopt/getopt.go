// Package getopt reads command lines as getopt_long(3) does, because scripts
// written for Slurm depend on it: clusters of short options (-hl), values glued
// to their option (-n4, --name=x) or following it, long names cut to an
// unambiguous beginning, optional values, options after operands, and "--".
//
// A [Table] is both the grammar and the documentation of a command's options.
// Mistakes are [*Error]s whose text is getopt's own, with the hint that Slurm's
// commands print under it.
package getopt

import (
	"fmt"
	"strings"
)

// Arg says whether an option takes a value.
type Arg uint8

// The kinds of value.
const (
	None     Arg = iota
	Required     // -n VALUE, -nVALUE, --name VALUE, --name=VALUE
	Optional     // only glued: --json=VALUE, -jVALUE
	Greedy       // as Optional, but a following word that is no option is taken too
)

// Option is one option of a command.
type Option struct {
	Long   string // without dashes; empty: none
	Short  byte   // 0: none
	Arg    Arg
	Meta   string             // what the value is, for the help text
	Help   string             // one line; empty: not shown
	Values []string           // what the value may be, for completion; nil: anything
	Set    func(string) error // called in the order of the command line
}

// Table holds a command's options.
type Table []Option

// Error is a command line that getopt refuses.
type Error struct {
	Prog string
	Text string
}

// Error returns both lines that the user sees.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s\nTry \"%s --help\" for more information", e.Prog, e.Text, e.Prog)
}

// Parse calls Set for each option of args and returns the operands. The first
// mistake, or the first error of a Set, ends it.
func (t Table) Parse(prog string, args []string) (operands []string, err error) {
	p := parser{table: t, prog: prog, args: args}
	for len(p.args) > 0 {
		arg := p.args[0]
		p.args = p.args[1:]
		switch {
		case arg == "--":
			return append(operands, p.args...), nil
		case strings.HasPrefix(arg, "--"):
			err = p.long(arg)
		case len(arg) > 1 && arg[0] == '-':
			err = p.cluster(arg[1:])
		default:
			operands = append(operands, arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

type parser struct {
	table Table
	prog  string
	args  []string // what is left
}

func (p *parser) fail(format string, args ...any) error {
	return &Error{Prog: p.prog, Text: fmt.Sprintf(format, args...)}
}

// long handles --name and --name=value.
func (p *parser) long(arg string) error {
	name, value, glued := strings.Cut(arg[2:], "=")
	o, err := p.find(arg, name)
	if err != nil {
		return err
	}
	switch {
	case o.Arg == None && glued:
		return p.fail("option '--%s' doesn't allow an argument", o.Long)
	case o.Arg == Required && !glued:
		if len(p.args) == 0 {
			return p.fail("option '--%s' requires an argument", o.Long)
		}
		value, p.args = p.args[0], p.args[1:]
	case o.Arg == Greedy && !glued:
		value = p.greedy()
	}
	return o.Set(value)
}

// find looks a long name up; a beginning will do when it has one meaning.
func (p *parser) find(arg, name string) (*Option, error) {
	var found []*Option
	for i := range p.table {
		o := &p.table[i]
		if o.Long == name && name != "" {
			return o, nil
		}
		if o.Long != "" && strings.HasPrefix(o.Long, name) {
			found = append(found, o)
		}
	}
	switch len(found) {
	case 0:
		return nil, p.fail("unrecognized option '%s'", arg)
	case 1:
		return found[0], nil
	}
	var b strings.Builder
	for _, o := range found {
		b.WriteString(" '--" + o.Long + "'")
	}
	return nil, p.fail("option '%s' is ambiguous; possibilities:%s", arg, b.String())
}

// cluster handles -abc, -nVALUE and -n VALUE.
func (p *parser) cluster(letters string) error {
	for i := 0; i < len(letters); i++ {
		o := p.short(letters[i])
		if o == nil {
			return p.fail("invalid option -- '%c'", letters[i])
		}
		if o.Arg == None {
			if err := o.Set(""); err != nil {
				return err
			}
			continue
		}
		value := letters[i+1:]
		if value == "" {
			switch o.Arg {
			case Greedy:
				value = p.greedy()
			case Required:
				if len(p.args) == 0 {
					return p.fail("option requires an argument -- '%c'", letters[i])
				}
				value, p.args = p.args[0], p.args[1:]
			}
		} else if o.Arg == Greedy {
			value = strings.TrimPrefix(value, "=")
		}
		return o.Set(value)
	}
	return nil
}

func (p *parser) short(c byte) *Option {
	for i := range p.table {
		if p.table[i].Short == c {
			return &p.table[i]
		}
	}
	return nil
}

// greedy takes the next word unless it is an option.
func (p *parser) greedy() string {
	if len(p.args) == 0 || strings.HasPrefix(p.args[0], "-") {
		return ""
	}
	value := p.args[0]
	p.args = p.args[1:]
	return value
}

// Usage lists the options that have a help line, two columns wide.
func (t Table) Usage() string {
	var b strings.Builder
	for _, o := range t {
		if o.Help == "" {
			continue
		}
		left := "  "
		if o.Short != 0 {
			left += "-" + string(o.Short)
		}
		if o.Long != "" {
			if o.Short != 0 {
				left += ", "
			} else {
				left += "    "
			}
			left += "--" + o.Long
		}
		switch {
		case o.Arg == Required && o.Long != "":
			left += "=" + o.Meta
		case o.Arg == Required:
			left += " " + o.Meta
		case o.Arg != None:
			left += "[=" + o.Meta + "]"
		}
		fmt.Fprintf(&b, "%-34s %s\n", left, o.Help)
	}
	return b.String()
}

// Bool returns a Set that stores true.
func Bool(p *bool) func(string) error {
	return func(string) error { *p = true; return nil }
}

// String returns a Set that stores the value.
func String(p *string) func(string) error {
	return func(v string) error { *p = v; return nil }
}

// Count returns a Set that counts how often the option was given.
func Count(p *int) func(string) error {
	return func(string) error { *p++; return nil }
}

// List returns a Set that appends the comma-separated elements of the value,
// leaving empty ones out.
func List(p *[]string) func(string) error {
	return func(v string) error {
		for e := range strings.SplitSeq(v, ",") {
			if e != "" {
				*p = append(*p, e)
			}
		}
		return nil
	}
}

// Ignore returns a Set for an option that has no effect here.
func Ignore() func(string) error { return func(string) error { return nil } }

// Package options describes a command's options once, for reading them, for
// its help text and for completion.
//
// Reading follows getopt_long(3), see package getopt. Options are acted upon in
// the order of the command line, so that of two the later wins.
package options

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/tools/internal/getopt"
)

// Arg says whether an option takes a value.
type Arg uint8

// The kinds of value.
const (
	None     Arg = iota
	Required     // -n VALUE, -nVALUE, --name VALUE, --name=VALUE
	Optional     // only glued: --json=VALUE
	Greedy       // as Optional, but without a glued value the next operand is taken, if there is one
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

// Error is a command line that cannot be read.
type Error struct {
	Prog string
	Text string
}

// Error returns both lines that the user sees.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s\nTry \"%s --help\" for more information", e.Prog, e.Text, e.Prog)
}

// Parse calls Set for each option of args and returns the operands. Nothing is
// set when the line cannot be read; else the first error of a Set ends it.
func (t Table) Parse(prog string, args []string) (operands []string, err error) {
	table := make([]getopt.Option, len(t))
	for i, o := range t {
		arg := getopt.None
		switch o.Arg {
		case Required:
			arg = getopt.Required
		case Optional, Greedy:
			arg = getopt.Optional
		}
		table[i] = getopt.Option{Long: o.Long, Short: o.Short, Arg: arg, ID: i}
	}
	given, operands, err := getopt.Parse(args, table, false)
	if err != nil {
		return nil, &Error{Prog: prog, Text: err.Error()}
	}
	for _, g := range given {
		o, value := &t[g.ID], g.Value
		if o.Arg == Greedy {
			value = strings.TrimPrefix(value, "=")
			if !g.Has && len(operands) > 0 {
				value, operands = operands[0], operands[1:]
			}
		}
		if err := o.Set(value); err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// Usage lists the options that have a help line, two columns wide.
func (t Table) Usage() string {
	var b strings.Builder
	for _, o := range t {
		if o.Help != "" {
			fmt.Fprintf(&b, "%-34s %s\n", o.left(), o.Help)
		}
	}
	return b.String()
}

func (o *Option) left() string {
	left := "      "
	if o.Short != 0 {
		left = "  -" + string(rune(o.Short))
		if o.Long != "" {
			left += ", "
		}
	}
	if o.Long != "" {
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
	return left
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

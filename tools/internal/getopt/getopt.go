// Package getopt reads command lines as getopt_long(3) of the GNU C library
// does, because scripts rely on its fine points: long options may be cut
// short while they stay unique, a value may follow "=" or be the next word, an
// optional value never is the next word, short options bundle, and "--" ends
// the options. Its messages are the library's too.
package getopt

import (
	"fmt"
	"strings"
)

// Arg says whether an option takes a value.
type Arg uint8

// The kinds of an option.
const (
	None Arg = iota
	Required
	Optional // only in the same word: --opt=value, -ovalue
)

// Option is one option. Two with the same ID are spellings of one another:
// a prefix that fits both is not ambiguous.
type Option struct {
	Long  string // without dashes; may be empty
	Short byte   // 0: none
	Arg   Arg
	ID    int
}

// Given is an option found on a command line.
type Given struct {
	*Option
	Value string
	Has   bool   // a value was given
	Word  string // as written, "--ntasks" or "-n"
}

// An Error is a mistake in the form of a command line; its text is the line
// that the C library prints, without the program's name.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Parse splits args into options and operands. With inOrder, the first
// operand ends the options, as commands need that take a command line of
// someone else's; without, options may stand after operands.
func Parse(args []string, table []Option, inOrder bool) (given []Given, operands []string, err error) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return given, append(operands, args...), nil
		case strings.HasPrefix(word, "--"):
			var g Given
			if g, args, err = long(word, args, table); err != nil {
				return nil, nil, err
			}
			given = append(given, g)
		case len(word) > 1 && word[0] == '-':
			var g []Given
			if g, args, err = short(word[1:], args, table); err != nil {
				return nil, nil, err
			}
			given = append(given, g...)
		case inOrder:
			return given, append([]string{word}, args...), nil
		default:
			operands = append(operands, word)
		}
	}
	return given, operands, nil
}

func long(word string, args []string, table []Option) (Given, []string, error) {
	name, value, has := strings.Cut(word[2:], "=")
	o, err := find(name, word, table)
	if err != nil {
		return Given{}, nil, err
	}
	g := Given{Option: o, Value: value, Has: has, Word: "--" + o.Long}
	switch {
	case o.Arg == None && has:
		return g, nil, &Error{fmt.Sprintf("option '--%s' doesn't allow an argument", o.Long)}
	case o.Arg == Required && !has:
		if len(args) == 0 {
			return g, nil, &Error{fmt.Sprintf("option '--%s' requires an argument", o.Long)}
		}
		g.Value, g.Has, args = args[0], true, args[1:]
	}
	return g, args, nil
}

// find returns the option that name is, or is the start of.
func find(name, word string, table []Option) (*Option, error) {
	var hits []*Option
	for i := range table {
		o := &table[i]
		if o.Long == name && name != "" {
			return o, nil
		}
		if o.Long != "" && strings.HasPrefix(o.Long, name) {
			hits = append(hits, o)
		}
	}
	if len(hits) == 0 {
		return nil, &Error{fmt.Sprintf("unrecognized option '%s'", word)}
	}
	for _, o := range hits[1:] {
		if o.ID != hits[0].ID {
			text := fmt.Sprintf("option '%s' is ambiguous; possibilities:", word)
			for _, h := range hits {
				text += " '--" + h.Long + "'"
			}
			return nil, &Error{text}
		}
	}
	return hits[0], nil
}

func short(letters string, args []string, table []Option) (given []Given, rest []string, err error) {
	for letters != "" {
		c := letters[0]
		letters = letters[1:]
		o := letter(c, table)
		if o == nil {
			return nil, nil, &Error{fmt.Sprintf("invalid option -- '%c'", c)}
		}
		g := Given{Option: o, Word: "-" + string(rune(c))}
		switch {
		case o.Arg == None:
		case letters != "":
			g.Value, g.Has, letters = letters, true, ""
		case o.Arg == Required && len(args) == 0:
			return nil, nil, &Error{fmt.Sprintf("option requires an argument -- '%c'", c)}
		case o.Arg == Required:
			g.Value, g.Has, args = args[0], true, args[1:]
		}
		given = append(given, g)
	}
	return given, args, nil
}

func letter(c byte, table []Option) *Option {
	for i := range table {
		if table[i].Short == c && c != 0 {
			return &table[i]
		}
	}
	return nil
}

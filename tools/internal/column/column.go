// Package column prints records in Slurm's columns.
//
// A [Field] says what a column shows; a [Column] is a field with a width, an
// alignment and the text after it. Formats come in Slurm's two grammars: the
// letters of --format ("%.18i %.9P %R", see [ParseLetters]) and the names of
// --Format ("jobid:.18,partition", see [ParseNames]).
//
// A value wider than its column is cut, except in fields that say they are
// never cut, as the times of squeue. A column keeps its padding at the end of
// a line: scripts cut lines by byte.
package column

import (
	"bufio"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Field is something that can be shown of a record of type T.
type Field[T any] struct {
	Letter byte     // of --format; 0: none
	Names  []string // of --Format, in any case; the first is the proper one
	Header string
	Value  func(T) string
	Whole  bool             // never cut to the width
	Order  func(a, b T) int // order for --sort; nil: by Value
	Needs  uint             // a set of bits that means something to the command
}

// Column is a field as a format asks for it.
type Column[T any] struct {
	Field  *Field[T] // nil: only Suffix is printed
	Width  int       // 0: as wide as the value
	Right  bool
	Suffix string
}

// Format is a line of columns.
type Format[T any] []Column[T]

// WriteHeader prints the headers and a newline.
func (f Format[T]) WriteHeader(w *bufio.Writer) {
	for i := range f {
		c := &f[i]
		if c.Field != nil {
			pad(w, c.Field.Header, c.Width, c.Right, true)
		}
		w.WriteString(c.Suffix)
	}
	w.WriteByte('\n')
}

// WriteRow prints one record and a newline.
func (f Format[T]) WriteRow(w *bufio.Writer, row T) {
	for i := range f {
		c := &f[i]
		if c.Field != nil {
			pad(w, c.Field.Value(row), c.Width, c.Right, !c.Field.Whole)
		}
		w.WriteString(c.Suffix)
	}
	w.WriteByte('\n')
}

// Needs is the union of what the format's fields need.
func (f Format[T]) Needs() uint {
	var n uint
	for i := range f {
		if f[i].Field != nil {
			n |= f[i].Field.Needs
		}
	}
	return n
}

const blanks = "                                                                "

// pad writes s in a column of width characters.
func pad(w *bufio.Writer, s string, width int, right, cut bool) {
	if width <= 0 {
		w.WriteString(s)
		return
	}
	n := len(s)
	if n > 0 && !ascii(s) {
		n = utf8.RuneCountInString(s)
	}
	if n >= width {
		if cut && n > width {
			s = firstRunes(s, width)
		}
		w.WriteString(s)
		return
	}
	if !right {
		w.WriteString(s)
	}
	for gap := width - n; gap > 0; gap -= len(blanks) {
		w.WriteString(blanks[:min(gap, len(blanks))])
	}
	if right {
		w.WriteString(s)
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// Table is all fields of a kind of record.
type Table[T any] []Field[T]

// ByLetter finds a field by its letter; nil when there is none.
func (t Table[T]) ByLetter(c byte) *Field[T] {
	for i := range t {
		if t[i].Letter == c && c != 0 {
			return &t[i]
		}
	}
	return nil
}

// ByName finds a field by one of its names in any case; nil when there is none.
func (t Table[T]) ByName(name string) *Field[T] {
	for i := range t {
		for _, n := range t[i].Names {
			if strings.EqualFold(n, name) {
				return &t[i]
			}
		}
	}
	return nil
}

// ParseLetters reads a --format: %[[.]size]letter, with any text between. A
// percent sign with nothing usable behind it is dropped, and reported to bad
// when it has a letter that no field has. "%all" gives every field that has a
// letter, separated by vertical bars.
func ParseLetters[T any](t Table[T], spec string, bad func(what string)) Format[T] {
	if spec == "%all" {
		return all(t)
	}
	text, rest, found := strings.Cut(spec, "%")
	var f Format[T]
	if text != "" {
		f = append(f, Column[T]{Suffix: text})
	}
	for found {
		var item string
		item, rest, found = strings.Cut(rest, "%")
		var c Column[T]
		c.Right, c.Width, item = size(item)
		if item == "" {
			continue
		}
		c.Field = t.ByLetter(item[0])
		if c.Field == nil {
			bad(item[:1])
			continue
		}
		c.Suffix = item[1:]
		f = append(f, c)
	}
	return f
}

func all[T any](t Table[T]) Format[T] {
	var f Format[T]
	for i := range t {
		if t[i].Letter != 0 {
			f = append(f, Column[T]{Field: &t[i], Suffix: "|"})
		}
	}
	if len(f) > 0 {
		f[len(f)-1].Suffix = ""
	}
	return f
}

// size reads [.][digits] at the start of s.
func size(s string) (right bool, width int, rest string) {
	if strings.HasPrefix(s, ".") {
		right, s = true, s[1:]
	}
	for len(s) > 0 && s[0] >= '0' && s[0] <= '9' {
		if width < 1<<16 {
			width = width*10 + int(s[0]-'0')
		}
		s = s[1:]
	}
	return right, width, s
}

// NameWidth is the width of a --Format column that names none.
const NameWidth = 20

// ParseNames reads a --Format: name[:[.][size][suffix]], comma separated. Names
// that no field has are reported to bad and left out. "all" gives every field
// that has a letter, separated by vertical bars.
func ParseNames[T any](t Table[T], spec string, bad func(what string)) Format[T] {
	if strings.EqualFold(spec, "all") {
		return all(t)
	}
	var f Format[T]
	for item := range strings.SplitSeq(spec, ",") {
		name, opts, _ := strings.Cut(strings.TrimSpace(item), ":")
		if name == "" {
			continue
		}
		c := Column[T]{Field: t.ByName(name)}
		if c.Field == nil {
			bad(name)
			continue
		}
		c.Right, c.Width, c.Suffix = size(opts)
		if c.Width == 0 {
			c.Width = NameWidth
		}
		f = append(f, c)
	}
	return f
}

// Key is one term of a --sort.
type Key[T any] struct {
	Field *Field[T]
	Down  bool // descending
	Hash  bool // "#": in the order of the configuration
}

// ParseSort reads letters with +, - or # before them, comma separated or not.
// A letter that no field has is an error.
func ParseSort[T any](t Table[T], spec string) ([]Key[T], error) {
	var keys []Key[T]
	var k Key[T]
	for i := range len(spec) {
		switch c := spec[i]; c {
		case ',', '+':
		case '-':
			k.Down = true
		case '#':
			k.Hash = true
		default:
			if k.Field = t.ByLetter(c); k.Field == nil {
				return nil, fmt.Errorf("invalid sort specification: %c", c)
			}
			keys = append(keys, k)
			k = Key[T]{}
		}
	}
	return keys, nil
}

// Compare orders two records by keys, the first deciding.
func Compare[T any](keys []Key[T], a, b T) int {
	for i := range keys {
		k := &keys[i]
		var c int
		if k.Field.Order != nil {
			c = k.Field.Order(a, b)
		} else {
			c = strings.Compare(k.Field.Value(a), k.Field.Value(b))
		}
		if c == 0 {
			continue
		}
		if k.Down {
			return -c
		}
		return c
	}
	return 0
}

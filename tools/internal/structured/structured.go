// Package structured writes the --json and --yaml forms of Slurm's commands, a
// value at a time, so that a list of a hundred thousand jobs needs no more
// memory than one of them.
//
// The layout is that of Slurm 25.11: JSON indented by two spaces with "/"
// escaped and empty lists and objects closed on a line of their own; YAML 1.1
// with a tag before every value. SLURM_JSON=compact leaves the white space of
// JSON out.
//
// A [Writer] is told the structure by its methods; it keeps the nesting, the
// caller must open and close in pairs. The first error of the underlying
// writer is kept and returned by [Writer.Close]; after it, nothing is written.
package structured

import (
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Form is the notation.
type Form uint8

// The notations.
const (
	JSON Form = iota
	CompactJSON
	YAML
)

// flushAt is how many bytes are collected before they are written.
const flushAt = 64 << 10

// Writer writes one document.
type Writer struct {
	out   io.Writer
	form  Form
	buf   []byte
	stack []level
	err   error
}

type level struct {
	list  bool
	empty bool
}

// New starts a document whose top is an object.
func New(out io.Writer, form Form) *Writer {
	w := &Writer{out: out, form: form, buf: make([]byte, 0, flushAt+8<<10)}
	if form == YAML {
		w.buf = append(w.buf, "%YAML 1.1\n--- !!map\n"...)
	} else {
		w.buf = append(w.buf, '{')
	}
	w.stack = append(w.stack, level{empty: true})
	return w
}

// Close ends the document and reports the first error.
func (w *Writer) Close() error {
	if w.form == YAML {
		w.buf = append(w.buf, "...\n\n"...)
	} else {
		w.closeJSON('}')
		w.buf = append(w.buf, '\n')
	}
	w.flush()
	return w.err
}

// Flush writes what has been collected.
func (w *Writer) Flush() error {
	w.flush()
	return w.err
}

func (w *Writer) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.out.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// Object opens an object under key; key is empty within a list.
func (w *Writer) Object(key string) { w.open(key, false) }

// List opens a list under key; key is empty within a list.
func (w *Writer) List(key string) { w.open(key, true) }

func (w *Writer) open(key string, list bool) {
	w.entry(key)
	if w.form == YAML {
		if list {
			w.buf = append(w.buf, "!!seq"...)
		} else {
			w.buf = append(w.buf, "!!map"...)
		}
	} else if list {
		w.buf = append(w.buf, '[')
	} else {
		w.buf = append(w.buf, '{')
	}
	w.stack = append(w.stack, level{list: list, empty: true})
}

// End closes the innermost object or list.
func (w *Writer) End() {
	top := w.stack[len(w.stack)-1]
	if w.form == YAML {
		if top.empty && top.list {
			w.buf = append(w.buf, " []\n"...)
		} else if top.empty {
			w.buf = append(w.buf, " {}\n"...)
		}
		w.stack = w.stack[:len(w.stack)-1]
	} else if top.list {
		w.closeJSON(']')
	} else {
		w.closeJSON('}')
	}
	if len(w.buf) >= flushAt {
		w.flush()
	}
}

func (w *Writer) closeJSON(bracket byte) {
	w.stack = w.stack[:len(w.stack)-1]
	w.newline(len(w.stack))
	w.buf = append(w.buf, bracket)
}

// indent is a line's end and the blanks that the next one starts with.
const indent = "\n                                                                "

func (w *Writer) newline(depth int) {
	if w.form == CompactJSON {
		return
	}
	w.buf = appendIndent(w.buf, depth)
}

func appendIndent(b []byte, depth int) []byte {
	if n := 1 + 2*depth; n <= len(indent) {
		return append(b, indent[:n]...)
	}
	b = append(b, '\n')
	for range depth {
		b = append(b, "  "...)
	}
	return b
}

// entry begins a value: the comma, the line, the key. Keys are ours and need
// no escapes.
func (w *Writer) entry(key string) {
	top := &w.stack[len(w.stack)-1]
	first := top.empty
	top.empty = false
	if w.form == YAML {
		w.yamlEntry(key, first, top.list)
		return
	}
	b := w.buf
	if !first {
		b = append(b, ',')
	}
	if w.form == JSON {
		b = appendIndent(b, len(w.stack))
	}
	if !top.list {
		b = append(append(append(b, '"'), key...), '"', ':')
		if w.form == JSON {
			b = append(b, ' ')
		}
	}
	w.buf = b
}

// yamlEntry begins a line. A container's tag is on its key's line, so its
// first entry ends that line; the list stands as far in as its key.
func (w *Writer) yamlEntry(key string, first, list bool) {
	if first && len(w.stack) > 1 {
		w.buf = append(w.buf, '\n')
	}
	for i := 1; i < len(w.stack); i++ {
		if !w.stack[i].list {
			w.buf = append(w.buf, "  "...)
		}
	}
	if list {
		w.buf = append(w.buf, "- "...)
		return
	}
	w.buf = append(w.buf, "!!str "...)
	w.buf = append(w.buf, key...)
	w.buf = append(w.buf, ": "...)
}

// Str writes a string.
func (w *Writer) Str(key, v string) {
	w.entry(key)
	if w.form != YAML {
		w.quote(v)
		return
	}
	w.buf = append(w.buf, "!!str"...)
	if v != "" {
		w.buf = append(w.buf, ' ')
		w.yamlString(v)
	}
	w.buf = append(w.buf, '\n')
}

// Int writes a whole number.
func (w *Writer) Int(key string, v int64) {
	w.entry(key)
	if w.form == YAML {
		w.buf = append(w.buf, "!!int "...)
	}
	w.buf = strconv.AppendInt(w.buf, v, 10)
	w.endScalar()
}

// Float writes a number that always shows a fraction.
func (w *Writer) Float(key string, v float64) {
	w.entry(key)
	if w.form == YAML {
		w.buf = append(w.buf, "!!float "...)
		w.buf = strconv.AppendFloat(w.buf, v, 'f', 6, 64)
	} else {
		n := len(w.buf)
		w.buf = strconv.AppendFloat(w.buf, v, 'f', -1, 64)
		if !strings.Contains(string(w.buf[n:]), ".") {
			w.buf = append(w.buf, ".0"...)
		}
	}
	w.endScalar()
}

// Null writes that there is no value.
func (w *Writer) Null(key string) {
	w.entry(key)
	if w.form == YAML {
		w.buf = append(w.buf, "!!null "...)
	}
	w.buf = append(w.buf, "null"...)
	w.endScalar()
}

// Bool writes true or false.
func (w *Writer) Bool(key string, v bool) {
	w.entry(key)
	if w.form == YAML {
		w.buf = append(w.buf, "!!bool "...)
	}
	w.buf = strconv.AppendBool(w.buf, v)
	w.endScalar()
}

func (w *Writer) endScalar() {
	if w.form == YAML {
		w.buf = append(w.buf, '\n')
	}
}

// Strs writes a list of strings.
func (w *Writer) Strs(key string, vs ...string) {
	w.List(key)
	for _, v := range vs {
		w.Str("", v)
	}
	w.End()
}

// Number writes Slurm's object for a number that may be unset or infinite.
func (w *Writer) Number(key string, set, infinite bool, v int64) {
	if w.form == JSON {
		w.entry(key)
		depth := len(w.stack)
		b := append(appendIndent(append(w.buf, '{'), depth+1), `"set": `...)
		b = append(appendIndent(append(strconv.AppendBool(b, set), ','), depth+1), `"infinite": `...)
		b = append(appendIndent(append(strconv.AppendBool(b, infinite), ','), depth+1), `"number": `...)
		w.buf = append(appendIndent(strconv.AppendInt(b, v, 10), depth), '}')
		return
	}
	w.Object(key)
	w.Bool("set", set)
	w.Bool("infinite", infinite)
	w.Int("number", v)
	w.End()
}

// Set writes a number that is known.
func (w *Writer) Set(key string, v int64) { w.Number(key, true, false, v) }

// Unset writes a number that is not known.
func (w *Writer) Unset(key string) { w.Number(key, false, false, 0) }

// Infinite writes a number without bound.
func (w *Writer) Infinite(key string) { w.Number(key, false, true, 0) }

const hex = "0123456789abcdef"

// quote writes a JSON string; bytes that are not UTF-8 become U+FFFD.
func (w *Writer) quote(s string) {
	b := append(w.buf, '"')
	plain := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[plain:i]...), "\ufffd"...)
				plain = i + 1
			}
			i += n
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' && (c != '/' || w.form == YAML) && c != 0x7f {
			continue
		}
		b = append(b, s[plain:i-1]...)
		plain = i
		switch c {
		case '"', '\\', '/':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\t':
			b = append(b, `\t`...)
		case '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
	}
	w.buf = append(append(b, s[plain:]...), '"')
}

// yamlString writes s plain where that is safe after a !!str tag, else quoted.
func (w *Writer) yamlString(s string) {
	if yamlPlain(s) {
		w.buf = append(w.buf, s...)
		return
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			w.quote(s)
			return
		}
	}
	w.buf = append(w.buf, '\'')
	w.buf = append(w.buf, strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "'", "''")...)
	w.buf = append(w.buf, '\'')
}

func yamlPlain(s string) bool {
	if !utf8.ValidString(s) || strings.ContainsAny(s[:1], "!&*-?|>@`\"'%#{}[],: ~=<") || s[len(s)-1] == ' ' || s[len(s)-1] == ':' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c == ':' && i+1 < len(s) && s[i+1] == ' ', c == '#' && i > 0 && s[i-1] == ' ':
			return false
		}
	}
	return true
}

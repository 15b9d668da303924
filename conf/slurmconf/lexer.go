package slurmconf

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// maxDepth bounds nested Includes, and so catches a file that includes itself.
const maxDepth = 16

// maxFile bounds one file; a bigger one is not a configuration.
const maxFile = 64 << 20

// ParseFile reads the file at path and what it includes. The File holds
// whatever could be read, also when the error, always [Problems], is not nil.
func ParseFile(path string) (*File, error) {
	p := newParser(path)
	p.file(path, Pos{}, 0)
	return p.out, p.bad.Err()
}

// Parse reads data as if it were the contents of the file at path, which need
// not exist; relative Includes start at its directory.
func Parse(path string, data []byte) (*File, error) {
	p := newParser(path)
	p.out.Files = append(p.out.Files, path)
	p.text(path, data, 0)
	return p.out, p.bad.Err()
}

func newParser(path string) *parser {
	return &parser{out: &File{Path: path}, dir: filepath.Dir(path)}
}

type parser struct {
	out     *File
	dir     string // where relative Includes start
	cluster string // ClusterName so far
	bad     Problems
}

func (p *parser) fail(pos Pos, key, text string) {
	p.bad = append(p.bad, Problem{pos, key, text})
}

// file reads one file; from is the Include that named it.
func (p *parser) file(path string, from Pos, depth int) {
	key := "Include"
	if from == (Pos{}) {
		from, key = Pos{File: path}, ""
	}
	if depth > maxDepth {
		p.fail(from, key, path+" is nested too deeply; does it include itself?")
		return
	}
	data, err := readFile(path)
	if err != nil {
		p.fail(from, key, err.Error())
		return
	}
	p.out.Files = append(p.out.Files, path)
	p.text(path, data, depth)
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() && st.Mode()&os.ModeNamedPipe == 0 {
		return nil, &os.PathError{Op: "read", Path: path, Err: errNotFile}
	}
	if st.Size() > maxFile {
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooBig}
	}
	return os.ReadFile(path)
}

type lexError string

func (e lexError) Error() string { return string(e) }

const (
	errNotFile lexError = "not a file"
	errTooBig  lexError = "larger than 64 MiB"
)

func (p *parser) text(path string, data []byte, depth int) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	l := &lexer{src: data, line: 1, file: path, p: p, depth: depth}
	for l.i < len(l.src) {
		l.logicalLine()
	}
}

// lexer walks one file's bytes. Its position is always inside a logical line
// or at the start of one.
type lexer struct {
	src   []byte
	i     int
	line  int
	file  string
	p     *parser
	depth int
}

func (l *lexer) pos() Pos { return Pos{l.file, l.line} }

// logicalLine reads pairs up to the line break that no backslash hides.
func (l *lexer) logicalLine() {
	record := -1 // index of the entry that takes the rest of the line
	first := true
	for l.blanks() {
		pos := l.pos()
		key := l.key()
		if key == "" {
			l.p.fail(pos, "", "unexpected "+quoteByte(l.src[l.i])+"; a line is Key=Value ..., Include path, or # comment")
			l.rest()
			break
		}
		if first && strings.EqualFold(key, "Include") && l.i < len(l.src) && isBlank(l.src[l.i]) && !l.equalsAhead() {
			l.include(pos)
			break
		}
		first = false
		value, ok := l.value(pos, key)
		if !ok {
			l.rest()
			break
		}
		pair := Pair{key, value, pos}
		if record >= 0 {
			e := &l.p.out.Entries[record]
			e.Opts = append(e.Opts, pair)
			continue
		}
		if strings.EqualFold(key, "ClusterName") {
			l.p.cluster = value
		}
		l.p.out.Entries = append(l.p.out.Entries, Entry{Pair: pair})
		if IsRecord(key) {
			record = len(l.p.out.Entries) - 1
		}
	}
	if l.i < len(l.src) { // at the line break
		l.i++
		l.line++
	}
}

// blanks skips blanks, hidden line breaks and a comment; it reports whether
// the logical line goes on.
func (l *lexer) blanks() bool {
	for l.i < len(l.src) {
		c := l.src[l.i]
		switch {
		case c == '\n':
			return false
		case isBlank(c):
			l.i++
		case c == '#':
			l.comment()
		case c == '\\':
			n, next := l.backslashes(false)
			if next < 0 || n%2 == 0 {
				return true
			}
			l.i = next
			l.line++
		default:
			return true
		}
	}
	return false
}

func (l *lexer) comment() {
	for l.i < len(l.src) && l.src[l.i] != '\n' {
		l.i++
	}
}

// rest skips what is left of a logical line after a mistake.
func (l *lexer) rest() {
	for l.i < len(l.src) && l.src[l.i] != '\n' {
		if l.src[l.i] == '#' {
			l.comment()
			return
		}
		if l.src[l.i] == '\\' {
			n, next := l.backslashes(false)
			if next >= 0 && n%2 == 1 {
				l.i = next
				l.line++
				continue
			}
			l.i += n
			continue
		}
		l.i++
	}
}

// backslashes counts the run of them at the position. next is the start of
// the following line if nothing but blanks, and outside quotes a comment,
// come between the run and the line break or end of file; else -1.
func (l *lexer) backslashes(quoted bool) (n, next int) {
	j := l.i
	for j < len(l.src) && l.src[j] == '\\' {
		j++
	}
	n = j - l.i
	for j < len(l.src) && isBlank(l.src[j]) {
		j++
	}
	if !quoted && j < len(l.src) && l.src[j] == '#' && j > l.i+n {
		for j < len(l.src) && l.src[j] != '\n' {
			j++
		}
	}
	switch {
	case j >= len(l.src):
		return n, len(l.src)
	case l.src[j] == '\n':
		return n, j + 1
	}
	return n, -1
}

func (l *lexer) key() string {
	start := l.i
	for l.i < len(l.src) && isKeyByte(l.src[l.i]) {
		l.i++
	}
	return string(l.src[start:l.i])
}

// equalsAhead reports whether "=" follows after blanks.
func (l *lexer) equalsAhead() bool {
	j := l.i
	for j < len(l.src) && isBlank(l.src[j]) {
		j++
	}
	return j < len(l.src) && l.src[j] == '='
}

func (l *lexer) value(pos Pos, key string) (string, bool) {
	if !l.blanks() {
		l.p.fail(pos, key, "no value; write "+key+"=value")
		return "", false
	}
	switch c := l.src[l.i]; {
	case c == '=':
		l.i++
	case strings.IndexByte("+-*/", c) >= 0 && l.i+1 < len(l.src) && l.src[l.i+1] == '=':
		l.p.fail(pos, key, "the operator "+string(c)+"= has no meaning in a configuration file; use =")
		return "", false
	default:
		l.p.fail(pos, key, "no = follows; write "+key+"=value, and put a value with blanks in double quotes")
		return "", false
	}
	if !l.blanks() {
		l.p.fail(pos, key, `no value after =; write `+key+`="" for an empty one`)
		return "", false
	}
	if l.src[l.i] == '"' {
		return l.quoted(pos, key)
	}
	return l.bare(), true
}

// escapes handles a run of backslashes inside a value: it hides a line break,
// makes a following # literal, or stands for itself.
func (l *lexer) escapes(b []byte, quoted bool) []byte {
	n, next := l.backslashes(quoted)
	if next >= 0 && n%2 == 1 {
		b = append(b, l.src[l.i:l.i+n-1]...)
		l.i = next
		l.line++
		return b
	}
	b = append(b, l.src[l.i:l.i+n]...)
	l.i += n
	if l.i < len(l.src) && l.src[l.i] == '#' {
		b[len(b)-1] = '#'
		l.i++
	}
	return b
}

func (l *lexer) bare() string {
	var b []byte
	for l.i < len(l.src) {
		c := l.src[l.i]
		if isBlank(c) || c == '\n' || c == '#' {
			break
		}
		if c == '\\' {
			b = l.escapes(b, false)
			continue
		}
		b = append(b, c)
		l.i++
	}
	return string(b)
}

func (l *lexer) quoted(pos Pos, key string) (string, bool) {
	l.i++
	var b []byte
	for l.i < len(l.src) && l.src[l.i] != '\n' {
		switch c := l.src[l.i]; c {
		case '"':
			l.i++
			if l.i < len(l.src) && !isBlank(l.src[l.i]) && l.src[l.i] != '\n' && l.src[l.i] != '#' && l.src[l.i] != '\\' {
				l.p.fail(pos, key, "text follows the closing double quote; leave a blank between values")
				return "", false
			}
			return string(b), true
		case '\\':
			b = l.escapes(b, true)
		default:
			b = append(b, c)
			l.i++
		}
	}
	l.p.fail(pos, key, "the double quote is not closed on this line")
	return "", false
}

// include splices in the file named by the rest of the line.
func (l *lexer) include(pos Pos) {
	if !l.blanks() {
		l.p.fail(pos, "Include", "no file name; write Include path")
		return
	}
	var path string
	if l.src[l.i] == '"' {
		s, ok := l.quoted(pos, "Include")
		if !ok {
			l.rest()
			return
		}
		path = s
	} else {
		path = l.bare()
	}
	if l.blanks() {
		l.p.fail(pos, "Include", "text follows the file name "+path)
		l.rest()
		return
	}
	if strings.Contains(path, "%c") {
		if l.p.cluster == "" {
			l.p.fail(pos, "Include", path+" uses %c before ClusterName is set")
			return
		}
		path = strings.ReplaceAll(path, "%c", l.p.cluster)
	}
	if path == "" {
		l.p.fail(pos, "Include", "no file name; write Include path")
		return
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.p.dir, path)
	}
	l.p.file(path, pos, l.depth+1)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f' }

func isKeyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.'
}

func quoteByte(c byte) string {
	if c < ' ' || c >= 0x7f {
		const hex = "0123456789abcdef"
		return "byte 0x" + string([]byte{hex[c>>4], hex[c&15]})
	}
	return `"` + string(c) + `"`
}

package slurmconf

import (
	"strconv"
	"strings"
)

// Pos is where a value was written. The zero Pos is "nowhere".
type Pos struct {
	File string
	Line int // from 1; 0: the file as a whole
}

// String prints file:line.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Problem is one thing that is wrong, or merely odd, in a file.
type Problem struct {
	Pos  Pos
	Key  string // as written; empty: the line as such
	Text string // what is wrong, and what is allowed
}

// Error prints "file:line: Key: text".
func (p Problem) Error() string {
	var b strings.Builder
	if s := p.Pos.String(); s != "" {
		b.WriteString(s)
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is every mistake of a file, as one error.
type Problems []Problem

// Error prints one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Err returns ps as an error, nil when it is empty.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

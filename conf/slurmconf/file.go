package slurmconf

import (
	"fmt"
	"io"
	"strings"
)

// Pair is one Key=Value.
type Pair struct {
	Key   string // as written
	Value string // without quotes
	Pos   Pos
}

// Is reports whether the pair's key is key, in any case.
func (p Pair) Is(key string) bool { return strings.EqualFold(p.Key, key) }

// Entry is an ordinary pair, or a record with its options.
type Entry struct {
	Pair
	Opts []Pair // what follows a record keyword on its line
}

// File is a parsed file, with what it includes in place.
type File struct {
	Path    string
	Entries []Entry
	Files   []string // every file read, the first one first
}

// Lookup returns the last value given for key, which is the one that holds.
func (f *File) Lookup(key string) (Pair, bool) {
	for i := len(f.Entries) - 1; i >= 0; i-- {
		if f.Entries[i].Is(key) {
			return f.Entries[i].Pair, true
		}
	}
	return Pair{}, false
}

// All returns every entry with the given key, in order.
func (f *File) All(key string) []Entry {
	var out []Entry
	for _, e := range f.Entries {
		if e.Is(key) {
			out = append(out, e)
		}
	}
	return out
}

var records = []string{"NodeName", "PartitionName", "NodeSet", "DownNodes", "SwitchName", "BlockName", "Name"}

// IsRecord reports whether key, in any case, takes the rest of its line as
// options: NodeName, PartitionName, NodeSet, DownNodes, SwitchName, BlockName,
// and the Name of gres.conf.
func IsRecord(key string) bool {
	for _, r := range records {
		if strings.EqualFold(key, r) {
			return true
		}
	}
	return false
}

// Print writes f in the form that Parse reads: one entry a line, without
// comments. It refuses a key or a value that the syntax cannot say, before it
// writes anything.
func (f *File) Print(w io.Writer) error {
	var b strings.Builder
	for _, e := range f.Entries {
		line := make([]string, 0, 1+len(e.Opts))
		for _, p := range append([]Pair{e.Pair}, e.Opts...) {
			s, err := quotePair(p)
			if err != nil {
				return err
			}
			line = append(line, s)
		}
		s := strings.Join(line, " ")
		if trailing := len(s) - len(strings.TrimRight(s, `\`)); trailing%2 == 1 {
			return fmt.Errorf("%s: a value with a double quote cannot end in a backslash", e.Key)
		}
		b.WriteString(s)
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func quotePair(p Pair) (string, error) {
	for i := range len(p.Key) {
		if !isKeyByte(p.Key[i]) {
			return "", fmt.Errorf("key %q: only letters, digits, _ and . are allowed", p.Key)
		}
	}
	if p.Key == "" {
		return "", fmt.Errorf("value %q has no key", p.Value)
	}
	v := p.Value
	if strings.ContainsAny(v, "\n\x00") {
		return "", fmt.Errorf("%s: a value cannot hold a line break or a zero byte", p.Key)
	}
	escaped := strings.ReplaceAll(v, `\#`, `\\#`)
	if !strings.Contains(v, `"`) {
		if v == "" || strings.ContainsAny(v, "# \t\r\v\f") || strings.HasSuffix(v, `\`) {
			return p.Key + `="` + escaped + `"`, nil
		}
		return p.Key + "=" + v, nil
	}
	if v[0] == '"' || strings.ContainsAny(v, " \t\r\v\f") {
		return "", fmt.Errorf("%s: value %q mixes a double quote with blanks", p.Key, v)
	}
	return p.Key + "=" + strings.ReplaceAll(v, "#", `\#`), nil
}

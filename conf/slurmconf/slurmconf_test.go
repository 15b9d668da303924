package slurmconf

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// dump prints entries as "Key=Value|Opt=Value@line", one a line.
func dump(f *File) string {
	var b strings.Builder
	for _, e := range f.Entries {
		b.WriteString(e.Key + "=" + e.Value)
		for _, o := range e.Opts {
			b.WriteString("|" + o.Key + "=" + o.Value)
		}
		b.WriteString("\n")
	}
	return strings.TrimSpace(b.String())
}

func TestParse(t *testing.T) {
	tests := []struct{ name, in, want, err string }{
		{name: "pairs share a line", in: "ClusterName=a SlurmctldPort=1", want: "ClusterName=a\nSlurmctldPort=1"},
		{name: "blanks around =", in: "  A = b ", want: "A=b"},
		{name: "comment", in: "A=b # c\n#d\nE=f#g", want: "A=b\nE=f"},
		{name: "escaped hash", in: `A=b\#c`, want: "A=b#c"},
		{name: "quoted value keeps blanks and hash", in: `Reason="bug #1 = bad"`, want: "Reason=bug #1 = bad"},
		{name: "empty quoted value", in: `A=""`, want: "A="},
		{name: "record takes the rest", in: "nodename=n1 CPUs=2 Port=3\nX=1", want: "nodename=n1|CPUs=2|Port=3\nX=1"},
		{name: "continuation between values", in: "NodeName=n1 \\\n  CPUs=2", want: "NodeName=n1|CPUs=2"},
		{name: "continuation inside a value", in: "P=a,\\\nb", want: "P=a,b"},
		{name: "continuation before a comment", in: "NodeName=n1 \\ # x\nCPUs=2", want: "NodeName=n1|CPUs=2"},
		{name: "a comment does not continue", in: "# a \\\nB=c", want: "B=c"},
		{name: "two backslashes do not continue", in: "A=b\\\\\nC=d", want: "A=b\\\\\nC=d"},
		{name: "continuation at the end of file", in: "A=b \\", want: "A=b"},
		{name: "carriage returns", in: "A=b\r\nC=d \\\r\nE=f\r\n", want: "A=b\nC=d\nE=f"},
		{name: "byte order mark", in: "\xef\xbb\xbfA=b", want: "A=b"},
		{name: "quote inside a bare value", in: `A=b"c`, want: `A=b"c`},
		{name: "equals inside a value", in: "P=a=1,b=2", want: "P=a=1,b=2"},
		{name: "no value", in: "A=\nB=c", want: "B=c", err: `f:1: A: no value after =; write A="" for an empty one`},
		{name: "no equals", in: "A b\nB=c", want: "B=c", err: "f:1: A: no = follows; write A=value, and put a value with blanks in double quotes"},
		{name: "lonely key", in: "A", err: "f:1: A: no value; write A=value"},
		{name: "operator", in: "A+=b", err: "f:1: A: the operator += has no meaning in a configuration file; use ="},
		{name: "open quote", in: "A=\"b\nC=d", want: "C=d", err: "f:1: A: the double quote is not closed on this line"},
		{name: "text after a quote", in: `A="b"c`, err: "f:1: A: text follows the closing double quote; leave a blank between values"},
		{name: "binary", in: "\x01=b", err: "f:1: unexpected byte 0x01; a line is Key=Value ..., Include path, or # comment"},
		{name: "all mistakes at once", in: "A\n;\nB=c\nD", want: "B=c", err: "f:1: A: no value; write A=value\n" +
			"f:2: unexpected \";\"; a line is Key=Value ..., Include path, or # comment\nf:4: D: no value; write D=value"},
		{name: "Include without a name", in: "Include \nA=b", want: "A=b", err: "f:1: Include: no file name; write Include path"},
		{name: "%c too early", in: "Include x-%c", err: "f:1: Include: x-%c uses %c before ClusterName is set"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("f", []byte(tt.in))
			if got := dump(f); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := text(err); got != tt.err {
				t.Errorf("error %q, want %q", got, tt.err)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPositions(t *testing.T) {
	f, err := Parse("f", []byte("\n# c\nA=b\nNodeName=n1 \\\n  CPUs=2 \\\n  Port=3\nC=d\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := []int{f.Entries[0].Pos.Line, f.Entries[1].Pos.Line, f.Entries[1].Opts[0].Pos.Line, f.Entries[1].Opts[1].Pos.Line, f.Entries[2].Pos.Line}
	if want := []int{3, 4, 5, 6, 7}; !reflect.DeepEqual(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"slurm.conf":     "ClusterName=brook\nInclude sub/%c.conf\nB=2\nINCLUDE gone.conf\n",
		"sub/brook.conf": "A=1\nInclude sub/deep.conf # relative to the first file\n",
		"sub/deep.conf":  "\nNodeName=n1",
		"loop.conf":      "include loop.conf\nA=1\n",
	})
	f, err := ParseFile(filepath.Join(dir, "slurm.conf"))
	if got := dump(f); got != "ClusterName=brook\nA=1\nNodeName=n1\nB=2" {
		t.Errorf("got %q", got)
	}
	if len(f.Files) != 3 || f.Entries[2].Pos != (Pos{filepath.Join(dir, "sub/deep.conf"), 2}) {
		t.Errorf("files %v, position %v", f.Files, f.Entries[2].Pos)
	}
	if want := ":4: Include: stat "; !strings.Contains(text(err), want) {
		t.Errorf("error %q does not say %q", text(err), want)
	}
	_, err = ParseFile(filepath.Join(dir, "loop.conf"))
	if !strings.Contains(text(err), "is nested too deeply; does it include itself?") {
		t.Errorf("loop: %v", err)
	}
	if _, err = ParseFile(dir); !strings.Contains(text(err), "not a file") {
		t.Errorf("directory: %v", err)
	}
}

// strip forgets positions.
func strip(f *File) []Entry {
	out := make([]Entry, 0, len(f.Entries))
	for _, e := range f.Entries {
		e.Pos = Pos{}
		opts := append([]Pair(nil), e.Opts...)
		for i := range opts {
			opts[i].Pos = Pos{}
		}
		e.Opts = opts
		out = append(out, e)
	}
	return out
}

func reparse(t interface{ Fatalf(string, ...any) }, f *File) *File {
	var b bytes.Buffer
	if err := f.Print(&b); err != nil {
		t.Fatalf("print: %v", err)
	}
	g, err := Parse("g", b.Bytes())
	if err != nil {
		t.Fatalf("parse of %q: %v", b.String(), err)
	}
	return g
}

func TestRoundTrip(t *testing.T) {
	key := rapid.StringMatching(`[A-Za-z_.0-9]{1,8}`)
	value := rapid.OneOf(rapid.StringMatching(`[a-z0-9#\\=, \t\[\]%-]{0,12}`), rapid.StringMatching(`[a-z#\\][a-z0-9"#\\=]{0,12}[a-z]`))
	pair := rapid.Custom(func(t *rapid.T) Pair { return Pair{Key: key.Draw(t, "key"), Value: value.Draw(t, "value")} })
	rapid.Check(t, func(t *rapid.T) {
		f := &File{}
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			e := Entry{Pair: pair.Draw(t, "pair")}
			if rapid.Bool().Draw(t, "record") {
				e.Key = rapid.SampledFrom(records).Draw(t, "keyword")
				e.Opts = rapid.SliceOfN(pair, 0, 4).Draw(t, "opts")
			} else if IsRecord(e.Key) {
				continue
			}
			f.Entries = append(f.Entries, e)
		}
		if g := reparse(t, f); !reflect.DeepEqual(strip(f), strip(g)) {
			t.Fatalf("got %q, want %q", dump(g), dump(f))
		}
	})
}

func TestPrintRefuses(t *testing.T) {
	for _, p := range []Pair{{Key: "", Value: "a"}, {Key: "a b", Value: "c"}, {Key: "A", Value: "b\nc"}, {Key: "A", Value: `b "c"`}, {Key: "A", Value: `"b`}, {Key: "A", Value: `b"\`}} {
		f := &File{Entries: []Entry{{Pair: p}}}
		if err := f.Print(&bytes.Buffer{}); err == nil {
			t.Errorf("%q was printed", p)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"A=b", "NodeName=n[1-2] CPUs=2 \\\n X=\"y z\"", "Include x", "A=b\\#c\\\\", "A=\\\n\\\nb", `A=b"\#`, "A=\"x\\\ny\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(bytes.ToLower(data), []byte("include")) {
			return // would read files
		}
		got, _ := Parse("f", data)
		for _, e := range got.Entries {
			if strings.ContainsRune(e.Value, 0) {
				return
			}
			for _, o := range e.Opts {
				if strings.ContainsRune(o.Value, 0) {
					return
				}
			}
		}
		if g := reparse(t, got); !reflect.DeepEqual(strip(got), strip(g)) {
			t.Fatalf("got %q, want %q", dump(g), dump(got))
		}
	})
}

func BenchmarkLoadClient(b *testing.B) {
	path := filepath.Join("..", "examples", "cpu-site.conf")
	for b.Loop() {
		if _, err := LoadClient(path); err != nil {
			b.Fatal(err)
		}
	}
}

package getopt

import (
	"slices"
	"strings"
	"testing"
)

type seen []string

func (s *seen) table() Table {
	note := func(name string) func(string) error {
		return func(v string) error { *s = append(*s, name+"="+v); return nil }
	}
	return Table{
		{Long: "noheader", Short: 'h', Set: note("h"), Help: "no header"},
		{Long: "nodelist", Short: 'w', Arg: Required, Meta: "list", Set: note("w"), Help: "nodes"},
		{Long: "jobs", Short: 'j', Arg: Greedy, Set: note("j")},
		{Long: "json", Arg: Optional, Meta: "what", Set: note("json"), Help: "JSON"},
		{Long: "long", Short: 'l', Set: note("l")},
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args string
		want string // options, then operands after |
	}{
		{"nothing", "", "|"},
		{"cluster", "-hl", "h= l=|"},
		{"glued value", "-wn1", "w=n1|"},
		{"value in the next word", "-w n1", "w=n1|"},
		{"value of a cluster", "-hwn1", "h= w=n1|"},
		{"long with equals", "--nodelist=n1", "w=n1|"},
		{"long with the next word", "--nodelist n1", "w=n1|"},
		{"unambiguous beginning", "--node n1 --lo", "w=n1 l=|"},
		{"optional value only glued", "--json list", "json=|list"},
		{"optional value", "--json=list", "json=list|"},
		{"greedy takes a word", "-j 5", "j=5|"},
		{"greedy leaves an option", "-j -h", "j= h=|"},
		{"greedy glued", "-j5", "j=5|"},
		{"operands may come first", "a -h b", "h=|a b"},
		{"double dash ends options", "-h -- -l", "h=|-l"},
		{"a dash is an operand", "-", "|-"},
		{"an option's name as value", "-w -h", "w=-h|"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s seen
			rest, err := s.table().Parse("squeue", strings.Fields(tt.args))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s, " ") + "|" + strings.Join(rest, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The texts are those of glibc; observed/errors.txt has some of them.
func TestParseRefuses(t *testing.T) {
	tests := []struct{ args, want string }{
		{"--bogus", "squeue: unrecognized option '--bogus'"},
		{"--bogus=1", "squeue: unrecognized option '--bogus=1'"},
		{"-x", "squeue: invalid option -- 'x'"},
		{"-hx", "squeue: invalid option -- 'x'"},
		{"-w", "squeue: option requires an argument -- 'w'"},
		{"--nodelist", "squeue: option '--nodelist' requires an argument"},
		{"--long=3", "squeue: option '--long' doesn't allow an argument"},
		{"--no", "squeue: option '--no' is ambiguous; possibilities: '--noheader' '--nodelist'"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var s seen
			_, err := s.table().Parse("squeue", strings.Fields(tt.args))
			want := tt.want + "\nTry \"squeue --help\" for more information"
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	var s seen
	got := s.table().Usage()
	for _, want := range []string{"  -h, --noheader  ", "  -w, --nodelist=list ", "      --json[=what] "} {
		if !strings.Contains(got, want) {
			t.Errorf("usage lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "--long") {
		t.Error("an option without help is shown")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-hl -w n1 --json=x a b")
	f.Add("--no -- -j")
	f.Fuzz(func(t *testing.T, line string) {
		var s seen
		words := strings.Fields(line)
		rest, err := s.table().Parse("squeue", words)
		if err != nil {
			return
		}
		for _, r := range rest {
			if !slices.Contains(words, r) {
				t.Errorf("operand %q was not given", r)
			}
		}
	})
}

package options

import (
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
	tests := []struct{ name, args, want string }{
		{"nothing", "", "|"},
		{"cluster", "-hl", "h= l=|"},
		{"value of a cluster", "-hwn1", "h= w=n1|"},
		{"optional value only glued", "--json list", "json=|list"},
		{"greedy takes a word", "-j 5", "j=5|"},
		{"greedy leaves an option", "-j -h", "j= h=|"},
		{"greedy glued", "-j5", "j=5|"},
		{"greedy glued with equals", "-j=5 6", "j=5|6"},
		{"operands may come first", "a -h b", "h=|a b"},
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

func TestParseRefuses(t *testing.T) {
	var s seen
	_, err := s.table().Parse("squeue", []string{"-h", "--bogus"})
	const want = "squeue: unrecognized option '--bogus'\nTry \"squeue --help\" for more information"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if s != nil {
		t.Errorf("%v was set all the same", s)
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

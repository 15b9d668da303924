package getopt

import (
	"fmt"
	"strings"
	"testing"
)

var table = []Option{
	{Long: "exclusive", Arg: Optional, ID: 1},
	{Long: "hold", Short: 'H', ID: 2},
	{Long: "kill-on-bad-exit", Short: 'K', Arg: Optional, ID: 3},
	{Long: "no-kill", Short: 'k', Arg: Optional, ID: 4},
	{Long: "nodelist", Short: 'w', Arg: Required, ID: 5},
	{Long: "nodes", Short: 'N', Arg: Required, ID: 6},
	{Long: "ntasks", Short: 'n', Arg: Required, ID: 7},
	{Long: "ntasks-per-node", Arg: Required, ID: 8},
	{Long: "verbose", Short: 'v', ID: 9},
}

func show(given []Given, operands []string, err error) string {
	if err != nil {
		return "! " + err.Error()
	}
	var out []string
	for _, g := range given {
		s := g.Long
		if g.Has {
			s += "=" + g.Value
		}
		out = append(out, s)
	}
	return strings.Join(out, " ") + " | " + strings.Join(operands, " ")
}

func TestParse(t *testing.T) {
	tests := []struct{ in, want string }{
		{"-N4 -n 8 cmd -x", "nodes=4 ntasks=8 | cmd -x"},
		{"--nodes=4 --ntasks 8 cmd", "nodes=4 ntasks=8 | cmd"},
		{"-Hvv -K0 cmd", "hold verbose verbose kill-on-bad-exit=0 | cmd"},
		{"-K 0", "kill-on-bad-exit | 0"},
		{"--exclusive user", "exclusive | user"},
		{"--exclusive=user", "exclusive=user | "},
		{"--exc", "exclusive | "},
		{"--ntasks-per=2", "ntasks-per-node=2 | "},
		{"-n -5", "ntasks=-5 | "},
		{"-k=foo", "no-kill==foo | "},
		{"-- -n", " | -n"},
		{"- x", " | - x"},
		{"--no=1", "! option '--no=1' is ambiguous; possibilities: '--no-kill' '--nodelist' '--nodes'"},
		{"--bogus=1", "! unrecognized option '--bogus=1'"},
		{"--hold=1", "! option '--hold' doesn't allow an argument"},
		{"--ntasks", "! option '--ntasks' requires an argument"},
		{"-n", "! option requires an argument -- 'n'"},
		{"-z", "! invalid option -- 'z'"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			if got := show(Parse(strings.Fields(tt.in), table, true)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	t.Run("options after operands", func(t *testing.T) {
		if got := show(Parse([]string{"a", "-n", "1", "b"}, table, false)); got != "ntasks=1 | a b" {
			t.Error(got)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("-N4\x00--exclusive\x00cmd")
	f.Add("--\x00-K0")
	f.Fuzz(func(t *testing.T, in string) {
		args := strings.Split(in, "\x00")
		given, operands, err := Parse(args, table, true)
		if err != nil {
			return
		}
		// Every operand is a word of the command line, in order at its end.
		if n := len(args) - len(operands); n < 0 || fmt.Sprint(args[n:]) != fmt.Sprint(operands) {
			t.Errorf("%q: operands %q", args, operands)
		}
		for _, g := range given {
			if g.Arg == Required && !g.Has || g.Arg == None && g.Has {
				t.Errorf("%q: %s has a value: %v", args, g.Long, g.Has)
			}
		}
	})
}

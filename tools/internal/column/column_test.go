package column

import (
	"bufio"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type rec struct{ name, time string }

var fields = Table[rec]{
	{Letter: 'j', Names: []string{"Name", "jobname"}, Header: "NAME", Value: func(r rec) string { return r.name }},
	{Letter: 'M', Names: []string{"TimeUsed"}, Header: "TIME", Value: func(r rec) string { return r.time }, Whole: true},
}

func lines(f Format[rec], rows ...rec) string {
	var b strings.Builder
	w := bufio.NewWriter(&b)
	f.WriteHeader(w)
	for _, r := range rows {
		f.WriteRow(w, r)
	}
	w.Flush()
	return b.String()
}

func TestLetters(t *testing.T) {
	row := rec{"simulation", "10-00:00:00"}
	tests := []struct{ spec, want, bad string }{
		{"%j", "NAME\nsimulation\n", ""},
		{"%.6j|", "  NAME|\nsimula|\n", ""},
		{"%12jx", "NAME        x\nsimulation  x\n", ""},
		{"%.4M", "TIME\n10-00:00:00\n", ""},
		{"%.2M", "TI\n10-00:00:00\n", ""},
		{"id=%j,", "id=NAME,\nid=simulation,\n", ""},
		{"help", "help\nhelp\n", ""},
		{"%", "\n\n", ""},
		{"%?%j", "NAME\nsimulation\n", "?"},
		{"%all", "NAME|TIME\nsimulation|10-00:00:00\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			var bad string
			f := ParseLetters(fields, tt.spec, func(s string) { bad += s })
			if got := lines(f, row); got != tt.want || bad != tt.bad {
				t.Errorf("got %q (bad %q), want %q (bad %q)", got, bad, tt.want, tt.bad)
			}
		})
	}
}

func TestNames(t *testing.T) {
	row := rec{"sim", "1:00"}
	tests := []struct{ spec, want, bad string }{
		{"name", "NAME                \nsim                 \n", ""},
		{"NAME:5,timeused:.6", "NAME   TIME\nsim    1:00\n", ""},
		{"jobname:2|", "NA|\nsi|\n", ""},
		{"nofield", "\n\n", "nofield"},
		{"nofield,name:4", "NAME\nsim \n", "nofield"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			var bad string
			f := ParseNames(fields, tt.spec, func(s string) { bad += s })
			if got := lines(f, row); got != tt.want || bad != tt.bad {
				t.Errorf("got %q (bad %q), want %q (bad %q)", got, bad, tt.want, tt.bad)
			}
		})
	}
}

func TestSort(t *testing.T) {
	keys, err := ParseSort(fields, "M,-j")
	if err != nil {
		t.Fatal(err)
	}
	a, b := rec{"a", "1"}, rec{"b", "1"}
	if Compare(keys, a, b) <= 0 || Compare(keys, b, a) >= 0 || Compare(keys, a, a) != 0 {
		t.Error("-j does not order names downwards")
	}
	if _, err := ParseSort(fields, "j,?"); err == nil {
		t.Error("an unknown letter was taken")
	}
}

// Every column is exactly as wide as asked for, whatever the value.
func TestWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 200).Draw(t, "width")
		right := rapid.Bool().Draw(t, "right")
		f := Format[rec]{{Field: &fields[0], Width: width, Right: right}}
		line, _, _ := strings.Cut(lines(f[:1], rec{name: rapid.StringMatching(`[a-zé ]*`).Draw(t, "name")})[width+1:], "\n")
		if n := len([]rune(line)); n != width {
			t.Fatalf("%d characters, want %d", n, width)
		}
	})
}

func FuzzLetters(f *testing.F) {
	f.Add("%.18i %.9P %all%")
	f.Add("%99999999999999999999j")
	f.Fuzz(func(t *testing.T, spec string) {
		lines(ParseLetters(fields, spec, func(string) {}), rec{"a", "b"})
		lines(ParseNames(fields, spec, func(string) {}), rec{"a", "b"})
		ParseSort(fields, spec)
	})
}

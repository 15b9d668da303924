package wlm

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestParseMiB(t *testing.T) {
	tests := []struct {
		in   string
		want MiB
		kind errs.Kind
	}{
		{in: "500", want: 500},
		{in: "0", want: 0},
		{in: "500M", want: 500},
		{in: "500mb", want: 500},
		{in: "1K", want: 1}, // rounds up
		{in: "1024k", want: 1},
		{in: "1025KB", want: 2},
		{in: "0K", want: 0},
		{in: "4G", want: 4096},
		{in: "4gB", want: 4096},
		{in: "2T", want: 2 << 20},
		{in: "18446744073709551615", want: 1<<64 - 1},
		{in: "12q", kind: errs.Invalid}, // observed
		{in: "1.5G", kind: errs.Invalid},
		{in: "", kind: errs.Invalid},
		{in: "G", kind: errs.Invalid},
		{in: "1B", kind: errs.Invalid},
		{in: "1GiB", kind: errs.Invalid},
		{in: "-1", kind: errs.Invalid},
		{in: "1 G", kind: errs.Invalid},
		{in: "18446744073709551615G", kind: errs.Invalid},
		{in: "18446744073709551616", kind: errs.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseMiB(tt.in)
			if errs.KindOf(err) != tt.kind || got != tt.want {
				t.Errorf("got %d, %v; want %d of kind %v", got, err, tt.want, tt.kind)
			}
		})
	}
}

func TestFormatSize(t *testing.T) {
	tests := []struct {
		n                  uint64
		unit               byte
		exact, scaled, raw string
	}{
		{500, 'M', "500M", "500M", "500M"},
		{8000, 'M', "8000M", "7.81G", "8000M"},
		{1100, 'M', "1100M", "1.07G", "1100M"},
		{2048, 'M', "2G", "2G", "2048M"},
		{5512, 'K', "5512K", "5.38M", "5512K"},
		{568492, 'K', "568492K", "555.17M", "568492K"},
		{1 << 20, 'M', "1T", "1T", "1048576M"},
		{0, 'M', "0M", "0M", "0M"},
	}
	for _, tt := range tests {
		a, b, c := FormatSize(tt.n, tt.unit, SizeExact), FormatSize(tt.n, tt.unit, SizeScaled), FormatSize(tt.n, tt.unit, SizeRaw)
		if a != tt.exact || b != tt.scaled || c != tt.raw {
			t.Errorf("%d%c: got %s, %s, %s", tt.n, tt.unit, a, b, c)
		}
	}
	if a, b := FormatMiB(0), FormatMiBScaled(0); a != "0" || b != "0" {
		t.Errorf("zero is %s and %s", a, b)
	}
	if a, b := FormatMiB(8000), FormatMiBScaled(8000); a != "8000M" || b != "7.81G" {
		t.Errorf("8000 is %s and %s", a, b)
	}
}

func TestMiBRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := MiB(rapid.Uint64Max(1<<43).Draw(t, "m")) // below 8 EiB, the largest that ParseMiB has a letter for
		if s := FormatMiB(m); s[len(s)-1] != 'P' && s[len(s)-1] != 'E' {
			if got, err := ParseMiB(s); err != nil || got != m {
				t.Fatalf("%q came back as %d, %v; want %d", s, got, err, m)
			}
		}
	})
}

func TestTRES(t *testing.T) {
	var none TRES
	tres := none.With("billing", 4).With("gres/gpu", 2).With("node", 2).With("cpu", 4).With("mem", 400).With("cpu", 5)
	const want = "cpu=5,mem=400M,node=2,billing=4,gres/gpu=2"
	if got := tres.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := FormatTRESByName(tres); got != "billing=4,cpu=5,gres/gpu=2,mem=400M,node=2" {
		t.Errorf("by name: %s", got)
	}
	sum := tres.Plus(none.With("mem", 624).With("license/x", 0).With("energy", 0))
	if got := FormatTRES(sum); got != "cpu=5,mem=1G,energy=0,node=2,billing=4,gres/gpu=2,license/x=0" {
		t.Errorf("sum: %s", got)
	}
	if got := FormatTRES(sum.NonZero()); got != "cpu=5,mem=1G,node=2,billing=4,gres/gpu=2" {
		t.Errorf("without zeros: %s", got)
	}
	if tres.String() != want || tres.Get("mem") != 400 || tres.Get("nope") != 0 {
		t.Error("the original changed")
	}
	for _, s := range []string{"cpu", "=1", "cpu=x", "mem=1Q", "cpu=1,"} {
		if _, err := ParseTRES(s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: error %v", s, err)
		}
	}
}

func FuzzParseTRES(f *testing.F) {
	f.Add("cpu=256,mem=32000M,node=4,billing=256")
	f.Add("gres/gpu:a100=2,mem=1T")
	f.Fuzz(func(t *testing.T, s string) {
		tres, err := ParseTRES(s)
		if err != nil {
			return
		}
		for _, c := range tres {
			if (c.Name == "mem" || c.Name == "vmem") && c.Count >= 1<<30 {
				return // printed with a unit that is never read
			}
		}
		text := FormatTRES(tres)
		again, err := ParseTRES(text)
		if err != nil || FormatTRES(again) != text {
			t.Fatalf("%q is %q, then %q, %v", s, text, again, err)
		}
	})
}

func FuzzParseMiB(f *testing.F) {
	f.Add("1025KB")
	f.Fuzz(func(t *testing.T, s string) { _, _ = ParseMiB(s) })
}

package wlm

import (
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestParseNodes(t *testing.T) {
	tests := []struct {
		in       string
		min, max uint32
		sizes    string
		print    string
	}{
		{"4", 4, 4, "", "4"},
		{"0", 0, 0, "", "0"}, // refused by the controller
		{"2-4", 2, 4, "", "2-4"},
		{"1k-2K", 1024, 2048, "", "1024-2048"},
		{"1m", 1 << 20, 1 << 20, "", "1048576"},
		{"1,5,9,13", 1, 13, "1-13:4", "1-13:4"},
		{"1-15:4", 1, 13, "1-13:4", "1-13:4"},
		{"1,2,3", 1, 3, "1-3", "1-3:1"},
		{"5,", 5, 5, "5", "5,5"},
		{"2,8-10", 2, 10, "2,8-10", "2,8-10"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			c, err := ParseNodes(tt.in)
			if err != nil || c.Min != tt.min || c.Max != tt.max || FormatArray(c.Sizes, 0) != tt.sizes || c.String() != tt.print {
				t.Errorf("got %+v (%s), %v", c, c, err)
			}
		})
	}
	c, _ := ParseNodes("1-15:4")
	if !c.Allows(5) || c.Allows(6) || c.Allows(17) {
		t.Error("1-15:4 allows the wrong counts")
	}
	bad := []struct{ in, say string }{
		{"ok.sh", `"ok.sh" is not a valid node count`}, // observed
		{"3-2", "Maximum node count 2 is less than minimum node count 3"},
		{"", `"" is not a valid node count`},
		{"-3", `"-3" is not a valid node count`},
		{"3-", `"3-" is not a valid node count`},
		{"k", `"k" is not a valid node count`},
		{"1-2-3", `"1-2-3" is not a valid node count`},
		{"0,1", `"0,1" is not a valid node count`},
		{"1-5:0", `"1-5:0" is not a valid node count`},
		{"1,2%3", `"1,2%3" is not a valid node count`},
		{"[1,2]", `"[1,2]" is not a valid node count`},
		{"4294967295m", `"4294967295m" is not a valid node count`},
	}
	for _, tt := range bad {
		if _, err := ParseNodes(tt.in); errs.KindOf(err) != errs.Invalid || err.Error() != tt.say {
			t.Errorf("%q: error %v", tt.in, err)
		}
	}
}

func FuzzParseNodes(f *testing.F) {
	for _, s := range []string{"1", "1-2k", "1,5", "1-15:4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseNodes(s)
		if err != nil {
			return
		}
		again, err := ParseNodes(c.String())
		if err != nil || again.String() != c.String() || again.Min != c.Min || again.Max != c.Max || (again.Sizes == nil) != (c.Sizes == nil) {
			t.Fatalf("%q is %s, then %s, %v", s, c, again, err)
		}
	})
}

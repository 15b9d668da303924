package wlm

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestFeaturesMatch(t *testing.T) {
	tests := []struct {
		in, active string
		want       bool
	}{
		{"", "", true},
		{"a", "a", true},
		{"a", "b", false},
		{"a&b", "a b", true},
		{"a&b", "a", false},
		{"a|b", "b", true},
		{"a|b&c", "a", true}, // & binds closer
		{"(a|b)&c", "a", false},
		{"(a|b)&c", "b c", true},
		{"[a|b]", "b", true},
		{"[a|b]", "c", false},
		{"[a|b]&c", "a", false},
		{"[a|b]&c", "a c", true},
		{"a*4", "b", true}, // only some nodes need it
		{"a*1&c", "c", true},
		{"a*1&c", "a", false},
		{"[a*2&b*4]", "a", true},
		{"[a*2&b*4]", "b", true},
		{"[a*2&b*4]", "c", false},
		{"[(a&b)*2&c*1]", "a", false},
		{"[(a&b)*2&c*1]", "a b", true},
		{" a & b ", "a b", true},
		{"a,b", "a b", true},
		{"a,b", "a", false},
		{"a,b|c", "c", true},
		{"(a&(b|(c&d)))", "a c d", true},
		{"(a&(b|(c&d)))", "a c", false},
		{"[(a&b)|c]", "a", false},
		{"ib:x-1.2", "ib:x-1.2", true},
	}
	for _, tt := range tests {
		e, err := ParseFeatures(tt.in)
		if err != nil || e.Match(strings.Fields(tt.active)) != tt.want {
			t.Errorf("%s on %q: %v, %v", tt.in, tt.active, !tt.want, err)
		}
	}
}

func TestParseFeaturesRefuses(t *testing.T) {
	for _, s := range []string{"&", "a&", "|a", "a||b", "(a", "a)", "[a", "a]", "[[a]]", "a*", "a*0", "a*x", "(a*2)*3", "a b", "a,,b", "a,", "()", "[]",
		"[a|b]*2", "!a", "a*99999999999", strings.Repeat("(", 1000), "a\n"} {
		_, err := ParseFeatures(s)
		if errs.CodeOf(err) != errs.InvalidFeature || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v", clip(s), err)
		}
	}
}

func TestFeatureParts(t *testing.T) {
	texts := func(es []*FeatureExpr) string {
		var out []string
		for _, e := range es {
			out = append(out, e.String())
		}
		return strings.Join(out, " ")
	}
	tests := []struct{ in, choices, counts, names string }{
		{"a&b", "a&b", "", "a b"},
		{"[rack1|rack2|(x&y)]&gpu", "rack1&gpu rack2&gpu (x&y)&gpu", "", "gpu rack1 rack2 x y"},
		{"[a|b]&[c|d]", "a&c a&d b&c b&d", "", "a b c d"},
		{"x|[a|b]", "x|a x|b", "", "a b x"},
		{"[(a&b)|c]", "a&b c", "", "a b c"},
		{"[a*2|b*3]", "[a*2] [b*3]", "a*2 b*3", "a b"},
		{"[a]", "a", "", "a"},
		{"[a*2&b*4]", "[a*2&b*4]", "a*2 b*4", "a b"},
		{"graphics*4&fast", "graphics*4&fast", "graphics*4", "fast graphics"},
		{"(k&s)*4&h*1", "(k&s)*4&h*1", "(k&s)*4 h*1", "h k s"},
	}
	for _, tt := range tests {
		e, err := ParseFeatures(tt.in)
		if err != nil || texts(e.Alternatives()) != tt.choices || texts(e.Counts()) != tt.counts || strings.Join(e.Names(), " ") != tt.names {
			t.Errorf("%s: choices %q, counts %q, names %q, %v", tt.in, texts(e.Alternatives()), texts(e.Counts()), e.Names(), err)
		}
	}
	e, _ := ParseFeatures("(k&s)*4")
	if p := e.Counts()[0].Plain(); !p.Match([]string{"k", "s"}) || p.Match([]string{"k"}) || e.Count != 4 {
		t.Error("Plain does not match as the term without its count")
	}
	var none *FeatureExpr
	if none.String() != "" || none.Names() != nil || none.Alternatives() != nil || none.Counts() != nil || none.Plain() != nil {
		t.Error("nil has parts")
	}
}

func TestFeaturesRoundTrip(t *testing.T) {
	var expr func(depth int) *rapid.Generator[*FeatureExpr]
	expr = func(depth int) *rapid.Generator[*FeatureExpr] {
		return rapid.Custom(func(t *rapid.T) *FeatureExpr {
			op := FeatureName
			if depth > 0 {
				op = rapid.SampledFrom([]FeatureOp{FeatureName, FeatureAnd, FeatureOr}).Draw(t, "op")
			}
			if op == FeatureName {
				return &FeatureExpr{Name: rapid.SampledFrom([]string{"a", "b", "gpu"}).Draw(t, "name"), Count: rapid.Uint32Range(0, 2).Draw(t, "count")}
			}
			return &FeatureExpr{Op: op, Args: rapid.SliceOfN(expr(depth-1), 2, 3).Draw(t, "args")}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		e := expr(3).Draw(t, "e")
		s := e.String()
		got, err := ParseFeatures(s)
		if err != nil || got.String() != s || !slices.Equal(got.Names(), e.Names()) || len(got.Counts()) != len(e.Counts()) {
			t.Fatalf("%s came back as %s, %v", s, got, err)
		}
		for _, active := range [][]string{nil, {"a"}, {"b"}, {"a", "gpu"}} {
			if got.Match(active) != e.Match(active) {
				t.Fatalf("%s matches %v differently after it was printed", s, active)
			}
		}
	})
}

func FuzzParseFeatures(f *testing.F) {
	for _, s := range []string{"a&b|c", "[a|b]&(c|d)", "[a*2&b*3]", "(k&s)*4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseFeatures(s)
		if err != nil {
			return
		}
		e.Match([]string{"a"})
		text := e.String()
		again, err := ParseFeatures(text)
		if err != nil || again.String() != text {
			t.Fatalf("%q is %q, then %s, %v", s, text, again, err)
		}
	})
}

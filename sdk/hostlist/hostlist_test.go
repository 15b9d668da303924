package hostlist

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestExpand(t *testing.T) {
	tests := []struct {
		in   string
		want string // space separated
	}{
		{"", ""},
		{" , ,", ""},
		{"n1", "n1"},
		{"login", "login"},
		{"n[1-3,7]", "n1 n2 n3 n7"},
		{"n[01-03,10]", "n01 n02 n03 n10"},
		{"n[08-11]", "n08 n09 n10 n11"},
		{"n[9-10]", "n9 n10"},
		{"n[098-101]", "n098 n099 n100 n101"},
		{"n3,n1,n1", "n3 n1 n1"},
		{"n1 n2,n3\tn4\n", "n1 n2 n3 n4"},
		{"n[1-2]-ib", "n1-ib n2-ib"},
		{"a[0-1]b[2-3]", "a0b2 a0b3 a1b2 a1b3"},
		{"a[0-1]b[2-3]c", "a0b2c a0b3c a1b2c a1b3c"},
		{"r[1-2][01-02]", "r101 r102 r201 r202"},
		{"[1-2]", "1 2"},
		{"n1[2-3]", "n12 n13"},
		{"n[1, 3]", "n1 n3"},
		{"a[1-2],b,c[5]", "a1 a2 b c5"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Expand(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
			if n, err := Count(tt.in); n != len(got) || err != nil {
				t.Errorf("Count is %d, %v; want %d", n, err, len(got))
			}
		})
	}
}

func TestExpandRefuses(t *testing.T) {
	tests := []struct{ in, say string }{
		{"n[1-3", `"[" without "]"`},
		{"n1-3]", `"]" without "["`},
		{"n[1]]", `"]" without "["`},
		{"n[[1]]", `"[1"`},
		{"n[]", `""`},
		{"n[1,,3]", `""`},
		{"n[3-1]", "backwards"},
		{"n[a-b]", `"a-b"`},
		{"n[1-2-3]", `"1-2-3"`},
		{"n[-3]", `"-3"`},
		{"n[1-65537]", "more than 65536 hosts"},
		{"n[1-1234567890123456789]", "18 digits"},
		{"a[1-65536]b[1-65536]", "more than 1048576 hosts"},
		{"a[1-65536,1-2]b[1]c[1]", "more than 65536 prefixes"},
		{strings.Repeat("n[1-65536],", 17), "the list has more than"},
	}
	for _, tt := range tests {
		t.Run(tt.say, func(t *testing.T) {
			_, err := Expand(tt.in)
			if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("error %v does not say %q", err, tt.say)
			}
			if len(err.Error()) > 250 || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is not one line: %v", err)
			}
		})
	}
}

func TestCompress(t *testing.T) {
	tests := []struct{ in, want, ordered string }{
		{"", "", ""},
		{"n1", "n1", "n1"},
		{"n1 n2 n3 n9", "n[1-3,9]", "n[1-3,9]"},
		{"n3 n1 n2 n1", "n[1-3]", "n[3,1-2,1]"},
		{"n10 n01 n02 n03", "n[01-03,10]", "n[10,01-03]"},
		{"n9 n10", "n[9-10]", "n[9-10]"},
		{"n09 n10", "n[09-10]", "n[09-10]"},
		{"n099 n100", "n[099-100]", "n[099-100]"},
		{"n1 n01", "n[1,01]", "n[1,01]"},
		{"n2 n10 n1", "n[1-2,10]", "n[2,10,1]"},
		{"b1 a1 login b2", "a1,b[1-2],login", "b1,a1,login,b2"},
		{"n1 n n2", "n,n[1-2]", "n1,n,n2"},
		{"n1-ib n2-ib", "n1-ib,n2-ib", "n1-ib,n2-ib"},
		{"a0b2 a0b3 a1b2", "a0b[2-3],a1b2", "a0b[2-3],a1b2"},
		{"1 2", "[1-2]", "[1-2]"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			hosts := strings.Fields(tt.in)
			before := slices.Clone(hosts)
			if got := Compress(hosts); got != tt.want {
				t.Errorf("Compress is %q, want %q", got, tt.want)
			}
			if got := CompressOrdered(hosts); got != tt.ordered {
				t.Errorf("CompressOrdered is %q, want %q", got, tt.ordered)
			}
			if !slices.Equal(hosts, before) {
				t.Errorf("the argument changed to %q", hosts)
			}
		})
	}
}

// A run longer than a range may be is printed as two, so that it can be read.
func TestCompressLongRun(t *testing.T) {
	var hosts []string
	for i := range 100_000 {
		hosts = append(hosts, fmt.Sprintf("n%d", i+1))
	}
	const want = "n[1-65536,65537-100000]"
	if got := Compress(hosts); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	got, err := Expand(want)
	if err != nil || !slices.Equal(got, hosts) {
		t.Errorf("%d hosts came back, error %v", len(got), err)
	}
}

func TestSet(t *testing.T) {
	s, err := Parse("n[1-3]")
	if err != nil {
		t.Fatal(err)
	}
	s.Add("n10", "n2")
	s.Remove("n1", "nope")
	u := s.Union(New("a1"))
	u.Remove("n3")
	if got := s.String(); got != "n[2-3,10]" || s.Len() != 3 {
		t.Errorf("s is %q with %d hosts", got, s.Len())
	}
	if got := slices.Collect(u.All()); !slices.Equal(got, []string{"a1", "n2", "n10"}) {
		t.Errorf("u is %q", got)
	}
	if !s.Has("n3") || s.Has("n1") {
		t.Error("wrong members")
	}
	var none *Set
	if none.Has("n1") || none.Len() != 0 || none.String() != "" || none.Union(s).Len() != 3 {
		t.Error("a nil set is not empty")
	}
	if _, err := Parse("n["); err == nil {
		t.Error("no error for n[")
	}
}

var hostGen = rapid.StringMatching(`[a-c](-|[0-9]){0,3}[a-c]?[0-9]{0,20}`)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOf(hostGen).Draw(t, "hosts")
		ordered := CompressOrdered(hosts)
		got, err := Expand(ordered)
		if err != nil || !slices.Equal(got, hosts) && len(hosts) > 0 {
			t.Fatalf("%q came back as %q, error %v", ordered, got, err)
		}
		if split := strings.Join(Split(ordered), ","); split != ordered {
			t.Fatalf("Split cut %q to %q", ordered, split)
		}
		sorted := slices.SortedFunc(slices.Values(hosts), Compare)
		sorted = slices.Compact(sorted)
		list := Compress(hosts)
		got, err = Expand(list)
		if err != nil || !slices.Equal(got, sorted) && len(sorted) > 0 {
			t.Fatalf("%q came back as %q, want %q, error %v", list, got, sorted, err)
		}
		if again := Compress(got); again != list {
			t.Fatalf("printed as %q, then as %q", list, again)
		}
	})
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "n1", "n[1-3,7]", "a[0-1]b[2-3]", "n[01-03,10] x", "n[1-65536]", "n[", "]", "n[1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Count(s)
		if err != nil || n > 100_000 {
			return
		}
		hosts, err := Expand(s)
		if err != nil || len(hosts) != n {
			t.Fatalf("%d hosts, counted %d, error %v", len(hosts), n, err)
		}
		again, err := Expand(CompressOrdered(hosts))
		if err != nil || !slices.Equal(again, hosts) {
			t.Fatalf("%q came back as %q, error %v", hosts, again, err)
		}
	})
}

func benchHosts() []string {
	hosts, err := Expand("nid[000001-050000],nid[050001-100000]")
	if err != nil {
		panic(err)
	}
	return hosts
}

func BenchmarkExpand100k(b *testing.B) {
	for b.Loop() {
		benchHosts()
	}
}

func BenchmarkCompress100k(b *testing.B) {
	hosts := benchHosts()
	for b.Loop() {
		Compress(hosts)
	}
}

// The hosts come in an order that no run survives, the worst for sorting.
func BenchmarkCompress100kShuffled(b *testing.B) {
	hosts := benchHosts()
	mixed := make([]string, len(hosts))
	for i := range mixed {
		mixed[i] = hosts[i*7919%len(hosts)]
	}
	for b.Loop() {
		Compress(mixed)
	}
}

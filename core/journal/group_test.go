package journal

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/sdk/proto/event/v1"
)

// voter is a controller of a test's group.
type voter struct {
	*Journal
	words *words
}

// Image implements Imager.
func (w *words) Image() Image { return &words{said: append([]string(nil), w.said...)} }

// party is a group of voters on loopback ports.
type party struct {
	t       *testing.T
	dir     string
	members []Member
	at      map[string]*net.TCPListener
}

func newParty(t *testing.T, names ...string) *party {
	p := &party{t: t, dir: t.TempDir(), at: map[string]*net.TCPListener{}}
	for _, n := range names {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		p.at[n] = l
		p.members = append(p.members, Member{n, l.Addr().String()})
	}
	return p
}

// start opens a member's journal; a second start takes its port again.
func (p *party) start(name string) *voter {
	p.t.Helper()
	l := p.at[name]
	if l == nil {
		for _, m := range p.members {
			if m.Name == name {
				a, err := net.ResolveTCPAddr("tcp", m.Addr)
				if err != nil {
					p.t.Fatal(err)
				}
				if l, err = net.ListenTCP("tcp", a); err != nil {
					p.t.Fatal(err)
				}
			}
		}
	}
	p.at[name] = nil
	var d net.Dialer
	w := &words{}
	j, err := Open(Options{Dir: filepath.Join(p.dir, name), ID: name, Group: &Group{Members: p.members, Accept: l,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }}}, w)
	if err != nil {
		p.t.Fatal(err)
	}
	return &voter{j, w}
}

// leader waits until one of the voters leads.
func leader(t *testing.T, voters ...*voter) *voter {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	first := make(chan *voter, len(voters))
	for _, v := range voters {
		go func() {
			if v.Lead(ctx) == nil {
				first <- v
			}
		}()
	}
	select {
	case v := <-first:
		return v
	case <-ctx.Done():
		t.Fatal("nobody leads")
		return nil
	}
}

func TestThreeVoters(t *testing.T) {
	p := newParty(t, "a", "b", "c")
	a, b, c := p.start("a"), p.start("b"), p.start("c")
	all := map[*voter]bool{a: true, b: true, c: true}
	first := leader(t, a, b, c)
	for i := range 50 {
		say(t, first.Journal, first.words, fmt.Sprint("word ", i))
	}
	said, term := fmt.Sprint(first.words.said), first.Term()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Append(&eventv1.Batch{}); err == nil {
		t.Error("a closed leader still appends")
	}
	select {
	case <-first.Lost():
	case <-time.After(10 * time.Second):
		t.Error("the leader did not hear that it leads no longer")
	}
	delete(all, first)
	var rest []*voter
	for v := range all {
		rest = append(rest, v)
	}
	second := leader(t, rest...)
	if got := fmt.Sprint(second.words.said); got != said {
		t.Errorf("the second leader knows %s, want %s", got, said)
	}
	if second.Term() <= term {
		t.Errorf("the second leader's term %d is not above the first's", second.Term())
	}
	say(t, second.Journal, second.words, "after")
	for _, v := range rest {
		v.Close() //nolint:errcheck // the test is over
	}
}

// A founder that lost its disk does not found a second group.
func TestAFounderWithoutItsDiskIsNotFollowed(t *testing.T) {
	p := newParty(t, "a", "b", "c")
	a, b, c := p.start("a"), p.start("b"), p.start("c")
	first := leader(t, a, b, c)
	say(t, first.Journal, first.words, "kept")
	for _, v := range []*voter{a, b, c} {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(p.dir, "a")); err != nil {
		t.Fatal(err)
	}
	a, b = p.start("a"), p.start("b")
	got := leader(t, a, b)
	if got == a && len(a.words.said) == 0 {
		t.Error("the empty founder leads")
	}
	if fmt.Sprint(got.words.said) != "[kept]" {
		t.Errorf("the leader knows %v, want [kept]", got.words.said)
	}
	a.Close() //nolint:errcheck // the test is over
	b.Close() //nolint:errcheck // the test is over
}

// A lone controller becomes the first of three, and keeps what it has.
func TestALoneVoterGetsCompany(t *testing.T) {
	p := newParty(t, "a", "b", "c")
	w := &words{}
	j, err := Open(Options{Dir: filepath.Join(p.dir, "a"), ID: "a"}, w)
	if err != nil {
		t.Fatal(err)
	}
	say(t, j, w, "alone")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	a, b, c := p.start("a"), p.start("b"), p.start("c")
	if leader(t, a) != a {
		t.Fatal("another leads")
	}
	say(t, a.Journal, a.words, "together")
	for end := time.Now().Add(20 * time.Second); len(a.raft.GetConfiguration().Configuration().Servers) < 3; {
		if time.Now().After(end) {
			t.Fatal("the others were not added")
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := a.raft.Barrier(10 * time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	second := leader(t, b, c)
	if got := fmt.Sprint(second.words.said); got != "[alone together]" {
		t.Errorf("the second leader knows %s", got)
	}
	b.Close() //nolint:errcheck // the test is over
	c.Close() //nolint:errcheck // the test is over
	if _, err := Open(Options{Dir: filepath.Join(p.dir, "a"), ID: "a"}, &words{}); err == nil {
		t.Error("one of three opened alone")
	}
}

// A host that has another name now finds its journal all the same.
func TestARenamedHost(t *testing.T) {
	dir := t.TempDir()
	j, w := open(t, dir, false)
	say(t, j, w, "kept")
	j.Close()
	got := &words{}
	j, err := Open(Options{Dir: dir, ID: "there"}, got)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if fmt.Sprint(got.said) != "[kept]" {
		t.Errorf("after the change of name: %v", got.said)
	}
}

func TestClear(t *testing.T) {
	dir := t.TempDir()
	j, w := open(t, dir, false)
	say(t, j, w, "gone soon")
	if _, err := Open(Options{Dir: dir, ID: "here", Clear: true}, &words{}); err == nil {
		t.Error("a journal in use was cleared")
	}
	j.Close()
	got := &words{}
	j, err := Open(Options{Dir: dir, ID: "here", Clear: true}, got)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if len(got.said) != 0 {
		t.Errorf("after -c: %v", got.said)
	}
}

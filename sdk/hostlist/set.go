package hostlist

import (
	"iter"
	"maps"
	"slices"
)

// Set is a set of hosts, made by [New] or [Parse]. Not for concurrent use
// while it changes.
type Set struct{ hosts map[string]struct{} }

// New makes a set of hosts, each a single name.
func New(hosts ...string) *Set {
	s := &Set{make(map[string]struct{}, len(hosts))}
	s.Add(hosts...)
	return s
}

// Parse makes the set of the hosts that list names.
func Parse(list string) (*Set, error) {
	hosts, err := Expand(list)
	if err != nil {
		return nil, err
	}
	return New(hosts...), nil
}

// Has reports whether host is in the set. A nil set is empty.
func (s *Set) Has(host string) bool {
	if s == nil {
		return false
	}
	_, ok := s.hosts[host]
	return ok
}

// Add puts hosts into the set.
func (s *Set) Add(hosts ...string) {
	for _, h := range hosts {
		s.hosts[h] = struct{}{}
	}
}

// Remove takes hosts out of the set; those that are not there do not matter.
func (s *Set) Remove(hosts ...string) {
	for _, h := range hosts {
		delete(s.hosts, h)
	}
}

// Union returns a new set of the hosts of both.
func (s *Set) Union(t *Set) *Set {
	u := &Set{make(map[string]struct{}, s.Len()+t.Len())}
	for _, from := range []*Set{s, t} {
		if from != nil {
			maps.Copy(u.hosts, from.hosts)
		}
	}
	return u
}

// Len is the number of hosts. A nil set is empty.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.hosts)
}

// All yields the hosts in the order of [Compare].
func (s *Set) All() iter.Seq[string] {
	return slices.Values(s.sorted())
}

// String prints the set as [Compress] does.
func (s *Set) String() string { return Compress(s.sorted()) }

func (s *Set) sorted() []string {
	if s == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(s.hosts), Compare)
}

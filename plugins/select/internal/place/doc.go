// Package place chooses nodes, cores and memory for the jobs of an agenda. It
// is the engine that select/cons_tres and select/linear share.
//
// An [Engine] is a selector.Selector. Each call derives the present use of
// every node from the view's running jobs and works on that copy, so a call
// that goes wrong leaves nothing behind. What depends only on nodes,
// partitions and classes is kept between calls in a table, which is dropped
// when one of them changes.
//
// The unit of allocation is the core (the socket with CR_Socket, the node in
// linear mode). A node's cores are a mask of bits; CPU n is thread n%threads
// of core n/threads.
//
// Jobs of the same class, duration and (where it matters) user share a shape.
// Resources only shrink during a pass, so a shape keeps a bitmap of the nodes
// that may still serve it: bits are cleared for good once a node failed, and a
// shape that failed in a partition is not tried there again.
//
// Time is planned in spans: what a running job, a job started in this pass, or
// a claim (the future start of a Reserve entry) holds of a node from a start
// to an end. Invariants: no two spans of a node share a core at any moment,
// their memory never exceeds the node's, and no placement overlaps a claim in
// time on the resources that the claim holds. Hence a later job never delays a
// claim, as long as jobs end when their limit says.
package place

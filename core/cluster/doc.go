// Package cluster is the truth about a cluster as one pure value.
//
// [Cluster.Apply] takes a [Command] and makes [Event]s; it has no policy, no
// clock and no socket, so the same commands always make the same events. Each
// event carries the whole new record of what it changed: applying an event is
// putting that record into its table ([Tables.Put]), and replaying a journal is
// putting all of them. Readers, plugins and accounting listen to the same events.
//
// There is a file per verb. A verb validates first and changes after, so a
// command that returns an error has changed nothing.
//
// Invariants, held by Put and checked by [Tables.Check]:
//
//   - no CPU and no MiB of a node is held by two jobs, unless sharing allows it;
//   - a job holds its share of a node from its start until that node reported it
//     clean, or is down;
//   - ids are never used twice;
//   - a job's outcome is written once: the first cause wins.
//
// One goroutine owns a Cluster (see core/ctl); nothing here locks. Records
// (*wlm.Job and so on) are immutable once put and may be shared freely.
package cluster

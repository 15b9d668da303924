// Package sim runs a whole cluster in one goroutine: the real core
// (core/cluster, core/pass) and whatever plugins it is given, under virtual time
// and with virtual nodes.
//
// A [Trace] says when which job is submitted, what it asks for and how long it
// would run. [Run] replays it. Time jumps from one moment at which something
// happens to the next; at each, in this order, runs end, jobs are submitted,
// limits run out, and passes are taken until none has cause. Virtual nodes
// accept every launch and report its end in the same second.
//
// The same trace, configuration and plugins give the same [Result], but for the
// times that passes took.
//
// Invariants, checked after every step by books of the simulator's own: no CPU
// and no MiB is given twice or to a node that does not have it, no job starts
// before it was submitted, twice, or without being asked for, none outlives its
// limit, and at the end none is lost. A violation ends the run with an error.
package sim

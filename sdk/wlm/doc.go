// Package wlm holds the nouns of a workload manager: jobs, steps, nodes,
// partitions, and the small types they are made of.
//
// The words are Slurm's. Records ([Job], [Node], [Partition], [Step]) are
// immutable once published: whoever wants another value clones the record,
// changes the clone and publishes that. Readers may therefore share pointers
// without locks. Times are whole seconds, memory is MiB, limits are minutes
// where Slurm's are.
//
// Package sdk/wire turns records into their protobuf form and back.
package wlm

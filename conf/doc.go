// Package conf turns slurm.conf, or the same keys in YAML, TOML or JSON, into
// typed values.
//
// [Load] reads a file through viper with the codec of package slurmconf
// registered for slurm.conf's own syntax; the file's extension decides. What
// a key may hold is in one table, keys.tsv, with a row for every key that
// Slurm knows: type, default, unit, one line of doc, and whether Sluice acts
// on it. The reference manual is generated from the same rows.
//
// Invariants. A [Config] is complete: every field has the file's value or the
// default, node and partition records have their DEFAULT lines applied and
// their lists expanded. It is immutable once loaded; a reload makes a new one
// and [Diff] says what changed and what of that needs a restart.
//
// Failure. All mistakes of a file come back at once, as slurmconf.Problems,
// one "file:line: Key: what is wrong, what is allowed" each. What Slurm
// accepts and ignores, such as obsolete keys, is a [Warning] instead.
package conf

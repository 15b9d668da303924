// Package slurmconf reads and prints the syntax of slurm.conf: lines of
// Key=Value, comments, continuation, Include, and records such as
//
//	NodeName=n[1-4] CPUs=8 RealMemory=16000
//
// It knows the syntax and not the keys: whether a key exists and what its
// value may be is the business of package conf. Short-lived commands, which
// need four or five values, use [LoadClient] and so never load that table;
// that is why this package imports neither viper nor anything big.
//
// Rules. A "#" starts a comment, except inside a quoted value or after a
// backslash. A backslash at the end of a line joins the next line. Keys have
// no case. A value is a run without blanks, or anything between two double
// quotes. A record keyword ([IsRecord]) takes the rest of its line as its
// options; several ordinary pairs may share a line. "Include path" splices
// another file in; a relative path starts at the directory of the first file,
// and %c stands for the ClusterName read so far.
//
// Every value keeps the file and line it came from. All mistakes of a file
// are reported together, as [Problems]; what could be read is returned too.
package slurmconf

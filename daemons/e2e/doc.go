// Package e2e tests whole clusters of built binaries: it starts them as sluice
// up does, uses them through the commands, and kills what it likes.
//
// The binaries are those of build/ (make build), of $SLUICE_PREFIX when it is
// set, or, when there are none, built first. Each test has its own directory,
// ports and processes, and ends them; a test that fails prints the end of
// every log. $E2E_SEED repeats the random choices of a run,
// $E2E_STORM=n kills n times as often.
package e2e

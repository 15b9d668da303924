// Package lint holds the rules of the house as tests, so that a rule that is
// broken names itself, the place, and what to write instead.
//
// The rules read the tree with go list, the parser and git; they never change
// it. Results that go test would cache are wrong here: run with -count=1, as
// make lint does. A rule whose tool is missing is skipped with a printed reason.
package lint

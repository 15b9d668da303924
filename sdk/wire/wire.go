// Package wire turns the nouns of sdk/wlm into their protobuf messages and
// back. The converters are generated (make gen); they share what is immutable
// and copy only what differs in type.
package wire

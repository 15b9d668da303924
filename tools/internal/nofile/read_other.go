//go:build !amd64 && !arm64

package nofile

func read(*[2]uint64) bool { return false }

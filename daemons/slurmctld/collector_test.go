package main

import "testing"

func TestShareOfTheHeap(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, spareShare},
		{10 << 20, spareShare},
		{spareBytes, 100},
		{2 * spareBytes, 50},
		{100 * spareBytes, leastShare},
	} {
		if got := share(tt.live); got != tt.want {
			t.Errorf("share(%d MiB) = %d, want %d", tt.live>>20, got, tt.want)
		}
	}
}

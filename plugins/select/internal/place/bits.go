package place

import "math/bits"

// bitmap is a set of slots, all bitmaps of a table having the same length.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) set(i int32)      { b[i>>6] |= 1 << (i & 63) }
func (b bitmap) clear(i int32)    { b[i>>6] &^= 1 << (i & 63) }
func (b bitmap) has(i int32) bool { return b[i>>6]&(1<<(i&63)) != 0 }

func (b bitmap) and(c bitmap) {
	for i := range b {
		b[i] &= c[i]
	}
}

func (b bitmap) or(c bitmap) {
	for i := range b {
		b[i] |= c[i]
	}
}

func (b bitmap) andNot(c bitmap) {
	for i := range b {
		b[i] &^= c[i]
	}
}

func (b bitmap) count() int { return count(b) }

// countAnd is the size of the intersection.
func (b bitmap) countAnd(c bitmap) int {
	n := 0
	for i := range b {
		n += bits.OnesCount64(b[i] & c[i])
	}
	return n
}

// next is the first member at or after i, or -1.
func (b bitmap) next(i int32) int32 {
	w := int(i >> 6)
	if w >= len(b) {
		return -1
	}
	x := b[w] &^ (1<<(i&63) - 1)
	for x == 0 {
		if w++; w >= len(b) {
			return -1
		}
		x = b[w]
	}
	return int32(w<<6 + bits.TrailingZeros64(x))
}

// runEnd is where the run of members that begins at i ends: at the next slot
// that is not a member or is in breaks, at most at limit.
func (b bitmap) runEnd(i, limit int32, breaks bitmap) int32 {
	i++
	if i >= limit {
		return limit
	}
	w := int(i >> 6)
	x := (^b[w] | breaks[w]) &^ (1<<(i&63) - 1)
	for x == 0 {
		if w++; w >= len(b) {
			return limit
		}
		x = ^b[w] | breaks[w]
	}
	return min(limit, int32(w<<6+bits.TrailingZeros64(x)))
}

func count(mask []uint64) int {
	n := 0
	for _, w := range mask {
		n += bits.OnesCount64(w)
	}
	return n
}

// ones calls yield with each member of mask in rising order.
func ones(mask []uint64, yield func(int32)) {
	for i, w := range mask {
		for ; w != 0; w &= w - 1 {
			yield(int32(i<<6 + bits.TrailingZeros64(w)))
		}
	}
}

// countRange is the number of members from lo up to hi.
func countRange(mask []uint64, lo, hi int32) int {
	n := 0
	for w := lo >> 6; w <= (hi-1)>>6 && lo < hi; w++ {
		n += bits.OnesCount64(mask[w] & rangeOf(w, lo, hi))
	}
	return n
}

// clearRange takes lo up to hi out of mask.
func clearRange(mask []uint64, lo, hi int32) {
	for w := lo >> 6; w <= (hi-1)>>6 && lo < hi; w++ {
		mask[w] &^= rangeOf(w, lo, hi)
	}
}

// rangeOf is word w of the set lo..hi-1.
func rangeOf(w, lo, hi int32) uint64 {
	x := ^uint64(0)
	if w == lo>>6 {
		x &^= 1<<(lo&63) - 1
	}
	if w == (hi-1)>>6 {
		x &= ^uint64(0) >> (63 - (hi-1)&63)
	}
	return x
}

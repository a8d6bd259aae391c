// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// bitset is a set of small numbers.
type bitset []uint64

func (b bitset) has(n uint32) bool { return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0 }

// set puts n into the set, or takes it out.
func (b *bitset) set(n uint32, in bool) {
	for in && int(n/64) >= len(*b) {
		*b = append(*b, 0)
	}
	switch {
	case in:
		(*b)[n/64] |= 1 << (n % 64)
	case int(n/64) < len(*b):
		(*b)[n/64] &^= 1 << (n % 64)
	}
}

// all returns the numbers in the set, in ascending order.
func (b bitset) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, word := range b {
			for ; word != 0; word &= word - 1 {
				if !yield(uint32(64*i + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// summaries hold a few numbers about each endpoint. One goroutine writes them, any may read them.
type summaries struct{ all []atomic.Uint32 }

// grown returns summaries with room for n, the same ones if they have it.
func (s *summaries) grown(n uint32) *summaries {
	if s != nil && int(n) < len(s.all) {
		return s
	}
	more := &summaries{all: make([]atomic.Uint32, max(64, n+n/4+1))}
	if s != nil {
		for i := range s.all {
			more.all[i].Store(s.all[i].Load())
		}
	}
	return more
}

func (s *summaries) get(n uint32) uint32 {
	if s == nil || int(n) >= len(s.all) {
		return 0
	}
	return s.all[n].Load()
}

func (s *summaries) set(n, summary uint32) { s.all[n].Store(summary) }

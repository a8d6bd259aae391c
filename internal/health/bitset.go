// SPDX-License-Identifier: Apache-2.0

package health

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// bitset is a set of small numbers. Safe for one writer and any number of readers.
type bitset struct {
	words atomic.Pointer[[]atomic.Uint64]
}

// has reports whether n is in the set.
func (s *bitset) has(n uint32) bool {
	words := s.words.Load()
	return words != nil && int(n/64) < len(*words) && (*words)[n/64].Load()&(1<<(n%64)) != 0
}

// add puts n into the set.
func (s *bitset) add(n uint32) {
	s.grow(int(n/64) + 1)
	(*s.words.Load())[n/64].Or(1 << (n % 64))
}

// remove takes n out of the set. n must be in it.
func (s *bitset) remove(n uint32) { (*s.words.Load())[n/64].And(^uint64(1 << (n % 64))) }

// grow makes room for some words. Readers may still use the old ones.
func (s *bitset) grow(words int) {
	before := s.words.Load()
	if before == nil {
		before = new([]atomic.Uint64)
	}
	if words <= len(*before) {
		return
	}
	more := make([]atomic.Uint64, max(words, 2*len(*before)))
	for i := range *before {
		more[i].Store((*before)[i].Load())
	}
	s.words.Store(&more)
}

// all returns the numbers in the set, in ascending order.
func (s *bitset) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		words := s.words.Load()
		if words == nil {
			return
		}
		for i := range *words {
			for word := (*words)[i].Load(); word != 0; word &= word - 1 {
				if !yield(uint32(64*i + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import "slices"

// sample chooses who answers behind the lead where an answer holds fewer members than there are,
// so that all appear in proportion to their weights and none twice. It is systematic sampling with
// unequal probabilities (Madow: On the theory of systematic sampling II, Annals of Mathematical
// Statistics 20, 1949): the members lie on a circle, each as long as its weight, and places that
// stand equally far apart, counted from the lead's, tell who answers.
//
// A member whose share of the places is one an answer or more is in every answer. Where there is
// none such, every member appears in exactly wanted * weight/gcd of any W/gcd answers; else the
// others share the places left in proportion to their weights, exactly in the long run: over so
// many cycles as the weights of the others sum up to. Immutable.
type sample struct {
	always []uint16 // members that are in every answer, heaviest first
	others []uint16 // the rest, as they lie on the circle
	first  []uint64 // of every other, its first cell on the circle, and the circle's length
	spread []spread // of every other, over its cells; then, over the circle
	places uint64   // on the circle, in each answer
	leads  uint64   // of those that are always in, in a cycle
	before []uint64 // of each of those, the leads of those before it
	on     []int    // of every member, its index in others; of those that are always in, -1 - that in always
}

// newSample prepares the choice of wanted members, given every member's first cell.
func newSample(first []uint64, wanted int) *sample {
	members := len(first) - 1
	weight := func(m uint16) uint64 { return first[m+1] - first[m] }
	s := &sample{on: make([]int, members), places: uint64(wanted)} //nolint:gosec // positive
	byWeight := inTurn(members)
	slices.SortStableFunc(byWeight, func(a, b uint16) int { return int(weight(b)) - int(weight(a)) }) //nolint:gosec // 16 bits
	left := first[members]
	for s.places > 1 && weight(byWeight[0])*s.places >= left {
		heaviest := byWeight[0]
		left -= weight(heaviest)
		s.places--
		s.on[heaviest] = -1 - len(s.always)
		s.always, byWeight = append(s.always, heaviest), byWeight[1:]
		s.before = append(s.before, s.leads)
		s.leads += weight(heaviest)
	}
	s.others = slices.Sorted(slices.Values(byWeight))
	s.first = make([]uint64, len(s.others)+1)
	for i, m := range s.others {
		s.on[m] = i
		s.first[i+1] = s.first[i] + weight(m)
		s.spread = append(s.spread, newSpread(weight(m)))
	}
	s.spread = append(s.spread, newSpread(left))
	return s
}

// inTurn returns 0, 1, 2, ... n-1.
func inTurn(n int) []uint16 {
	all := make([]uint16, n)
	for i := range all {
		all[i] = uint16(i) //nolint:gosec // at most maxRecords
	}
	return all
}

// order fills idx with the lead, whose nth lead this is in a round of the cycle, and those who
// answer behind it.
func (s *sample) order(round uint64, lead uint16, nth uint64, idx []uint16) {
	filled := append(idx[:0], lead)
	for _, m := range s.always {
		if m != lead {
			filled = append(filled, m)
		}
	}
	circle := s.first[len(s.others)]
	place, taken := uint64(0), uint64(0)
	if on := s.on[lead]; on >= 0 { // the lead holds the first place
		place, taken = s.first[on]+s.spread[on].of(nth), 1
	} else {
		place = s.spread[len(s.others)].of(s.before[-1-on] + nth + round%circle*(s.leads%circle))
	}
	for i := taken; i < s.places; i++ {
		filled = append(filled, s.others[memberAt(s.first, (place+i*circle/s.places)%circle)])
	}
}

// spread permutes 0 <= i < n so that neighbours come to lie far apart: successive multiples of the
// golden section fill a circle most evenly (Knuth: The Art of Computer Programming, volume 3,
// section 6.4).
type spread struct{ n, step uint64 }

// newSpread returns the permutation for an n below 2^32.
func newSpread(n uint64) spread {
	step := n*618034/1000000 + 1
	for gcd(step, n) != 1 {
		step++
	}
	return spread{n, step}
}

func (s spread) of(i uint64) uint64 { return i % s.n * s.step % s.n }

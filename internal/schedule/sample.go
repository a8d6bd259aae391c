// SPDX-License-Identifier: Apache-2.0

package schedule

import "slices"

// sample chooses the items that follow the lead if an order holds fewer than there are: each in
// proportion to its weight, and none twice. It is systematic sampling with unequal probabilities
// (Madow: On the theory of systematic sampling II, Annals of Mathematical Statistics 20, 1949). The
// items lie on a circle, each as long as its weight. Points that are equally far apart, the first
// one in the lead, hit the items that are chosen.
//
// An item whose share of the points is one or more is in every order. If there is none, every item
// is in exactly wanted * weight/gcd of any W/gcd orders. Otherwise the others share the remaining
// points in proportion to their weights, exactly over as many cycles as their weights sum up to.
// Immutable.
type sample struct {
	always []uint16 // items that are in every order, heaviest first
	before []uint64 // for each of these, the turns led by those before it
	leads  uint64   // turns that all of these lead, in a cycle

	others []uint16 // the other items, in the order of the circle
	first  []uint64 // the first cell of each of these on the circle, and the length of the circle
	spread []spread // of the cells of each of these; the last one, of the whole circle
	points uint64   // on the circle, for each order

	index []int // of every item in others; -1 - its index in always if it is there
}

// newSample prepares the choice of wanted items, given the first cell of every item.
func newSample(first []uint64, wanted int) *sample {
	s := &sample{index: make([]int, len(first)-1), points: uint64(wanted)}
	s.others = slices.Sorted(slices.Values(s.chooseAlways(first)))
	s.first = make([]uint64, len(s.others)+1)
	for i, item := range s.others {
		weight := first[item+1] - first[item]
		s.index[item] = i
		s.first[i+1] = s.first[i] + weight
		s.spread = append(s.spread, newSpread(weight))
	}
	s.spread = append(s.spread, newSpread(s.circle()))
	return s
}

// chooseAlways finds the items that are in every order, and returns the others.
func (s *sample) chooseAlways(first []uint64) (others []uint16) {
	weight := func(item uint16) uint64 { return first[item+1] - first[item] }
	byWeight := make([]uint16, len(first)-1)
	for i := range byWeight {
		byWeight[i] = uint16(i)
	}
	slices.SortStableFunc(byWeight, func(a, b uint16) int { return int(weight(b)) - int(weight(a)) })
	left := first[len(first)-1]
	for s.points > 1 && weight(byWeight[0])*s.points >= left {
		heaviest := byWeight[0]
		byWeight = byWeight[1:]
		left -= weight(heaviest)
		s.points--
		s.index[heaviest] = -1 - len(s.always)
		s.always = append(s.always, heaviest)
		s.before = append(s.before, s.leads)
		s.leads += weight(heaviest)
	}
	return byWeight
}

// circle returns the length of the circle.
func (s *sample) circle() uint64 { return s.first[len(s.others)] }

// order fills order with the lead and the items chosen with it. The lead leads for the nth time in
// a round of the cycle.
func (s *sample) order(round uint64, lead uint16, nth uint64, order []uint16) {
	filled := append(order[:0], lead)
	for _, item := range s.always {
		if item != lead {
			filled = append(filled, item)
		}
	}
	circle := s.circle()
	start, taken := uint64(0), uint64(0)
	if i := s.index[lead]; i >= 0 { // the first point is in the lead
		start, taken = s.first[i]+s.spread[i].of(nth), 1
	} else {
		start = s.spread[len(s.others)].of(s.before[-1-i] + nth + round%circle*(s.leads%circle))
	}
	for i := taken; i < s.points; i++ {
		filled = append(filled, s.others[itemOf(s.first, (start+i*circle/s.points)%circle)])
	}
}

// spread permutes 0 <= i < n so that neighbours are far apart: successive multiples of the golden
// ratio fill a circle most evenly (Knuth: The Art of Computer Programming, volume 3, section 6.4).
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

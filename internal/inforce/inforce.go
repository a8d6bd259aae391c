// SPDX-License-Identifier: Apache-2.0

// Package inforce works out the weights in force of members that take turns among themselves: their
// static weights, scaled by factors that change with time. A factor changes in steps, because each
// step makes plans anew; until the next step, shares are exact.
package inforce

import (
	"math"
	"slices"
)

// Percent is a part of a weight. The zero value is all of it.
type Percent uint8

// hundredths returns the percentage, from 1 to 100.
func (p Percent) hundredths() uint64 {
	if p == 0 {
		return 100
	}
	return uint64(p)
}

// Factors scale a weight.
type Factors struct {
	Ramp Percent // of the option slow_start
	Load Percent // of the option load_weights
}

// Weight is the weight of a member. Immutable.
type Weight struct {
	Static uint16 // at least 1
	Factors
}

// Whole is how Weights expresses a weight of 1.
const Whole = 100 * 100

// Weights returns the weights in force, of which Whole is 1.
func Weights(all []Weight) []uint64 {
	loaded, ramps := make([]uint64, len(all)), make([]uint64, len(all))
	for i, w := range all {
		loaded[i], ramps[i] = uint64(w.Static)*w.Load.hundredths(), w.Ramp.hundredths()
	}
	soften(ramps, loaded)
	for i := range loaded {
		loaded[i] *= ramps[i]
	}
	return loaded
}

// soften raises ramps, in percent. They become relative to the one that is furthest on, so if all
// members ramp alike, none does. And no member gets more than twice the share that it has without
// ramps: half of the sum of the weights must stay.
func soften(ramps, weights []uint64) {
	furthest := slices.Max(ramps)
	var full, ramped uint64
	for i, w := range weights {
		ramps[i] = (100*ramps[i] + furthest - 1) / furthest
		full += 100 * w
		ramped += ramps[i] * w
	}
	lift, of := full-min(2*ramped, full), 2*(full-ramped)
	if lift == 0 {
		return
	}
	for i := range ramps {
		ramps[i] += ((100-ramps[i])*lift + of - 1) / of
	}
}

// Turns returns the weights to take turns with: in proportion to those in force, as small as they
// can be, and the static ones if no factor applies.
func Turns(all []Weight) []uint16 {
	turns := make([]uint16, len(all))
	if !slices.ContainsFunc(all, func(w Weight) bool { return w.Factors != Factors{} }) {
		for i, w := range all {
			turns[i] = w.Static
		}
		return turns
	}
	exact := Weights(all)
	divisor, largest := uint64(0), slices.Max(exact)
	for _, w := range exact {
		divisor = gcd(divisor, w)
	}
	for i, w := range exact {
		if largest/divisor <= math.MaxUint16 {
			turns[i] = uint16(w / divisor)
		} else {
			turns[i] = uint16(max(w*math.MaxUint16/largest, 1))
		}
	}
	return turns
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

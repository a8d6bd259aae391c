// SPDX-License-Identifier: Apache-2.0

package balance

import "math/bits"

// random orders uniformly: each of the n! orders is as likely as any other, whatever came before.
type random struct{}

var (
	_ policy   = random{}
	_ schedule = shuffle{}
)

func (random) schedule(c contest) schedule { return shuffle{len(c.members)} }

func (random) resume(_, _ *group, turn uint64) uint64 { return turn }

// shuffle is the schedule of random, for a set of a size: a Fisher-Yates shuffle, from the inside
// out, whose random numbers are those that SplitMix64 draws from the turn. Turns start anywhere in
// 2^63, so nobody can tell them.
type shuffle struct{ size int }

func (s shuffle) order(turn uint64, idx []uint16) {
	state := splitMix(turn) // turns that follow each other start far apart
	for i := range s.size {
		state += splitMixStep
		// Lemire's method without the rejection: the bias is below 2^-48.
		at, _ := bits.Mul64(splitMix(state), uint64(i+1)) //nolint:gosec // small
		if i < len(idx) {
			idx[i] = idx[at]
		}
		if at < uint64(len(idx)) {
			idx[at] = uint16(i) //nolint:gosec // below maxRecords
		}
	}
}

const splitMixStep = 0x9e3779b97f4a7c15

// splitMix is the output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
// number generators, OOPSLA 2014).
func splitMix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

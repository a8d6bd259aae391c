// SPDX-License-Identifier: Apache-2.0

package schedule

import "math/bits"

// shuffle orders n items uniformly at random: each of the n! orders is as likely as any other,
// whatever came before. It is the inside-out variant of the Fisher-Yates shuffle (Knuth: The Art of
// Computer Programming, volume 2, section 3.4.2), which needs no memory beyond the order. Its
// random numbers are those of SplitMix64 seeded with the turn; math/rand/v2 would allocate a
// generator.
type shuffle struct{ n int }

// Shuffle returns a schedule that orders n items uniformly at random.
func Shuffle(n int) Schedule { return shuffle{n} }

func (s shuffle) Order(turn uint64, order []uint16) {
	state := Mix(turn) // so that the sequences of successive turns start far apart
	for i := range s.n {
		state += MixStep
		// Lemire: Fast random integer generation in an interval, 2019, without the rejection: the
		// bias is below 2^-48.
		at, _ := bits.Mul64(Mix(state), uint64(i+1))
		if i < len(order) {
			order[i] = order[at]
		}
		if at < uint64(len(order)) {
			order[at] = uint16(i)
		}
	}
}

// Resume continues with the same turns.
func (s shuffle) Resume(_ Schedule, turn uint64, _ Find) uint64 { return turn }

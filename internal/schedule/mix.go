// SPDX-License-Identifier: Apache-2.0

package schedule

// MixStep is what SplitMix64 adds to its state before every output.
const MixStep = 0x9e3779b97f4a7c15

// Mix is the output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
// generators, OOPSLA 2014): a bijection in which every bit of x affects every bit of the result.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// dice returns a pseudorandom number for a turn.
func dice(turn uint64) uint64 { return Mix(turn + MixStep) }

// fraction returns a pseudorandom number as one from 0 to below 1.
func fraction(dice uint64) float64 { return float64(dice>>11) / (1 << 53) }

// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestWeightedSequence(t *testing.T) {
	tests := []struct {
		weights []uint16
		want    string
	}{
		{[]uint16{5, 1, 1}, "aabacaaaabacaa"},
		{[]uint16{50, 10, 10}, "aabacaaaabacaa"},
		{[]uint16{3, 1, 2}, "acabcaacabca"},
		{[]uint16{1, 1, 1}, "abcabc"},
		{[]uint16{7, 7, 7}, "abcabc"},
		{[]uint16{1, 2}, "bab" + "bab"},
		{[]uint16{9}, "aaa"},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.weights), func(t *testing.T) {
			if got := newWeighted(tc.weights...).sequence(0, len(tc.want)); got != tc.want {
				t.Errorf("leads %s, want %s", got, tc.want)
			}
		})
	}
}

// randomWeights returns sets of weights of every size that differ in how far apart they lie, and
// the worst known ones.
func randomWeights() (sets [][]uint16) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, highest := range []int{2, 10, 255, math.MaxUint16} {
		for _, size := range []int{2, 3, 5, 8, 20} {
			weights := make([]uint16, size)
			for i := range weights {
				weights[i] = uint16(1 + rng.IntN(highest))
			}
			sets = append(sets, weights)
		}
	}
	return append(sets, []uint16{65535, 1}, []uint16{1, 65535, 1}, []uint16{65521, 65519, 65497, 2},
		[]uint16{1, 1, 1, 1, 1, 1, 1, 65535}, []uint16{40009, 1, 40009, 1, 40009})
}

// Over any W/gcd turns every item leads exactly weight/gcd times, and over any number of them it is
// at most two turns from its share.
func TestWeightedIsExactAndSmooth(t *testing.T) {
	for _, weights := range randomWeights() {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			g := newWeighted(weights...)
			shares, cycle := sharesOf(weights)
			leads := make([]int, 2*cycle)
			for turn := range leads {
				leads[turn] = g.leader(uint64(turn))
			}
			count := make([]int, len(weights))
			lowest, highest := make([]float64, len(weights)), make([]float64, len(weights))
			for turn, lead := range leads {
				count[lead]++
				if gone := turn - cycle; gone >= 0 {
					count[leads[gone]]--
					if !slices.Equal(count, shares) {
						t.Fatalf("the %d turns up to %d lead %v times, want %v", cycle, turn, count, shares)
					}
					continue
				}
				for i := range count {
					off := float64(count[i]) - float64(turn+1)*float64(shares[i])/float64(cycle)
					lowest[i], highest[i] = min(lowest[i], off), max(highest[i], off)
				}
			}
			for i := range weights {
				if off := highest[i] - lowest[i]; off > 2*maxDeviation {
					t.Errorf("item %d is up to %.2f turns from its share over some turns, want at most %v", i, off, 2*maxDeviation)
				}
			}
		})
	}
}

// maxDeviation is how far, in turns, an item may be from its share since the start of a cycle.
const maxDeviation = 1.5

// sharesOf divides weights by their greatest common divisor, and sums them up.
func sharesOf(weights []uint16) (shares []int, cycle int) {
	divisor := uint64(0)
	for _, w := range weights {
		divisor = gcd(divisor, uint64(w))
	}
	for _, w := range weights {
		shares = append(shares, int(w)/int(divisor))
		cycle += shares[len(shares)-1]
	}
	return shares, cycle
}

func TestStrideTree(t *testing.T) {
	first := []uint64{0, 65521, 65522, 131000, 131007, 131020}
	tree := newStrideTree(first)
	for turn := uint64(0); turn < first[len(first)-1]; turn++ {
		if cell := tree.cell(turn); tree.turn(cell) != turn {
			t.Fatalf("turn %d leads with cell %d, which leads at turn %d", turn, cell, tree.turn(cell))
		}
	}
}

// If orders hold fewer items than there are, each appears in proportion to its weight and never
// twice, and the leads stay what they are.
func TestWeightedAnswers(t *testing.T) {
	for _, weights := range [][]uint16{
		{5, 1, 1}, {3, 1, 2, 2}, {1, 1, 1, 1, 1}, {100, 99, 98, 97}, {9, 8, 7, 1, 1, 1, 1}, {2000, 3, 5, 7}, {1000, 999, 998},
		{40, 30, 20, 10, 9, 8, 7, 6, 5, 4},
	} {
		for wanted := 1; wanted < len(weights); wanted++ {
			t.Run(fmt.Sprint(wanted, " of ", weights), func(t *testing.T) {
				checkShares(t, weights, wanted)
			})
		}
	}
}

func checkShares(t *testing.T, weights []uint16, wanted int) {
	t.Helper()
	some, whole := Weighted(weights, wanted), Weighted(weights, len(weights))
	_, cycle := sharesOf(weights)
	want, rest := inclusions(weights, wanted)
	turns := cycle * rest
	appear := make([]int, len(weights))
	idx, all := make([]uint16, wanted), make([]uint16, len(weights))
	for turn := range uint64(turns) {
		some.Order(turn, idx)
		whole.Order(turn, all)
		if idx[0] != all[0] {
			t.Fatalf("turn %d leads with %d of all items, but with %d of %d", turn, all[0], idx[0], wanted)
		}
		for i, m := range idx {
			if slices.Contains(idx[:i], m) {
				t.Fatalf("turn %d has an item twice: %v", turn, idx)
			}
			appear[m]++
		}
	}
	for i := range weights {
		if got := float64(appear[i]) / float64(turns); got < want[i]-1e-9 || got > want[i]+1e-9 {
			t.Errorf("item %d appears in %.4f of the orders, want %.4f", i, got, want[i])
		}
	}
}

// inclusions returns the share of orders that each item has to appear in, computed step by step,
// and the sum of the weights of the items that are not in every order.
func inclusions(weights []uint16, wanted int) (shares []float64, rest int) {
	shares = make([]float64, len(weights))
	places := wanted
	for again := true; again; {
		again = false
		rest = 0
		for i, w := range weights {
			if shares[i] < 1 {
				rest += int(w)
			}
		}
		for i, w := range weights {
			if shares[i] < 1 && places > 1 && int(w)*places >= rest && isHeaviest(weights, shares, i) {
				shares[i], places, again = 1, places-1, true
				break
			}
		}
	}
	for i, w := range weights {
		if shares[i] < 1 {
			shares[i] = float64(places) * float64(w) / float64(rest)
		}
	}
	return shares, rest
}

func isHeaviest(weights []uint16, shares []float64, i int) bool {
	for j, w := range weights {
		if shares[j] < 1 && w > weights[i] {
			return false
		}
	}
	return true
}

// SPDX-License-Identifier: Apache-2.0

package inforce

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTurns(t *testing.T) {
	tests := []struct {
		weights []uint16
		factors []Factors
		want    []uint16
	}{
		{[]uint16{5, 1, 1}, make([]Factors, 3), []uint16{5, 1, 1}},
		{[]uint16{2, 2}, make([]Factors, 2), []uint16{2, 2}},
		{[]uint16{1, 1, 1}, []Factors{{}, {}, {Ramp: 10}}, []uint16{10, 10, 1}},
		{[]uint16{1, 1, 1}, []Factors{{}, {}, {Ramp: 55}}, []uint16{20, 20, 11}},
		{[]uint16{4, 2}, []Factors{{Load: 50}, {}}, []uint16{1, 1}},
		{[]uint16{4, 2, 2}, []Factors{{Load: 50}, {Ramp: 50}, {Ramp: 50, Load: 50}}, []uint16{4, 2, 1}},
		// All members ramp: the one furthest on has all of its weight.
		{[]uint16{3, 1}, []Factors{{Ramp: 10}, {Ramp: 10}}, []uint16{3, 1}},
		{[]uint16{1, 1}, []Factors{{Ramp: 10}, {Ramp: 95}}, []uint16{11, 100}},
		// One of four is steady: it gets at most twice its quarter.
		{[]uint16{1, 1, 1, 1}, []Factors{{}, {Ramp: 10}, {Ramp: 10}, {Ramp: 10}}, []uint16{50, 17, 17, 17}},
		// Too large for exact shares.
		{[]uint16{65535, 65535}, []Factors{{}, {Ramp: 35}}, []uint16{20, 7}},
		{[]uint16{65535, 65534, 1}, []Factors{{}, {Load: 99}, {Load: 10}}, []uint16{65535, 64878, 1}},
	}
	for _, tc := range tests {
		var all []Weight
		for i, w := range tc.weights {
			all = append(all, Weight{w, tc.factors[i]})
		}
		if got := Turns(all); !slices.Equal(got, tc.want) {
			t.Errorf("%v with %v: %v, want %v", tc.weights, tc.factors, got, tc.want)
		}
	}
}

// The end of a ramp is a step as any other, if all other members ramp too.
func TestEndOfFirstRamp(t *testing.T) {
	share := func(first Percent) float64 {
		now := Weights([]Weight{{1, Factors{Ramp: first}}, {1, Factors{Ramp: 10}}, {1, Factors{Ramp: 30}}})
		return float64(now[0]) / float64(now[0]+now[1]+now[2])
	}
	if before, after := share(95), share(0); before < after-0.05 || before > after {
		t.Errorf("a share of %.2f becomes one of %.2f", before, after)
	}
}

// Whatever ramps, every member has a share, of at most twice the one that it has without ramps.
func TestRampsAreSoft(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		all := make([]Weight, 1+rng.IntN(12))
		full, sum := 0.0, 0.0
		for i := range all {
			all[i].Static = uint16(1 + rng.IntN(1+rng.IntN(65535)))
			if rng.IntN(2) == 0 {
				all[i].Ramp = Percent(10 + 5*rng.IntN(18))
			}
			full += float64(all[i].Static)
		}
		now := Weights(all)
		for _, w := range now {
			sum += float64(w)
		}
		for i, w := range now {
			share, without := float64(w)/sum, float64(all[i].Static)/full
			if w == 0 || share > 2*without+1e-9 {
				t.Fatalf("member %d has %.4f of the answers, and %.4f without ramps: %v", i, share, without, all)
			}
		}
	}
}

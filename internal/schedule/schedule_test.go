// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRotation(t *testing.T) {
	var got [][]uint16
	for turn := range uint64(4) {
		order := make([]uint16, 3)
		Weighted([]uint16{1, 1, 1}, 3).Order(turn, order)
		got = append(got, order)
	}
	if diff := cmp.Diff([][]uint16{{0, 1, 2}, {1, 2, 0}, {2, 0, 1}, {0, 1, 2}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A shuffle is uniform over the orders: a chi-square test over the 24 orders of four items. With 23
// degrees of freedom chi-square exceeds 70 once in 10^6 runs; the turns are fixed, so it is one
// run.
func TestShuffleIsUniform(t *testing.T) {
	const turns, orders = 240000, 24
	count := map[[4]uint16]int{}
	for turn := range uint64(turns) {
		var order [4]uint16
		Shuffle(4).Order(turn, order[:])
		count[order]++
	}
	chiSquare := 0.0
	for _, n := range count {
		d := float64(n) - turns/orders
		chiSquare += d * d / (turns / orders)
	}
	if len(count) != orders || chiSquare > 70 {
		t.Errorf("%d orders, chi-square %.1f: want %d and at most 70", len(count), chiSquare, orders)
	}
}

// The order of a client is a contract: no release may change it.
func TestRendezvousVectors(t *testing.T) {
	for _, tc := range []struct {
		weights     []uint16
		hosts, keys []uint64
		client      uint64
		want        []uint16
	}{
		{[]uint16{1, 1, 1}, []uint64{1, 2, 3}, []uint64{1, 2, 3}, 1, []uint16{2, 1, 0}},
		{[]uint16{9, 1, 90}, []uint64{1, 2, 3}, []uint64{1, 2, 3}, 0xabcdef, []uint16{2, 0, 1}},
		{[]uint16{1, 1, 1, 1}, []uint64{7, 7, 9, 9}, []uint64{1, 2, 3, 4}, 5, []uint16{0, 1, 2, 3}},
	} {
		order := make([]uint16, len(tc.weights))
		Rendezvous(tc.weights, tc.hosts, tc.keys).Order(tc.client, order)
		if !slices.Equal(order, tc.want) {
			t.Errorf("weights %v, hosts %v, keys %v, client %d: %v, want %v", tc.weights, tc.hosts, tc.keys, tc.client, order, tc.want)
		}
	}
}

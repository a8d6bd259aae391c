// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// membersOf returns n members.
func membersOf(n int) (members []member) {
	addr := netip.MustParseAddr("192.0.2.0")
	for range n {
		addr = addr.Next()
		members = append(members, member{addr: addr})
	}
	return members
}

func equalWeights(n int) []uint16 { return slices.Repeat([]uint16{1}, n) }

// unequalWeights returns n weights, from 1 on.
func unequalWeights(n int) (weights []uint16) {
	for i := range n {
		weights = append(weights, uint16(i+1))
	}
	return weights
}

// The contract that all policies share: an order is a permutation, the same for the same turn, some of it
// has the same lead and nobody twice, and going on from another set gives a turn that can be used.
func TestPolicyContract(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			var before *group
			for _, n := range []int{1, 2, 3, 7, 64, 500} {
				for _, weights := range [][]uint16{equalWeights(n), unequalWeights(n)} {
					for _, wanted := range []int{n, (n + 1) / 2} {
						now := &group{members: membersOf(n), weights: weights}
						now.schedule = p.schedule(contest{now.members, now.weights, wanted})
						for _, turn := range []uint64{0, 1, 2, 1<<63 - 1, 1<<64 - 1} {
							if before != nil {
								turn = p.resume(now, before, turn)
							}
							lead := checkOrder(t, now, turn)
							checkSome(t, now, turn, wanted, lead)
						}
						before = now
					}
				}
			}
		})
	}
}

// checkSome checks an order of as many members as answers hold.
func checkSome(t *testing.T, g *group, turn uint64, wanted int, lead uint16) {
	t.Helper()
	idx := make([]uint16, wanted)
	g.schedule.order(turn, idx)
	if idx[0] != lead {
		t.Fatalf("%d of %d members: %d leads turn %d, and %d where all answer", wanted, len(g.members), idx[0], turn, lead)
	}
	slices.Sort(idx)
	if len(slices.Compact(idx)) != wanted || int(idx[wanted-1]) >= len(g.members) {
		t.Fatalf("%d of %d members: turn %d has one twice, or one that is none: %v", wanted, len(g.members), turn, idx)
	}
}

// checkOrder checks an order of all members, and returns who leads.
func checkOrder(t *testing.T, g *group, turn uint64) (lead uint16) {
	t.Helper()
	idx, again := make([]uint16, len(g.members)), make([]uint16, len(g.members))
	g.schedule.order(turn, idx)
	g.schedule.order(turn, again)
	if !slices.Equal(idx, again) {
		t.Fatalf("%d members: turn %d has two orders", len(idx), turn)
	}
	lead = idx[0]
	slices.Sort(idx)
	if !inOrder(idx) {
		t.Fatalf("%d members: turn %d is no permutation: %v", len(idx), turn, idx)
	}
	return lead
}

// random is uniform over the orders: a chi-square test over the 24 orders of four members. With 23
// degrees of freedom chi-square exceeds 70 once in 10^6 runs; the turns are fixed, so it is one run.
func TestRandomIsUniform(t *testing.T) {
	const turns, orders = 240000, 24
	count := map[[4]uint16]int{}
	for turn := range uint64(turns) {
		var idx [4]uint16
		shuffle{4}.order(turn, idx[:])
		count[idx]++
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

func TestRotation(t *testing.T) {
	var got [][]uint16
	for turn := range uint64(4) {
		idx := make([]uint16, 3)
		rotation{3}.order(turn, idx)
		got = append(got, idx)
	}
	if diff := cmp.Diff([][]uint16{{0, 1, 2}, {1, 2, 0}, {2, 0, 1}, {0, 1, 2}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
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

// groupOf returns a group of n members that a policy orders.
func groupOf(p *policy, members []member, weights []uint16, wanted int) *group {
	return &group{members: members, weights: weights, policy: p, schedule: p.schedule(contest{members, weights, wanted})}
}

// The contract that all policies share: an order is a permutation and the same for the same turn, a
// part of it starts with the same member, and a turn that resumes from any policy can be used.
func TestPolicyContract(t *testing.T) {
	for i := range policies {
		t.Run(policies[i].name, func(t *testing.T) {
			before := groupOf(policyNamed("weighted"), membersOf(4), unequalWeights(4), 4)
			for _, n := range []int{1, 2, 3, 7, 64, 500} {
				for _, weights := range [][]uint16{equalWeights(n), unequalWeights(n)} {
					for _, wanted := range []int{n, (n + 1) / 2} {
						now := groupOf(&policies[i], membersOf(n), weights, wanted)
						for _, turn := range []uint64{0, 1, 2, 1<<63 - 1, 1<<64 - 1} {
							checkOrder(t, now, turn, wanted)
							checkOrder(t, now, resume(now, before, turn), wanted)
						}
						before = now
					}
				}
			}
			for j := range policies { // as a reload may change it
				now := groupOf(&policies[j], membersOf(5), unequalWeights(5), 5)
				checkOrder(t, now, resume(now, before, 42), 5)
			}
		})
	}
}

// checkOrder checks the order at a turn of all members and of as many as answers hold.
func checkOrder(t *testing.T, g *group, turn uint64, wanted int) {
	t.Helper()
	n := len(g.members)
	all, again, some := make([]uint16, n), slices.Repeat([]uint16{9999}, n), make([]uint16, wanted)
	g.schedule.Order(turn, all)
	g.schedule.Order(turn, again)
	g.schedule.Order(turn, some)
	if !slices.Equal(all, again) {
		t.Fatalf("%d members: turn %d has two orders, %v and %v", n, turn, all, again)
	}
	if some[0] != all[0] {
		t.Fatalf("%d of %d members: %d leads turn %d, and %d if all answer", wanted, n, some[0], turn, all[0])
	}
	slices.Sort(all)
	if !inOrder(all) {
		t.Fatalf("%d members: turn %d is no permutation: %v", n, turn, all)
	}
	slices.Sort(some)
	if len(slices.Compact(some)) != wanted || int(some[wanted-1]) >= n {
		t.Fatalf("%d of %d members: turn %d has one twice, or one that does not exist: %v", wanted, n, turn, some)
	}
}

// The rest of the contract: over many turns, or clients, each member leads as often as its weight
// says, or as any other if the policy ignores weights. The standard deviation of a share of 20,000
// random turns is 0.4 % at most.
func TestPolicyContractOfShares(t *testing.T) {
	const turns = 20_000
	for i := range policies {
		p := &policies[i]
		t.Run(p.name, func(t *testing.T) {
			weights := []uint16{1, 2, 3, 4}
			if !p.weighs {
				weights = equalWeights(4) // as groups of the policy have them
			}
			g, leads := groupOf(p, membersOf(4), weights, 4), make([]float64, 4)
			rng, order := rand.New(rand.NewPCG(1, 2)), make([]uint16, 4)
			for range turns {
				g.schedule.Order(rng.Uint64(), order)
				leads[order[0]]++
			}
			for i, w := range weights {
				share := float64(w) / float64(weights[0]+weights[1]+weights[2]+weights[3])
				if got := leads[i] / turns; got < share-0.02 || got > share+0.02 {
					t.Errorf("member %d with weight %d leads %.3f of the turns, want %.3f", i, w, got, share)
				}
			}
		})
	}
}

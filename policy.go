// SPDX-License-Identifier: Apache-2.0

package balance

// A policy orders members. It is a pure function of the members and the turn and keeps no state of
// its own, so that a restart, a reload or another process can go on from a number. Implementations
// are safe for concurrent use.
type policy interface {
	// schedule prepares the order of a set of members, which come sorted. It is called when the
	// set changes, not for every answer.
	schedule(members []member) schedule

	// resume returns the turn at which now goes on where before stood: before's next turn would
	// have been turn. The sets differ in some members, and may be ordered by different policies.
	resume(now, before *group, turn uint64) uint64
}

// A schedule is a policy made ready for one set of members. Immutable, safe for concurrent use.
type schedule interface {
	// order fills idx, which is as long as the set, with the members' indexes in the order in
	// which they answer at a turn: a permutation of 0 to len(idx)-1.
	order(turn uint64, idx []uint16)
}

// policies are the values of the option policy, the default first. A new policy is a file and a
// line here.
var policies = []namedPolicy{
	{"round_robin", roundRobin{}},
	{"random", random{}},
}

type namedPolicy struct {
	name   string
	policy policy
}

// policyNamed returns the policy with a name, nil where there is none.
func policyNamed(name string) policy {
	for _, p := range policies {
		if p.name == name {
			return p.policy
		}
	}
	return nil
}

func policyNames() (names []string) {
	for _, p := range policies {
		names = append(names, p.name)
	}
	return names
}

// SPDX-License-Identifier: Apache-2.0

package balance

// A policy orders members. It is a pure function of the members, their weights and the turn and
// keeps no state of its own, so that a restart, a reload or another process can go on from a
// number. Implementations are safe for concurrent use.
type policy interface {
	// schedule prepares the order of some members, which come sorted. It is called when they
	// change, not for every answer.
	schedule(c contest) schedule

	// resume returns the turn at which now goes on where before stood: before's next turn would
	// have been turn. The sets differ in some members or weights, and may be ordered by different
	// policies.
	resume(now, before *group, turn uint64) uint64
}

// contest is a set of members to be ordered. Immutable.
type contest struct {
	members []member // those that answer
	weights []uint16 // 1 to 65535 each
	wanted  int      // answers usually hold so many of them, 1 to all
}

// A schedule is a policy made ready for one set of members. Immutable, safe for concurrent use.
type schedule interface {
	// order fills idx with the indexes of the members that answer first at a turn, in their order
	// and each once. It is as long as the set or as the answers wanted of it; who leads is the same in both.
	order(turn uint64, idx []uint16)
}

// sized is a schedule that takes much more memory than its members, which counts against exactMembers.
type sized interface {
	size() int // about how many bytes
}

// policies are the values of the option policy, the default first. A new policy is a file and a
// line here.
var policies = []namedPolicy{
	{name: "round_robin", policy: roundRobin{}},
	{name: "weighted", policy: weighted{}, weighs: true},
	{name: "random", policy: random{}},
	{name: "sticky", policy: sticky{}, weighs: true, byClient: true},
}

type namedPolicy struct {
	policy
	name     string
	weighs   bool // the weights of the members make a difference
	byClient bool // the turn is the key of the client, not a count of answers
}

// policyNamed returns the policy with a name, nil where there is none.
func policyNamed(name string) *namedPolicy {
	for i := range policies {
		if policies[i].name == name {
			return &policies[i]
		}
	}
	return nil
}

// policyNames returns the names of all policies or of those that weigh.
func policyNames(onlyThatWeigh bool) (names []string) {
	for _, p := range policies {
		if p.weighs || !onlyThatWeigh {
			names = append(names, p.name)
		}
	}
	return names
}

// parsePolicy reads "policy NAME", and "policy sticky [V4LEN V6LEN]".
func parsePolicy(s *stanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "one of "+list(policyNames(false)))
	}
	p := policyNamed(args[0])
	if p == nil {
		return unknownWord("policy", args[0], policyNames(false))
	}
	s.policy, s.sticky = p, defaultPrefixLengths
	if len(args) == 1 {
		return nil
	}
	if !p.byClient {
		return wrongCount(args, "one of "+list(policyNames(false)))
	}
	return s.parsePrefixLengths(args[1:])
}

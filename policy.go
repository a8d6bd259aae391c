// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"github.com/seed-f1518d44/balance/internal/schedule"
	"github.com/seed-f1518d44/balance/internal/text"
)

// policies are the values of the option policy, the default first. A new policy is a file and a
// line here. TestPolicyContract says what all have in common.
var policies = []policy{
	{name: "round_robin", schedule: roundRobin},
	{name: "weighted", schedule: weighted, weighs: true},
	{name: "random", schedule: random},
	{name: "sticky", schedule: sticky, weighs: true, byClient: true},
}

// policy orders the members of a group. Immutable.
type policy struct {
	name     string
	weighs   bool // it uses the weights of members
	byClient bool // its turn is the client's key rather than a count of answers

	// schedule returns the order of some members at every turn. It is called when the members
	// change, not for every answer.
	schedule func(contest) schedule.Schedule
}

// contest is a set of members to be ordered. Immutable.
type contest struct {
	members []member // sorted; not empty
	weights []uint16 // 1 to 65535 each
	wanted  int      // the number of members in most answers, 1 to all
}

// policyNamed returns the policy with a name, nil if there is none.
func policyNamed(name string) *policy {
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

// policyOption is the option policy.
type policyOption struct {
	policy   *policy
	prefixes prefixLengths // of clients, if the policy goes by them
}

// parsePolicy reads "policy NAME", and "policy sticky [V4LEN V6LEN]".
func parsePolicy(args []string) (o policyOption, err error) {
	if len(args) == 0 {
		return o, wrongCount(args)
	}
	p := policyNamed(args[0])
	if p == nil {
		return o, text.Unknown("policy", args[0], policyNames(false))
	}
	o = policyOption{p, defaultPrefixLengths}
	switch {
	case len(args) == 1:
		return o, nil
	case !p.byClient || len(args) != 3:
		return o, wrongCount(args)
	}
	o.prefixes, err = parsePrefixLengths(args[1], args[2])
	return o, err
}

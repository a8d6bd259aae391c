// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// rule is one balance stanza. Immutable once built.
type rule struct {
	zones  []string // lower case, fully qualified
	policy policy
	prefer []preference
	ttl    ttlLimits

	answers int // the most members of an RRset of addresses in an answer; 0: all

	policyName string
}

// limitOf returns the most members that an answer may hold of an RRset.
func (r *rule) limitOf(set *rrset) int {
	if r.answers == 0 || !set.holdsAddresses() {
		return maxRecords
	}
	return r.answers
}

// zoneRule is a rule in one of its zones. The chains of a server block share it. Safe for
// concurrent use.
type zoneRule struct {
	*rule
	zone  string
	scope uint64 // tells apart the turns of rules: the same after a reload

	plans [64]atomic.Pointer[plan] // recently made, found by their members
}

// servedRule is a zoneRule in one chain. Safe for concurrent use.
type servedRule struct {
	*zoneRule
	counters atomic.Pointer[counters] // of the chain's server; nil before the first query
}

// rules are the stanzas of a server block in one chain, by zone. Immutable once built.
type rules map[string]*servedRule

// of returns the rule of a query: the one with the longest zone that holds the question's name,
// nil where there is none.
func (r rules) of(query *dns.Msg) *servedRule {
	if len(query.Question) == 0 {
		return nil
	}
	name := strings.ToLower(query.Question[0].Name)
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if served := r[name[off:]]; served != nil {
			return served
		}
	}
	return r["."]
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// rule is one balance stanza. Safe for concurrent use: the configuration never changes, and what is
// known of members is published whole.
type rule struct {
	zones   []string // lower case, fully qualified
	policy  *namedPolicy
	weights weightList  // inline
	file    *weightFile // nil without the option weights
	prefer  []preference
	ttl     ttlLimits
	answers int // the most members of an RRset of addresses in an answer; 0: all

	epoch atomic.Uint64 // moves on after something changed that plans are made of
}

// limitOf returns the most members like m that an answer may hold.
func (r *rule) limitOf(m *member) int {
	if r.answers == 0 || m.host != "" {
		return maxRecords
	}
	return r.answers
}

// files returns the files that the rule reads.
func (r *rule) files() (all []*polledFile) {
	if r.file != nil {
		all = append(all, &r.file.polledFile)
	}
	return all
}

// tasks returns what runs in the background for the rule, each until its context is done.
func (r *rule) tasks() (all []func(context.Context)) {
	for _, f := range r.files() {
		all = append(all, func(ctx context.Context) { f.poll(ctx, r.zones) })
	}
	return all
}

// assess leaves in s.standings what is known of the members lined up in it.
func (r *rule) assess(owner string, s *scratch) {
	s.standings = s.standings[:0]
	for _, record := range s.first {
		s.standings = append(s.standings, standing{weight: r.weightOf(owner, s.members[record].addr)})
	}
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

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"strings"

	"github.com/miekg/dns"
)

// glueTargets says which targets of MX, SRV, HTTPS and SVCB records are down, by their addresses in
// the same message.
type glueTargets struct {
	known   map[string]bool // names in lower case that have addresses, and whether all are down
	anyDead bool
}

// reset forgets the last message.
func (t *glueTargets) reset() {
	if len(t.known) > 0 {
		clear(t.known)
	}
	t.anyDead = false
}

// learn notes the names that have addresses in a section, given its RRsets and their plans. A name
// is dead if all its addresses, of both families, are down.
func (t *glueTargets) learn(sets []rrset, plans []*plan) {
	for i, p := range plans {
		if !sets[i].holdsAddresses() {
			continue
		}
		name := strings.ToLower(sets[i].owner)
		dead, again := t.known[name]
		t.known[name] = p != nil && p.allDown && (dead || !again)
	}
	for _, dead := range t.known {
		t.anyDead = t.anyDead || dead
	}
}

// isDead reports whether a name is dead, and whether it has addresses in the message.
func (t *glueTargets) isDead(host string) (dead, ok bool) {
	if len(t.known) == 0 {
		return false, false
	}
	dead, ok = t.known[strings.ToLower(host)]
	return dead, ok
}

// eachKnown calls yield for the addresses of a name that answers of the rule, and its watch, have
// taught, until it returns false. It reports whether it never did.
func (z *zoneRule) eachKnown(name string, yield func(*member) bool) bool {
	for _, where := range []section{inAnswer, inWatch} {
		for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			key := turnKey{where: where, rrtype: rrtype, prefer: choice{line: noPreference}}
			if !allTurns.known(z.scope, key, name).each(yield) {
				return false
			}
		}
	}
	return true
}

// each calls yield for the members of the entry's plan, until it returns false. It reports whether it
// never did. The entry may be nil.
func (e *entry) each(yield func(*member) bool) bool {
	if e == nil {
		return true
	}
	s := e.state.Load()
	if s == nil {
		return true
	}
	for i := range s.plan.members {
		if !yield(&s.plan.members[i]) {
			return false
		}
	}
	return true
}

// dropGlue removes the addresses of dead targets, with their signatures, unless a record of the
// answer still leads to them.
func (a *arrangement) dropGlue(answers []dns.RR) {
	needed := targetsOf(answers)
	for i, rr := range a.sectionNow() {
		if rr == nil || !isGlue(rr) || !isIN(rr.Header()) {
			continue
		}
		owner := strings.ToLower(rr.Header().Name)
		if !a.buf.targets.known[owner] || needed[owner] {
			continue
		}
		a.own()
		a.out[i] = nil
		a.removed[wasDown]++
	}
}

// targetsOf returns the names, in lower case, that some records lead to. Removed records are nil.
func targetsOf(rrs []dns.RR) map[string]bool {
	names := make(map[string]bool)
	for _, rr := range rrs {
		if rr == nil || !isIN(rr.Header()) {
			continue
		}
		if m := memberOf(rr); m.host != "" {
			names[strings.ToLower(m.host)] = true
		} else if svcb := svcbOf(rr); svcb != nil {
			names[strings.ToLower(svcb.target())] = true
		}
	}
	return names
}

// isGlue reports whether a record is an address or the signature of addresses.
func isGlue(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A, *dns.AAAA:
		return true
	case *dns.RRSIG:
		return rr.TypeCovered == dns.TypeA || rr.TypeCovered == dns.TypeAAAA
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"strings"

	"github.com/miekg/dns"
)

// glueTargets is what the addresses in a message say of the names that MX, SRV, HTTPS and SVCB records
// lead to.
type glueTargets struct {
	dead map[string]bool // names in lower case whose addresses are all down
}

// reset forgets the last message.
func (t *glueTargets) reset() {
	if len(t.dead) > 0 {
		clear(t.dead)
	}
}

// learn finds the dead targets among the RRsets of a section, of which the plans are known: a name is
// dead if it has addresses and all of them, of both families, are down.
func (t *glueTargets) learn(sets []rrset, plans []*plan) {
	for i, p := range plans {
		if p != nil && p.allDown {
			t.dead[strings.ToLower(sets[i].owner)] = true
		}
	}
	if len(t.dead) == 0 {
		return
	}
	for i, p := range plans {
		if sets[i].holdsAddresses() && (p == nil || !p.allDown) {
			delete(t.dead, strings.ToLower(sets[i].owner))
		}
	}
}

// isDead reports whether a member leads to a dead target.
func (t *glueTargets) isDead(m *member) bool {
	return len(t.dead) > 0 && m.host != "" && t.dead[strings.ToLower(m.host)]
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
		if !a.buf.targets.dead[owner] || needed[owner] {
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

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"strings"

	"github.com/miekg/dns"
)

// findDeadTargets leaves in s.dead the names, in lower case, of which the section that was just
// arranged holds addresses and all of them, of both families, are down.
func (s *scratch) findDeadTargets(plans []*plan) {
	for i, p := range plans {
		if p != nil && p.allDown {
			s.dead[strings.ToLower(s.sets[i].owner)] = true
		}
	}
	if len(s.dead) == 0 {
		return
	}
	for i, p := range plans {
		if s.sets[i].holdsAddresses() && (p == nil || !p.allDown) {
			delete(s.dead, strings.ToLower(s.sets[i].owner))
		}
	}
}

// isDead tells whether a member's target is a name whose addresses are all down.
func (s *scratch) isDead(m *member) bool {
	return len(s.dead) > 0 && m.host != "" && s.dead[strings.ToLower(m.host)]
}

// dropGlue removes from the additional section the addresses of dead targets that no record of the
// answer leads to any more, with their signatures.
func (a *arrangement) dropGlue(answers []dns.RR) {
	left := make(map[string]bool)
	for _, rr := range answers {
		if rr == nil || !isIN(rr.Header()) {
			continue
		}
		if m := memberOf(rr); m.host != "" {
			left[strings.ToLower(m.host)] = true
		} else if svcb := svcbOf(rr); svcb != nil {
			left[strings.ToLower(svcb.target())] = true
		}
	}
	for i, rr := range a.sectionNow() {
		if rr == nil || !isGlue(rr) || !isIN(rr.Header()) {
			continue
		}
		owner := strings.ToLower(rr.Header().Name)
		if !a.dead[owner] || left[owner] {
			continue
		}
		a.own()
		a.out[i] = nil
		a.removed[wasDown]++
	}
}

// isGlue tells whether a record is an address or the signature of addresses.
func isGlue(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A, *dns.AAAA:
		return true
	case *dns.RRSIG:
		return rr.TypeCovered == dns.TypeA || rr.TypeCovered == dns.TypeAAAA
	}
	return false
}

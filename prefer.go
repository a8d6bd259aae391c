// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"
)

// preference is one prefer line. Immutable.
type preference struct {
	targets []netip.Prefix // in the order of preference
	from    []netip.Prefix // the clients it is for; none: for all
	line    int            // of the Corefile
}

// noPreference stands where no prefer line applies.
const noPreference = -1

// maxPreferences is the most prefer lines in a stanza.
const maxPreferences = 100

// preferenceFor returns the number of the first prefer line that is for client, else noPreference.
func (r *rule) preferenceFor(client netip.Addr) int8 {
	for i := range r.prefer {
		if r.prefer[i].isFor(client) {
			return int8(i) //nolint:gosec // at most maxPreferences
		}
	}
	return noPreference
}

func (p *preference) isFor(client netip.Addr) bool {
	return len(p.from) == 0 || slices.ContainsFunc(p.from, func(from netip.Prefix) bool { return from.Contains(client) })
}

// groupOf returns the number of the group that a member takes turns in, the first to answer being
// the lowest: the CIDR of the prefer line that holds its address or, for MX and SRV, its rank.
func (r *rule) groupOf(line int8, m *member) int {
	if m.host != "" || line == noPreference {
		return int(m.rank)
	}
	targets := r.prefer[line].targets
	for i, target := range targets {
		if target.Contains(m.addr.Unmap()) {
			return i
		}
	}
	return len(targets)
}

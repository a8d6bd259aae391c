// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-f1518d44/balance/internal/cidr"
)

// preference is one prefer line. Immutable.
type preference struct {
	targets []netip.Prefix // in the order of preference
	from    []netip.Prefix // the clients it is for; none: for all
	at      position       // for people
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

// parsePrefer reads "prefer CIDR... [from CIDR...]".
func parsePrefer(args []string) (p preference, err error) {
	targets, from := args, []string(nil)
	if at := slices.Index(args, "from"); at >= 0 {
		targets, from = args[:at], args[at+1:]
		if len(from) == 0 {
			return p, wrongCount(args)
		}
		if p.from, err = parsePrefixes(from); err != nil {
			return p, fmt.Errorf("from: %w", err)
		}
	}
	if len(targets) == 0 {
		return p, wrongCount(args)
	}
	p.targets, err = parsePrefixes(targets)
	return p, err
}

// addPreference adds a prefer line to those before it.
func (r *rule) addPreference(p preference) error {
	for _, earlier := range r.prefer {
		if len(earlier.from) == 0 {
			return fmt.Errorf(`never reached: the first line that fits wins, and the one at %s, without "from", fits all clients`, earlier.at)
		}
	}
	if len(r.prefer) == maxPreferences {
		return fmt.Errorf("too many lines: want at most %d", maxPreferences)
	}
	if err := p.reached(r.prefer); err != nil {
		return err
	}
	r.prefer = append(r.prefer, p)
	return nil
}

// reached returns an error if what stands earlier leaves nothing to the line, or to one of its CIDRs.
func (p *preference) reached(earlier []preference) error {
	for at, target := range p.targets {
		if i := holderOf(p.targets[:at], target); i >= 0 {
			return fmt.Errorf("never reached: the first CIDR that holds an address wins, and %q lies in %q: want it before that",
				cidr.Word(target), cidr.Word(p.targets[i]))
		}
	}
	for _, e := range earlier {
		if len(p.from) > 0 && !slices.ContainsFunc(p.from, func(from netip.Prefix) bool { return holderOf(e.from, from) < 0 }) {
			return fmt.Errorf("never reached: the first line that fits wins, and the one at %s is for all of these clients", e.at)
		}
	}
	return nil
}

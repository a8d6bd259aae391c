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
			return int8(i)
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

// parsePrefer reads "prefer CIDR... [from CIDR...]". Bits behind the length of a target stay.
func parsePrefer(args []string) (p preference, err error) {
	targets, from, found := args, []string(nil), slices.Index(args, "from")
	if found >= 0 {
		targets, from = args[:found], args[found+1:]
	}
	if len(targets) == 0 || found >= 0 && len(from) == 0 {
		return p, wrongCount(args)
	}
	for _, target := range targets {
		prefix, err := cidr.ParseUnmasked(target)
		if err != nil {
			return p, err
		}
		p.targets = append(p.targets, prefix)
	}
	if found >= 0 {
		if p.from, err = parsePrefixes(from); err != nil {
			return p, fmt.Errorf("from: %w", err)
		}
	}
	return p, nil
}

// addPreference adds a prefer line to those before it. Lines without "from" are one list. It warns
// of what loadbalance takes too, but has no effect.
func (r *rule) addPreference(p preference) (warnings []string, err error) {
	var bare *preference
	if last := len(r.prefer) - 1; last >= 0 && len(r.prefer[last].from) == 0 {
		bare = &r.prefer[last]
	}
	switch {
	case bare != nil && len(p.from) > 0:
		return nil, fmt.Errorf(`never reached: the first line that fits wins, and the one at %s, without "from", fits all clients`, bare.at)
	case bare == nil && len(r.prefer) == maxPreferences:
		return nil, fmt.Errorf("too many lines: want at most %d", maxPreferences)
	case bare == nil:
		if err := p.reached(r.prefer); err != nil {
			return nil, err
		}
		r.prefer = append(r.prefer, preference{from: p.from, at: p.at})
		bare = &r.prefer[len(r.prefer)-1]
	}
	for _, target := range p.targets {
		warnings = append(warnings, bare.addTarget(target)...)
	}
	return warnings, nil
}

// addTarget adds a CIDR after those that are preferred to it.
func (p *preference) addTarget(target netip.Prefix) (warnings []string) {
	if masked := target.Masked(); masked != target {
		warnings = append(warnings, fmt.Sprintf("%q has bits set behind its length: write %q", target, masked))
		target = masked
	}
	if i := holderOf(p.targets, target); i >= 0 {
		return append(warnings, fmt.Sprintf("%q has no effect, because an earlier CIDR, %q, holds it: remove it, or write it before that",
			cidr.Word(target), cidr.Word(p.targets[i])))
	}
	p.targets = append(p.targets, target)
	return warnings
}

// reached returns an error if earlier lines leave no client to the line.
func (p *preference) reached(earlier []preference) error {
	for _, e := range earlier {
		if len(p.from) > 0 && !slices.ContainsFunc(p.from, func(from netip.Prefix) bool { return holderOf(e.from, from) < 0 }) {
			return fmt.Errorf("never reached: the first line that fits wins, and the one at %s is for all of these clients", e.at)
		}
	}
	return nil
}

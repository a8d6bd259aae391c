// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-f1518d44/balance/internal/cidr"
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

// parsePrefer reads "prefer CIDR... [from CIDR...]".
func parsePrefer(s *stanza, args []string) error {
	targets, from, conditional := args, []string(nil), false
	if at := slices.Index(args, "from"); at >= 0 {
		targets, from, conditional = args[:at], args[at+1:], true
	}
	if len(targets) == 0 {
		return wrongCount(targets, "at least one CIDR of targets")
	}
	if conditional && len(from) == 0 {
		return errors.New(`nothing after "from": want at least one CIDR of clients`)
	}
	for _, earlier := range s.prefer {
		if len(earlier.from) == 0 {
			return fmt.Errorf(`never reached: the first line that fits wins, and line %d has no "from", so it fits all clients`, earlier.line)
		}
	}
	if len(s.prefer) == maxPreferences {
		return fmt.Errorf("too many lines: want at most %d", maxPreferences)
	}
	p := preference{line: s.at}
	var err error
	if p.targets, err = parsePrefixes(targets); err != nil {
		return err
	}
	if p.from, err = parsePrefixes(from); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if err := p.reached(s.prefer); err != nil {
		return err
	}
	s.prefer = append(s.prefer, p)
	return nil
}

// reached returns an error where what stands earlier leaves nothing to the line, or to one of its CIDRs.
func (p *preference) reached(earlier []preference) error {
	for at, target := range p.targets {
		if i := holderOf(p.targets[:at], target); i >= 0 {
			return fmt.Errorf("never reached: the first CIDR that holds an address wins, and %q lies in %q: want it before that",
				cidr.Word(target), cidr.Word(p.targets[i]))
		}
	}
	for _, e := range earlier {
		if len(p.from) > 0 && !slices.ContainsFunc(p.from, func(from netip.Prefix) bool { return holderOf(e.from, from) < 0 }) {
			return fmt.Errorf("never reached: the first line that fits wins, and line %d is for all of these clients", e.line)
		}
	}
	return nil
}

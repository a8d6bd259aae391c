// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/joins"
	"github.com/seed-f1518d44/balance/internal/text"
)

// Options for which the past of members counts: slow_start, damp and failback.

// past is what is remembered of an RRset from one plan to the next. Immutable.
type past struct {
	joins    *joins.Log       // for slow_start
	failback failback.State   // for failback
	tiers    [][]netip.Prefix // those of the rule that the state is about
	replica  string           // that named the tier which serves; empty: it was decided here
	handed   *handed          // what the state began with; nil in a past that is remembered
}

// follow takes over a decision, and returns the tier that it keeps.
func (p *past) follow(d failback.Decision) (kept keptTier) {
	if !d.State.Serves() || d.State.Tier() != p.failback.Tier() {
		p.replica = ""
	}
	p.failback = d.State
	if kept.number = d.Kept; kept.number > 0 {
		kept.replica = p.replica
	}
	if !d.Again.IsZero() {
		kept.until = d.Again.Unix()
	}
	return kept
}

// renumber has the state go on with the same tier if a reload gave the tiers other numbers.
func (p *past) renumber(tiers [][]netip.Prefix) {
	before := p.tiers
	p.tiers = tiers
	if !p.failback.Serves() || slices.EqualFunc(before, tiers, slices.Equal) {
		return
	}
	if served := int(p.failback.Tier()); served >= len(before) {
		p.failback = p.failback.Renumbered(len(tiers)) // the last tier: what no line holds
	} else {
		same := func(targets []netip.Prefix) bool { return slices.Equal(targets, before[served]) }
		p.failback = p.failback.Renumbered(slices.IndexFunc(tiers, same))
	}
}

// joined returns when an address joined the RRset, the zero time if the RRset always had it.
func (p *past) joined(addr netip.Addr) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.joins.Joined(numberOf(addr))
}

// numberOf returns the number by which joins knows a member.
func numberOf(addr netip.Addr) uint64 { return maphash.Comparable(memberSeed, addr) }

// steadyTTLs is how many TTLs a slow start should last: clients that cache an answer notice only so
// many of its steps.
const steadyTTLs = 3

// defaultHalfLife is the HALF_LIFE of damp.
const defaultHalfLife = time.Minute

// parseHalfLife reads "damp [HALF_LIFE]".
func parseHalfLife(args []string) (time.Duration, error) {
	if len(args) == 0 {
		return defaultHalfLife, nil
	}
	return parseSpan(args)
}

// parseSpan reads a time in which something changes slowly.
func parseSpan(args []string) (time.Duration, error) {
	const shortest, longest = time.Second, 24 * time.Hour
	if len(args) != 1 {
		return 0, wrongCount(args)
	}
	d, err := time.ParseDuration(args[0])
	if err != nil || d < shortest || d > longest {
		return 0, badDuration(args[0], "one such as 5m, from 1s to 24h")
	}
	return d, nil
}

// failbackModes are the words behind failback.
var failbackModes = []string{failback.AtOnce: "at_once", failback.After: "after", failback.Manual: "manual"}

// parseFailback reads "failback at_once|after DURATION|manual".
func parseFailback(args []string) (p failback.Policy, err error) {
	if len(args) == 0 {
		return p, wrongCount(args)
	}
	mode := slices.Index(failbackModes, args[0])
	switch {
	case mode < 0:
		return p, text.Unknown("failback", args[0], failbackModes)
	case failback.Mode(mode) != failback.After && len(args) > 1:
		return p, wrongCount(args)
	case failback.Mode(mode) == failback.After && len(args) != 2:
		return p, errors.New(`after: want a duration, such as "after 10m"`)
	}
	p.Mode = failback.Mode(mode)
	if p.Mode == failback.After {
		p.After, err = parseSpan(args[1:])
	}
	return p, err
}

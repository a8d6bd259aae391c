// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/text"
)

// preference is one prefer line. Immutable.
type preference struct {
	targets []netip.Prefix // in the order of preference
	from    []netip.Prefix // the clients it is for; none: for all
	when    *condition     // what has to hold for a query; nil: nothing
	near    *near          // the line goes by locality instead; nil: it does not
	at      position       // of the line
}

// choice is what a client prefers: a prefer line and, if the line goes by locality, the place whose
// members come first.
type choice struct {
	line    int8 // noPreference: none
	spilled bool // the client is from elsewhere: members of other localities are not left out
	place   locality.Locality
}

// noPreference is the line of a choice that no prefer line decides.
const noPreference = -1

// hash returns a number that differs for different choices.
func (c choice) hash() uint64 {
	h := uint64(uint8(c.line)) | uint64(c.place)<<16
	if c.spilled {
		h |= 1 << 8
	}
	return h
}

// maxPreferences is the most prefer lines in a stanza.
const maxPreferences = 100

// choiceFor returns what a client prefers: the first prefer line that is for it decides. One that
// goes by locality is for clients of a known place.
func (r *rule) choiceFor(c *client) choice {
	addr := c.addr()
	for i := range r.prefer {
		p := &r.prefer[i]
		switch {
		case p.near != nil:
			if c.place = r.localities.of(addr); c.place.Known() {
				return choice{line: int8(i), place: c.place}
			}
		case p.when != nil:
			if c.held.has(i) {
				return choice{line: int8(i)}
			}
		case p.isFor(addr):
			return choice{line: int8(i)}
		}
	}
	return choice{line: noPreference}
}

// isFor reports whether a line without a condition is for a client.
func (p *preference) isFor(client netip.Addr) bool {
	return len(p.from) == 0 || slices.ContainsFunc(p.from, func(from netip.Prefix) bool { return from.Contains(client) })
}

// isBare reports whether the line is for all clients.
func (p *preference) isBare() bool { return len(p.from) == 0 && p.when == nil && p.near == nil }

// groupOf returns the number of the group that a member takes turns in, the first to answer being
// the lowest. The rank of an MX or SRV record decides before what the client prefers.
func (r *rule) groupOf(c choice, m *member, s *standing) int {
	if m.host == "" && c.line != noPreference {
		return int(r.distance(c, m.addr.Unmap(), s.place))
	}
	group := int(m.rank)<<16 | int(s.distance)
	if s.behind {
		return group<<1 | 1
	}
	return group << 1
}

// distance returns how far back an address comes for a choice, 0 being the first: the number of the
// CIDR that holds it, or whether it is in another place. CIDRs beyond the 65,535th are as one.
func (r *rule) distance(c choice, addr netip.Addr, place locality.Locality) uint16 {
	if r.nearOf(c) != nil {
		if place == c.place {
			return 0
		}
		return 1
	}
	targets := r.prefer[c.line].targets
	at := slices.IndexFunc(targets, func(p netip.Prefix) bool { return p.Contains(addr) })
	if at < 0 {
		at = len(targets)
	}
	return uint16(min(at, math.MaxUint16)) //nolint:gosec // at most that
}

// narrow applies "prefer locality only" to a classification, and returns the choice that the plan
// follows. It is the client's own. If too few near members can answer, all members answer and the
// plan follows no choice.
func (r *rule) narrow(own choice, standings []standing, c *classification, by criteria) choice {
	if n := r.nearOf(own); n == nil || !n.only || own.spilled || len(c.answering) == 0 {
		return own
	}
	if !c.keepNear(standings, own.place, by) {
		return choice{line: noPreference}
	}
	return own
}

// spills reports whether the rule has "prefer locality spill".
func (r *rule) spills() bool {
	return slices.ContainsFunc(r.prefer, func(p preference) bool { return p.near != nil && p.near.spill })
}

// spillsFor reports whether the answers for a choice may be led by members of another locality.
func (r *rule) spillsFor(c choice) bool {
	n := r.nearOf(c)
	return n != nil && n.spill
}

// nearOf returns the option prefer locality of a choice, nil if the choice does not go by it.
func (r *rule) nearOf(c choice) *near {
	if c.line == noPreference {
		return nil
	}
	return r.prefer[c.line].near
}

// parsePrefer reads "prefer CIDR... [from CIDR... | when EXPRESSION]" and "prefer locality [only]
// [spill]". Bits behind the length of a target are kept.
func parsePrefer(args []string) (p preference, err error) {
	if len(args) > 0 && args[0] == "locality" {
		p.near, err = parseNear(args[1:])
		return p, err
	}
	targets, clients := args, []string(nil)
	at := slices.IndexFunc(args, func(arg string) bool { return arg == "from" || arg == "when" })
	if at >= 0 {
		targets, clients = args[:at], args[at+1:]
	}
	if len(targets) == 0 || at >= 0 && len(clients) == 0 {
		return p, wrongCount(args)
	}
	for _, target := range targets {
		prefix, err := cidr.ParseUnmasked(target)
		if err != nil {
			return p, err
		}
		p.targets = append(p.targets, prefix)
	}
	switch {
	case at < 0:
	case args[at] == "when":
		p.when, err = parseCondition(clients)
	default:
		if p.from, err = parsePrefixes(clients); err != nil {
			err = fmt.Errorf("from: %w", err)
		}
	}
	return p, err
}

// addPreference adds a prefer line to those before it. Lines without "from" are one list. It warns
// of what loadbalance takes too, but has no effect.
func (r *rule) addPreference(p preference) (warnings []string, err error) {
	var bare *preference
	if last := len(r.prefer) - 1; last >= 0 && r.prefer[last].isBare() {
		bare = &r.prefer[last]
	}
	switch {
	case p.near != nil && slices.ContainsFunc(r.prefer, func(e preference) bool { return e.near != nil }):
		return nil, errors.New(`"prefer locality" is given twice: want it once`)
	case bare != nil && !p.isBare():
		return nil, fmt.Errorf(`never reached: the first line that fits wins, and the one at %s, without "from", fits all clients`, bare.at)
	case bare == nil && len(r.prefer) == maxPreferences:
		return nil, fmt.Errorf("too many lines: want at most %d", maxPreferences)
	case bare == nil:
		if err := p.reached(r.prefer); err != nil {
			return nil, err
		}
		r.prefer = append(r.prefer, preference{from: p.from, when: p.when, near: p.near, at: p.at})
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

// inPlace describes the place of a choice, if it goes by one.
func (c choice) inPlace() string {
	if !c.place.Known() {
		return ""
	}
	return fmt.Sprintf(" locality, in %s", c.place)
}

// conditionsFor evaluates the conditions of the rule for a query. They are evaluated before the
// plugins below see it, because these may rewrite it.
func (z *zoneRule) conditionsFor(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) (held conditionSet) {
	state := &request.Request{W: w, Req: query}
	for i := range z.prefer {
		c := z.prefer[i].when
		if c == nil {
			continue
		}
		holds, err := c.holds(ctx, state)
		if err != nil {
			z.conditionFailed(&z.prefer[i], err)
		}
		if holds {
			held.add(i)
		}
	}
	return held
}

// conditionFailed counts an expression that failed, and logs it now and then.
func (z *zoneRule) conditionFailed(p *preference, err error) {
	expressionFailures.WithLabelValues(z.zone).Inc()
	now := time.Now().UnixNano()
	if last := p.when.logged.Load(); now-last > int64(conditionLogInterval) && p.when.logged.CompareAndSwap(last, now) {
		log.Warningf("%s: prefer ... when (%s) failed, and counts as false: %s", z.zone, p.at, text.OneLine(err.Error()))
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/schedule"
)

// standing is what is known of a member when it is classified.
type standing struct {
	weight   uint16 // 0: standby
	tier     uint16 // the first is 0
	verdict  health.Verdict
	override overrides.Override
	place    locality.Locality // if the rule goes by it
	factors  inforce.Factors   // of its weight
	distance uint16            // of the target of an MX or SRV record, for what the client prefers
	behind   bool              // it takes turns behind the others of its SRV priority
	reuse    uint32            // Unix time until which damping is to keep it out; 0: it is not
}

// ruled returns the standing as the override has it.
func (s standing) ruled() standing {
	switch s.override {
	case overrides.Up:
		s.verdict = health.Up
	case overrides.Down:
		s.verdict = health.Down
	}
	return s
}

// and returns the standing if another rule says something of the member too: it is down if either
// says so.
func (s standing) and(other standing) standing {
	if other.verdict == health.Down {
		s.verdict = health.Down
	}
	if s.override == overrides.None && other.override != overrides.Up {
		s.override = other.override
	}
	s.reuse = max(s.reuse, other.reuse)
	return s
}

// hash returns a number that differs for different standings.
func (s standing) hash() uint64 {
	changing := uint64(s.distance)<<48 ^ uint64(s.reuse)<<16 | uint64(s.factors.Ramp)<<8 | uint64(s.factors.Load)
	return schedule.Mix(changing) ^ uint64(s.place)<<48 | uint64(s.weight)<<32 | uint64(s.tier)<<8 | uint64(s.verdict)<<4 | uint64(s.override)
}

// standby reports whether the member answers only if no other can.
func (s standing) standby() bool { return s.weight == 0 || s.override == overrides.Drain }

// share returns the static weight of the member when it answers. Standby members answer only among
// themselves, with equal weights.
func (s standing) share() uint16 { return max(s.weight, 1) }

// traffic returns the static weight of the member, 0 if it does not answer while others do.
func (s *standing) traffic() float64 {
	if s.standby() || s.verdict == health.Down || s.reuse > 0 {
		return 0
	}
	return float64(s.share())
}

// quorum is the option min_healthy: how many members of a tier must be eligible for it to serve.
type quorum struct {
	count   int // at least 1
	percent int // 1 to 100; 0: count decides
}

// of returns the quorum of a tier with some members. A share is rounded up.
func (q quorum) of(members int) int {
	if q.percent > 0 {
		return (members*q.percent + 99) / 100
	}
	return q.count
}

// keptTier is a later tier that goes on serving while it has a quorum, as failback says. The zero
// value is none: then the first tier with a quorum serves.
type keptTier struct {
	number  uint16
	until   int64  // Unix time; 0: an operator decides
	replica string // that named the tier; empty: it was decided here
}

// criteria are what members are classified by, beside what is known of them.
type criteria struct {
	minHealthy quorum
	kept       keptTier
	mayStay    bool // a later tier that serves is no degradation
}

// classification says which members answer.
type classification struct {
	answering  []uint16    // indexes, ascending
	excluded   []exclusion // the others, best first
	degraded   bool        // a member that would answer is down, or it has failed over
	failedOver bool        // another tier answers than the first
	allDown    bool        // no member is eligible; those answer that would if all were up
}

// exclusion is a member that does not answer.
type exclusion struct {
	member uint16
	why    reason
}

// classify decides which members answer: those of one tier that are up or unknown, without its
// standby ones unless there is no other, and without those that flap if enough others are left. The
// first tier with a quorum serves, unless a later one is kept or, if none has one, the first with
// any eligible member. If all members are down, the first tier answers as if all were up.
func classify(standings []standing, by criteria) classification {
	tiers := tiersOf(standings, by.minHealthy)
	serving := by.servingTier(tiers)
	if serving < 0 {
		c := classify(allUp(standings), criteria{minHealthy: by.minHealthy})
		c.degraded, c.allDown, c.failedOver = true, true, false
		return c
	}
	c := classification{
		answering:  tiers[serving].eligible(),
		failedOver: serving > 0,
		degraded:   serving > 0 && !by.mayStay || tiers[serving].degraded(standings),
	}
	var rest, failed []exclusion
	for i, t := range tiers {
		switch {
		case i != serving:
			rest = append(rest, exclude(t.regular, notInTier)...)
			rest = append(rest, exclude(t.damped, notInTier)...)
			rest = append(rest, exclude(t.standby, notInTier)...)
		case len(t.regular) > 0:
			c.excluded = append(exclude(t.damped, damped), exclude(t.standby, drained)...)
		default:
			c.excluded = exclude(t.damped, damped)
		}
		failed = append(failed, exclude(t.failed, wasDown)...)
	}
	c.excluded = append(append(c.excluded, rest...), failed...)
	return c
}

// servingTier returns the index of the tier that answers, -1 if no tier has an eligible member.
func (by criteria) servingTier(tiers []tier) int {
	healthy := func(t tier) bool { return t.hasQuorum(by.minHealthy) }
	if at := slices.IndexFunc(tiers, func(t tier) bool { return by.kept.number > 0 && t.number == by.kept.number && healthy(t) }); at >= 0 {
		return at
	}
	if at := slices.IndexFunc(tiers, healthy); at >= 0 {
		return at
	}
	return slices.IndexFunc(tiers, func(t tier) bool { return len(t.eligible()) > 0 })
}

// tier is a tier's members. Those that are not down are regular, standby or damped.
type tier struct {
	number                           uint16
	regular, standby, damped, failed []uint16
}

// tiersOf returns the tiers that have members, in their order.
func tiersOf(standings []standing, q quorum) []tier {
	last := uint16(0)
	for _, s := range standings {
		last = max(last, s.tier)
	}
	tiers := make([]tier, last+1)
	for i, s := range standings {
		t, m := &tiers[s.tier], uint16(i)
		switch {
		case s.verdict == health.Down:
			t.failed = append(t.failed, m)
		case s.standby():
			t.standby = append(t.standby, m)
		default:
			t.regular = append(t.regular, m)
		}
	}
	for i := range tiers {
		tiers[i].number = uint16(i)
		tiers[i].damp(standings, q)
	}
	return slices.DeleteFunc(tiers, func(t tier) bool { return t.size() == 0 })
}

func (t *tier) size() int { return len(t.regular) + len(t.standby) + len(t.damped) + len(t.failed) }

// hasQuorum reports whether enough members are eligible.
func (t *tier) hasQuorum(q quorum) bool { return len(t.eligible()) >= q.of(t.size()) }

// damp leaves out members that flap, first those that are to stay out for longest. At least half of
// the eligible members stay, and those that the tier needs for its quorum.
func (t *tier) damp(standings []standing, q quorum) {
	eligible := t.eligible()
	flapping := slices.DeleteFunc(slices.Clone(eligible), func(m uint16) bool { return standings[m].reuse == 0 })
	if len(flapping) == 0 {
		return
	}
	slices.SortStableFunc(flapping, func(a, b uint16) int { return cmp.Compare(standings[b].reuse, standings[a].reuse) })
	stay := max((len(eligible)+1)/2, min(len(eligible), q.of(t.size())))
	t.damped = flapping[:min(len(flapping), len(eligible)-stay)]
	isDamped := func(m uint16) bool { return slices.Contains(t.damped, m) }
	if len(t.regular) > 0 {
		t.regular = slices.DeleteFunc(t.regular, isDamped)
	} else {
		t.standby = slices.DeleteFunc(t.standby, isDamped)
	}
}

// eligible returns the members that would answer for the tier.
func (t *tier) eligible() []uint16 {
	if len(t.regular) > 0 {
		return t.regular
	}
	return t.standby
}

// degraded reports whether a member that would answer is damped, or down: a regular one or, if the
// tier has none, a standby one.
func (t *tier) degraded(standings []standing) bool {
	if len(t.damped) > 0 {
		return true
	}
	regular := len(t.regular) > 0
	for _, m := range t.failed {
		regular = regular || !standings[m].standby()
	}
	return slices.ContainsFunc(t.failed, func(m uint16) bool { return standings[m].standby() != regular })
}

// exclude returns some members as exclusions for a reason.
func exclude(members []uint16, why reason) (all []exclusion) {
	for _, m := range members {
		all = append(all, exclusion{m, why})
	}
	return all
}

// allUp returns the standings as if every member were up. Those that an operator calls down stay
// so, unless there is no other.
func allUp(standings []standing) []standing {
	open := slices.Clone(standings)
	forced := !slices.ContainsFunc(open, func(s standing) bool { return s.override != overrides.Down })
	for i := range open {
		if forced || open[i].override != overrides.Down {
			open[i].verdict = health.Up
		}
	}
	return open
}

// parseMinHealthy reads "min_healthy N|P%".
func parseMinHealthy(args []string) (q quorum, err error) {
	if len(args) != 1 {
		return q, wrongCount(args)
	}
	if share, ok := strings.CutSuffix(args[0], "%"); ok {
		percent, err := parseNumber(share, 1, 100)
		if err != nil {
			return q, fmt.Errorf("bad share %q: want one from 1%% to 100%%", args[0])
		}
		return quorum{percent: int(percent)}, nil
	}
	n, err := parseNumber(args[0], 1, maxRecords)
	if err != nil {
		return q, fmt.Errorf("%w, or a share such as 50%%", err)
	}
	return quorum{count: int(n)}, nil
}

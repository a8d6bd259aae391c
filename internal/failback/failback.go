// SPDX-License-Identifier: Apache-2.0

// Package failback decides which tier of an RRset serves when several could: the first, or for a
// while the later one that took over from it.
package failback

import (
	"slices"
	"time"
)

// Mode is when an RRset goes back to an earlier tier.
type Mode uint8

// The modes.
const (
	AtOnce Mode = iota // when the earlier tier is healthy
	After              // when it has been healthy for some time
	Manual             // when an operator asks for it
)

// Policy is the option failback.
type Policy struct {
	Mode Mode
	// How long the earlier tier must have been healthy; only with the mode After.
	After time.Duration
}

// Tier is what is known of a tier.
type Tier struct {
	Number  uint16    // the first is 0
	Healthy bool      // it has enough eligible members
	Since   time.Time // since when so many have been up, as far as is known; zero: nothing is
}

// State is which tier of an RRset serves, and since when those before it have been healthy.
// Immutable. The zero value is that of an RRset that no tier has served.
type State struct {
	serves  bool
	tier    uint16
	since   time.Time // since when it serves, or when an operator last asked to go back
	looked  time.Time // when the tiers were last looked at
	earlier []Tier    // those before it that were healthy then, with the time since when
}

// Look is a look at the tiers of an RRset.
type Look struct {
	Tiers   []Tier // in their order
	Now     time.Time
	Awaited bool      // first verdicts are awaited: what serves now need not last
	Asked   time.Time // when an operator last asked to go back; zero: never
}

// Decision is what follows from a look.
type Decision struct {
	State State
	Kept  uint16    // the tier that goes on serving although an earlier one is healthy; 0: none
	Again time.Time // when time alone changes the decision; zero: never
}

// Decide returns what follows from a look, and from the state before.
func (p Policy) Decide(s State, l Look) Decision {
	healthy := slices.DeleteFunc(slices.Clone(l.Tiers), func(t Tier) bool { return !t.Healthy })
	if len(healthy) == 0 {
		return Decision{State: State{looked: l.Now}}
	}
	serving := max(slices.IndexFunc(healthy, func(t Tier) bool { return s.serves && t.Number == s.tier }), 0)
	earlier := s.healthySince(healthy[:serving], l.Now)
	chosen := p.choose(s, l, earlier)
	d := Decision{State: s.serving(l, healthy[chosen].Number, earlier[:chosen])}
	if chosen > 0 {
		d.Kept, d.Again = healthy[chosen].Number, p.again(earlier[:chosen])
	}
	return d
}

// choose returns how many of the healthy tiers before the one that serves are passed over.
func (p Policy) choose(s State, l Look, earlier []Tier) int {
	switch {
	case p.Mode == AtOnce, p.Mode == Manual && l.Asked.After(s.since):
		return 0
	case p.Mode == Manual:
		return len(earlier)
	}
	if at := slices.IndexFunc(earlier, func(t Tier) bool { return !t.Since.Add(p.After).After(l.Now) }); at >= 0 {
		return at
	}
	return len(earlier)
}

// again returns when the first of some tiers has been healthy for long enough, the zero time if
// that does not matter.
func (p Policy) again(earlier []Tier) time.Time {
	if p.Mode != After {
		return time.Time{}
	}
	return slices.MinFunc(earlier, func(a, b Tier) int { return a.Since.Compare(b.Since) }).Since.Add(p.After)
}

// healthySince returns healthy tiers with the time since when they have been. It is when so many
// members came up, or the first look at which they were healthy: an operator may have said so.
func (s State) healthySince(tiers []Tier, now time.Time) (healthy []Tier) {
	for _, t := range tiers {
		came := t.Since
		t.Since = now
		if at := slices.IndexFunc(s.earlier, func(e Tier) bool { return e.Number == t.Number }); at >= 0 {
			t.Since = s.earlier[at].Since
		}
		if came.After(s.looked) {
			t.Since = came
		}
		healthy = append(healthy, t)
	}
	return healthy
}

// serving returns the state in which a tier serves. While first verdicts are awaited, the tier of
// the state stays.
func (s State) serving(l Look, tier uint16, earlier []Tier) State {
	next := State{serves: true, tier: tier, since: s.since, looked: l.Now, earlier: earlier}
	switch {
	case l.Awaited:
		next.serves, next.tier = s.serves, s.tier
	case !s.serves || s.tier != tier || l.Asked.After(s.since):
		next.since = l.Now
	}
	return next
}

// Renumbered returns the state after the tier that serves got another number, or -1 if it is gone:
// then no tier has served. How long earlier ones have been healthy counts from the next look.
func (s State) Renumbered(tier int) State {
	if tier < 0 {
		return State{looked: s.looked}
	}
	s.tier, s.earlier = uint16(tier), nil
	return s
}

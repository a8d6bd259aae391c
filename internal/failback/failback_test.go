// SPDX-License-Identifier: Apache-2.0

package failback

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

// minute returns a time some minutes after the start.
func minute(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Minute))) }

// step is a look at an RRset. Tiers has a letter for each tier: h healthy, and f failed.
type step struct {
	at      float64 // minutes
	tiers   string
	serves  uint16 // the tier, from 0
	kept    bool   // although an earlier one is healthy
	again   float64
	awaited bool
}

func TestDecide(t *testing.T) {
	after, manual := Policy{After, 10 * time.Minute}, Policy{Mode: Manual}
	tests := []struct {
		name   string
		policy Policy
		asked  []float64 // when operators ask to go back
		steps  []step
	}{
		{"at once", Policy{}, nil, []step{
			{at: 0, tiers: "hh"}, {at: 1, tiers: "fh", serves: 1}, {at: 2, tiers: "hh"},
		}},
		{"after ten minutes", after, nil, []step{
			{at: 0, tiers: "hh"}, {at: 1, tiers: "fh", serves: 1},
			{at: 2, tiers: "hh", serves: 1, kept: true, again: 12}, {at: 11, tiers: "hh", serves: 1, kept: true, again: 12},
			{at: 12, tiers: "hh"},
		}},
		{"it fails again meanwhile", after, nil, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 2, tiers: "hh", serves: 1, kept: true, again: 12},
			{at: 5, tiers: "fh", serves: 1}, {at: 9, tiers: "hh", serves: 1, kept: true, again: 19},
		}},
		{"the one that serves fails", after, nil, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 2, tiers: "hh", serves: 1, kept: true, again: 12},
			{at: 3, tiers: "hf"}, {at: 4, tiers: "hh"},
		}},
		{"all fail", after, nil, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 1, tiers: "ff"}, {at: 2, tiers: "hh"},
		}},
		{"of several earlier ones, the first that has been healthy for long enough", after, nil, []step{
			{at: 0, tiers: "ffh", serves: 2}, {at: 1, tiers: "fhh", serves: 2, kept: true, again: 11},
			{at: 5, tiers: "hhh", serves: 2, kept: true, again: 11}, {at: 11, tiers: "hhh", serves: 1, kept: true, again: 15},
			{at: 15, tiers: "hhh"},
		}},
		{"an RRset that is new begins at the first healthy tier", manual, nil, []step{{at: 0, tiers: "hh"}}},
		{"manual", manual, []float64{5, 30}, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 2, tiers: "hh", serves: 1, kept: true},
			{at: 5, tiers: "hh"}, {at: 6, tiers: "fh", serves: 1}, {at: 7, tiers: "hh", serves: 1, kept: true},
			{at: 29, tiers: "hh", serves: 1, kept: true}, {at: 31, tiers: "hh"},
		}},
		{"manual, asked for while the first has failed", manual, []float64{5}, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 5, tiers: "fh", serves: 1}, {at: 6, tiers: "hh", serves: 1, kept: true},
		}},
		{"manual, and the one that serves fails", manual, nil, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 1, tiers: "hh", serves: 1, kept: true}, {at: 2, tiers: "hf"}, {at: 3, tiers: "hh"},
		}},
		{"nothing lasts while first verdicts are awaited", manual, nil, []step{
			{at: 0, tiers: "fh", serves: 1, awaited: true}, {at: 0.1, tiers: "hh"},
		}},
		{"what lasts does so while they are awaited", manual, nil, []step{
			{at: 0, tiers: "fh", serves: 1}, {at: 1, tiers: "hh", serves: 1, kept: true, awaited: true}, {at: 2, tiers: "hh", serves: 1, kept: true},
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var s State
			for _, step := range tc.steps {
				d := tc.policy.Decide(s, step.look(tc.asked))
				s = d.State
				want := Decision{State: s}
				if step.kept {
					want.Kept = step.serves
				}
				if step.again > 0 {
					want.Again = minute(step.again)
				}
				if d.Kept != want.Kept || !d.Again.Equal(want.Again) || step.kept != (d.Kept > 0) {
					t.Errorf("minute %v, tiers %s: kept %d, again at %v; want %d and %v", step.at, step.tiers, d.Kept, d.Again, want.Kept, want.Again)
				}
				if s.serves && s.tier != step.serves {
					t.Errorf("minute %v, tiers %s: tier %d serves, want %d", step.at, step.tiers, s.tier, step.serves)
				}
			}
		})
	}
}

// look returns the look of a step, if operators asked at some times.
func (s step) look(asked []float64) Look {
	l := Look{Now: minute(s.at), Awaited: s.awaited}
	for i, letter := range strings.Split(s.tiers, "") {
		l.Tiers = append(l.Tiers, Tier{Number: uint16(i), Healthy: letter == "h"})
	}
	for _, at := range asked {
		if at <= s.at {
			l.Asked = minute(at)
		}
	}
	return l
}

// Members that came up before anybody asked count from then on, and those that were down meanwhile
// count anew. A tier that was healthy at the last look need not have been ever since.
func TestHealthySinceItsMembersAre(t *testing.T) {
	p := Policy{After, 10 * time.Minute}
	s := p.Decide(State{}, Look{Tiers: []Tier{{Number: 0}, {Number: 1, Healthy: true}}, Now: minute(0)}).State
	for _, look := range []struct {
		at, up, again float64 // minutes
	}{
		{6, 2, 12}, // nobody asked for some minutes
		{7, 2, 12},
		{9, 8, 18}, // it was down in between
		{10, 8, 18},
	} {
		tiers := []Tier{{Number: 0, Healthy: true, Since: minute(look.up)}, {Number: 1, Healthy: true}}
		d := p.Decide(s, Look{Tiers: tiers, Now: minute(look.at)})
		if s = d.State; !d.Again.Equal(minute(look.again)) {
			t.Errorf("minute %v, up since %v: again at %v, want %v", look.at, look.up, d.Again, minute(look.again))
		}
	}
}

// walk is an RRset whose tiers fail and recover at random.
type walk struct {
	*rand.Rand
	policy     Policy
	now        time.Time
	healthy    []time.Time // since when each tier is, as far as was looked; zero: it is not
	asked      time.Time   // when an operator last asked to go back
	serves     int         // the tier, -1 for none
	began      time.Time   // when it began to, or when an operator last asked
	atLastLook State
}

// Whatever tiers do: one that serves gives way to an earlier one only if that has been healthy for
// long enough, or if an operator asks for it, and never to a later one while it is healthy.
func TestNobodyGivesWayTooSoon(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := Policy{Mode: Mode(rng.IntN(3)), After: 10 * time.Minute}
		w := &walk{Rand: rng, policy: p, now: start, healthy: make([]time.Time, 2+rng.IntN(3)), serves: -1, began: start}
		for range 50 {
			d := p.Decide(w.atLastLook, w.look())
			w.check(t, d)
			w.atLastLook = d.State
		}
	}
}

// look lets some minutes pass and has tiers fail or recover.
func (w *walk) look() Look {
	w.now = w.now.Add(time.Duration(w.Int64N(int64(8 * time.Minute))))
	l := Look{Now: w.now}
	for i, was := range w.healthy {
		if w.IntN(4) == 0 {
			w.healthy[i] = time.Time{}
			if was.IsZero() {
				w.healthy[i] = w.now
			}
		}
		l.Tiers = append(l.Tiers, Tier{Number: uint16(i), Healthy: !w.healthy[i].IsZero()})
	}
	if w.IntN(6) == 0 {
		w.asked = w.now
	}
	l.Asked = w.asked
	return l
}

// check checks a decision.
func (w *walk) check(t *testing.T, d Decision) {
	t.Helper()
	next := slices.IndexFunc(w.healthy, func(at time.Time) bool { return !at.IsZero() })
	if d.Kept > 0 {
		next = int(d.Kept)
	}
	stays := w.serves >= 0 && !w.healthy[w.serves].IsZero()
	isEarlier := stays && next < w.serves
	switch {
	case stays && next > w.serves:
		t.Fatalf("%+v: tier %d serves, although %d is healthy", w.policy, next, w.serves)
	case isEarlier && w.policy.Mode == After && w.now.Sub(w.healthy[next]) < w.policy.After:
		t.Fatalf("%+v: tier %d serves after %v", w.policy, next, w.now.Sub(w.healthy[next]))
	case isEarlier && w.policy.Mode == Manual && !w.asked.After(w.began):
		t.Fatalf("%+v: tier %d serves, and nobody asked", w.policy, next)
	case next >= 0 && w.healthy[next].IsZero(), d.Kept > 0 && w.policy.Mode == AtOnce, !d.Again.IsZero() && !d.Again.After(w.now):
		t.Fatalf("%+v, healthy since %v: %+v at %v", w.policy, w.healthy, d, w.now)
	}
	if next != w.serves || w.asked.Equal(w.now) {
		w.serves, w.began = next, w.now
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/overrides"
)

// planOf returns a plan as a rule without options makes it.
func planOf(t *testing.T, members string) *plan {
	t.Helper()
	p := &plan{basis: basis{rule: &rule{policy: &policies[0], minHealthy: quorum{count: 1}}, prefer: choice{line: noPreference}}, standings: standingsOf(t, members)}
	for i := range p.standings {
		p.members = append(p.members, member{rank: uint16(i)})
	}
	p.divide()
	return p
}

// What an operator must know is logged once a change.
func TestAnnouncements(t *testing.T) {
	for _, tc := range []struct {
		before, now string
		mode        allDownMode
		want        string
	}{
		{before: "", now: "U U/1"},
		{before: "", now: "D U/1", want: "tier 2 answers, because too few members of an earlier tier are up"},
		{before: "U U/1", now: "D U/1", want: "tier 2 answers, because too few members of an earlier tier are up"},
		{before: "D U/1", now: "D U/1"},
		{before: "D U/1 U/2", now: "D D/1 U/2", want: "tier 3 answers, because too few members of an earlier tier are up"},
		{before: "D U/1", now: "U U/1", want: "tier 1 answers again"},
		{before: "D U/1", now: "D D/1"},
		{before: "U D/1", now: "U D/1"},
	} {
		var before *state
		if tc.before != "" {
			before = &state{plan: planOf(t, tc.before)}
		}
		if got := changeOf(before, planOf(t, tc.now), allDown{mode: tc.mode}); got != tc.want {
			t.Errorf("%q to %q: %q, want %q", tc.before, tc.now, got, tc.want)
		}
	}
}

// A down by an operator does not take the last member away, which the log says.
func TestAllForcedDownIsAnnounced(t *testing.T) {
	p := planOf(t, "D D")
	if got := changeOf(nil, p, allDown{}); got != "" {
		t.Errorf("%q for members that probes found down", got)
	}
	for i := range p.standings {
		p.standings[i].override = overrides.Down
	}
	const want = "all members are overridden down, and answered anyway, as all_down open says: all_down nodata, servfail or fallback changes that"
	if got := changeOf(nil, p, allDown{}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := changeOf(&state{plan: p}, p, allDown{}); got != "" {
		t.Errorf("%q again", got)
	}
	if got := changeOf(nil, p, allDown{mode: answerNoData}); got != "" {
		t.Errorf("%q, though clients get no member", got)
	}
}

// However many names change at once, the log has few lines, and the next one says how many are
// missing.
func TestAnnouncementsAreBounded(t *testing.T) {
	var a announcer
	now := time.Unix(1, 0)
	admitted := 0
	for range 1000 {
		if _, ok := a.admit(now); ok {
			admitted++
		}
	}
	if omitted, ok := a.admit(now.Add(time.Second)); admitted != maxLinesPerSecond || !ok || omitted != 1000-maxLinesPerSecond {
		t.Errorf("%d lines, then %v with %d omitted", admitted, ok, omitted)
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"testing"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/overrides"
)

// says returns a check that knows one endpoint.
func says(e health.Endpoint) *verdicts {
	return &verdicts{known: map[netip.AddrPort]health.Endpoint{withoutPort(a1): e}, seen: map[netip.AddrPort]bool{}, allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
}

// A member is what as many checks say as the rule requires. An agent that cannot be understood does
// not count, nor does a check by the ports of records that knows no port. A drain of an agent is a
// drain.
func TestChecksTogether(t *testing.T) {
	up, down, unknown := says(health.Endpoint{Verdict: health.Up}), says(health.Endpoint{Verdict: health.Down}), says(health.Endpoint{})
	mute := says(health.Endpoint{Advice: health.Advice{NoSay: true}})
	draining := says(health.Endpoint{Verdict: health.Up, Advice: health.Advice{Drain: true}})
	outside := &verdicts{}
	portless := &verdicts{ports: true, seen: map[netip.AddrPort]bool{}, allow: up.allow}
	for _, tc := range []struct {
		name     string
		require  int
		checks   []*verdicts
		want     health.Verdict
		override overrides.Override
	}{
		{"all", 0, []*verdicts{up, down}, health.Down, overrides.None},
		{"all, one unknown", 0, []*verdicts{up, unknown}, health.Unknown, overrides.None},
		{"any", 1, []*verdicts{up, down}, health.Up, overrides.None},
		{"any, one unknown", 1, []*verdicts{down, unknown}, health.Unknown, overrides.None},
		{"two of three", 2, []*verdicts{up, down, up}, health.Up, overrides.None},
		{"two, one may not probe", 2, []*verdicts{up, outside}, health.Up, overrides.None},
		{"an agent without a say", 0, []*verdicts{up, mute}, health.Up, overrides.None},
		{"an agent without a say, down", 0, []*verdicts{down, mute}, health.Down, overrides.None},
		{"an agent without a say alone", 0, []*verdicts{mute}, health.Unknown, overrides.None},
		{"no port is known", 1, []*verdicts{down, portless}, health.Down, overrides.None},
		{"all, no port is known", 0, []*verdicts{up, portless}, health.Up, overrides.None},
		{"no port is known to the only check", 0, []*verdicts{portless}, health.Unknown, overrides.None},
		{"a drain", 0, []*verdicts{up, draining}, health.Up, overrides.Drain},
	} {
		z := &zoneRule{rule: &rule{require: tc.require, policy: &policies[0]}}
		for _, c := range tc.checks {
			z.subscriptions, z.agents = append(z.subscriptions, c), append(z.agents, c)
		}
		at := z.standingOf("www.h.", withoutPort(a1), z.verdictOn(withoutPort(a1)), z.timeOfDay())
		if at.verdict != tc.want || at.override != tc.override {
			t.Errorf("%s: got %v, %v, want %v, %v", tc.name, at.verdict, at.override, tc.want, tc.override)
		}
		if got := z.lastVerdictOn(withoutPort(a1)); got != tc.want {
			t.Errorf("%s, without a trace: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

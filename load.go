// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// The option load_weights: members that say that they are busy get less than their weight.
// internal/load decides how much less; here are the members and their reports.

// defaultLoadFloor is the smallest part of its weight that a member gets, in percent.
const defaultLoadFloor = 10

// parseLoadWeights reads "load_weights [FLOOR%]".
func parseLoadWeights(args []string) (floor int, err error) {
	switch len(args) {
	case 0:
		return defaultLoadFloor, nil
	case 1:
		percent, isPercent := strings.CutSuffix(args[0], "%")
		n, err := parseNumber(percent, 1, 99)
		if err != nil || !isPercent {
			return 0, fmt.Errorf("bad floor %q: want the smallest part of a weight, from 1%% to 99%%", args[0])
		}
		return int(n), nil
	}
	return 0, wrongCount(args)
}

// goesByLoad reports whether the rule has the option load_weights.
func (r *rule) goesByLoad() bool { return r.loadFloor > 0 }

// reportsLoad reports whether a check of the rule may find out how busy members are.
func (r *rule) reportsLoad() bool {
	return slices.ContainsFunc(r.checks, func(c *check) bool { return c.loads })
}

// loadInterval is how often members say how busy they are, and how often weights follow.
func (r *rule) loadInterval() time.Duration {
	interval := time.Duration(math.MaxInt64)
	for _, c := range r.checks {
		if c.loads {
			interval = min(interval, c.Timing.Interval)
		}
	}
	return max(interval, time.Second)
}

// loadLimits are those of the rule.
func (r *rule) loadLimits() load.Limits {
	return load.Limits{
		Floor: float64(r.loadFloor) / 100, TTL: time.Duration(r.ttl.max) * time.Second, Interval: r.loadInterval(),
	}
}

// weigh scales the weights in b.standings by what n members say of their load, and returns the state that
// follows from one before, which may be nil. It notes in b when to do so again.
func (r *applied) weigh(before *load.State, n int, memberAt func(i int) *member, b *buffers) *load.State {
	z := r.question
	if !z.goesByLoad() || r.ordersOnly || memberAt(0).host != "" {
		return nil
	}
	now, interval := time.Now(), z.loadInterval()
	members := make([]load.Member, n)
	for i := range members {
		members[i] = z.loadMember(memberAt(i), &b.standings[i], now)
	}
	next := before.Next(now, members, z.loadLimits())
	for i := range b.standings {
		if percent := next.Percent(members[i].Addr); percent < 100 {
			b.standings[i].factors.Load = inforce.Percent(percent)
		}
	}
	b.changesAt(now.Truncate(interval).Add(interval)) // the same for all RRsets, so that they share plans
	return next
}

// loadMember returns what the controller needs to know of a member.
func (z *zoneRule) loadMember(m *member, s *standing, now time.Time) load.Member {
	known := load.Member{Addr: m.addr, Group: s.tier}
	if !s.standby() && s.verdict != health.Down {
		known.Weight = float64(inforce.Weights([]inforce.Weight{{Static: s.share(), Factors: inforce.Factors{Ramp: s.factors.Ramp}}})[0])
	}
	if said := z.loadOf(m); said.Report.Kind != load.Nothing {
		known.Report, known.Age = said.Report, now.Sub(said.At)
	}
	return known
}

// loadOf returns what a member says of its load: to the first check that has heard something.
func (z *zoneRule) loadOf(m *member) (said health.Load) {
	at := withoutPort(m.addr)
	for _, s := range z.subscriptions {
		if said = s.Load(at); said != (health.Load{}) && s.Allows(at) {
			return said
		}
	}
	return health.Load{}
}

// silenceOf says that a member has been without a valid load report for so long that the controller goes
// without one, "" if it has not.
func (z *zoneRule) silenceOf(m *member, now time.Time) string {
	if !z.goesByLoad() {
		return ""
	}
	said := z.loadOf(m)
	switch age := now.Sub(said.At); {
	case said.Report.Kind == load.Nothing:
		return "load_weights: no valid load report so far: it gets the mean of the others' parts, and no more than it has"
	case age > load.Patience*z.loadInterval():
		return fmt.Sprintf("load_weights: no valid load report for %s: it gets the mean of the others' parts, and no more than it has",
			age.Round(time.Second))
	}
	return ""
}

// loadText describes what an endpoint says of its load, "" if that is nothing or no load.
func loadText(l health.Load, now time.Time) string {
	ago := now.Sub(l.At).Round(time.Second)
	switch {
	case l.Problem != "":
		return l.Problem
	case l.Report.Kind == load.Utilisation:
		return fmt.Sprintf("%.0f%% busy, %s ago", 100*l.Report.Value, ago)
	case l.Report.Kind == load.Share && l.Report.Value < 1:
		return fmt.Sprintf("asks for %.0f%% of its weight, %s ago", 100*l.Report.Value, ago)
	}
	return ""
}

// shownLoad returns what an endpoint says of its load for the page, nil if that is nothing.
func shownLoad(l health.Load, now time.Time) *statuspage.Load {
	if l == (health.Load{}) {
		return nil
	}
	shown := &statuspage.Load{Problem: l.Problem}
	if l.Report.Kind != load.Nothing {
		shown.Kind, shown.Value = loadKinds[l.Report.Kind], l.Report.Value
		shown.Age = max(now.Sub(l.At), 0).Seconds()
	}
	return shown
}

// loadKinds are the kinds of reports for programs.
var loadKinds = [...]string{load.Share: "share", load.Utilisation: "utilisation"}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// reporting are replicas whose rules go by load. What the endpoints say can differ from replica to
// replica.
type reporting struct {
	*replicas
	agents []*agents
}

func newReporting(t *testing.T, n int) *reporting {
	all := &reporting{replicas: &replicas{t: t, byLoad: true}}
	all.change = func(c *Check) {
		a := &agents{backends: c.Prober.(*backends)}
		all.agents = append(all.agents, a)
		c.Prober = a
	}
	for range n {
		all.join("r" + string(rune('0'+len(all.agents))))
	}
	all.members()
	return all
}

func (all *reporting) say(r probe.Report) {
	for _, a := range all.agents {
		a.say(r)
	}
}

// hear fails the test unless all replicas have a load report of an endpoint that came within some
// time, or none that did.
func (all *reporting) hear(at netip.AddrPort, within time.Duration, want load.Report, problem string) {
	all.t.Helper()
	for _, r := range all.all {
		got := r.rule.Load(at)
		if fresh := time.Since(got.At) < within; !r.gone && (got.Report != want || !fresh || got.Problem != problem) {
			all.t.Errorf("%s has %+v, %v old; want %v within %v, and %q", r.name, got, time.Since(got.At), want, within, problem)
		}
	}
}

// assigned returns the replicas that probe an endpoint.
func (all *reporting) assigned(at netip.AddrPort) (probing []*replica) {
	for _, r := range all.all {
		before := r.backends.count(at)
		wait(2 * r.check.Timing.Interval)
		if !r.gone && r.backends.count(at) > before {
			probing = append(probing, r)
		}
	}
	return probing
}

var halfBusy = load.Report{Kind: load.Utilisation, Value: 0.5}

// In a fleet a report is valid for three intervals too, and a problem that a prober sees is known
// to all replicas.
func TestLoadReportsInFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReporting(t, 5)
		interval := all.all[0].check.Timing.Interval
		all.say(probe.Report{Load: halfBusy})
		all.all[0].rule.Seen(a1)
		wait(2 * interval)
		all.hear(a1, time.Second, halfBusy, "")
		probing := all.assigned(a1)
		if len(probing) != 3 {
			t.Fatalf("%d replicas probe it, want 3", len(probing))
		}

		all.say(probe.Report{BadLoad: "nonsense"})
		wait(2 * interval)
		for _, r := range all.all {
			want := "another replica got a load report that is not valid"
			for _, one := range probing {
				if one == r {
					want = "nonsense"
				}
			}
			if got := r.rule.Load(a1); got.Problem != want || got.Report != halfBusy || time.Since(got.At) > interval {
				t.Errorf("%s has %+v, want %q and the last report", r.name, got, want)
			}
		}

		all.say(probe.Report{Load: halfBusy})
		wait(2 * interval)
		all.hear(a1, time.Second, halfBusy, "")
		all.say(probe.Report{})
		wait(2 * interval)
		all.hear(a1, interval, halfBusy, "")
		wait(3 * interval)
		for _, r := range all.all {
			if got := r.rule.Load(a1); got.Report != halfBusy || time.Since(got.At) <= load.Patience*interval {
				t.Errorf("%s has %+v, %v old, want one that is more than three intervals old", r.name, got, time.Since(got.At))
			}
		}
		all.say(probe.Report{Load: halfBusy})
		wait(2 * interval)
		all.hear(a1, time.Second, halfBusy, "")
	})
}

// Of what the assigned replicas hear the median counts.
func TestLoadMedian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReporting(t, 3)
		for i, a := range all.agents {
			a.say(probe.Report{Load: load.Report{Kind: load.Utilisation, Value: []float64{0.9, 0.5, 0.3}[i]}})
		}
		all.all[0].rule.Seen(a1)
		wait(3 * all.all[0].check.Timing.Interval)
		all.hear(a1, time.Second, halfBusy, "")
	})
}

// While an endpoint moves from one replica to another, its report stays, and expires if the new one
// hears none.
func TestLoadReportsMove(t *testing.T) {
	for _, heard := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			all := newReporting(t, 5)
			interval := all.all[0].check.Timing.Interval
			all.say(probe.Report{Load: halfBusy})
			for _, r := range all.all {
				r.rule.Seen(a1)
			}
			wait(2 * interval)
			if !heard {
				all.say(probe.Report{})
			}
			for range 2 {
				all.assigned(a1)[0].end()
				all.members()
				for range 20 {
					if wait(interval / 4); heard {
						all.hear(a1, interval, halfBusy, "")
					}
				}
			}
			for _, r := range all.all {
				if age := time.Since(r.rule.Load(a1).At); !r.gone && !heard && age <= load.Patience*interval {
					t.Errorf("%s has a report that is %v old, though none came", r.name, age)
				}
			}
		})
	}
}

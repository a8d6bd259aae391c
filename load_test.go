// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/load"
)

// busyMembers are three members whose load a test says. It is not safe for concurrent use.
type busyMembers struct {
	plugin.Handler
	*verdicts
	question *dns.Msg
	served   *servedRule
}

func newBusyMembers(t *testing.T, options string) *busyMembers {
	t.Helper()
	h := newHandler(t, "balance {\n policy weighted\n"+options+"\n health_check http 80 {\n allow 0.0.0.0/0\n }\n}", echo)
	m := message(t, "www.h. A", "www.h. 300 A 192.0.2.1\n www.h. 300 A 192.0.2.2\n www.h. 300 A 192.0.2.3")
	served := h.(*Balance).rules.of(m)
	v := &verdicts{rule: served.rule, allow: served.checks[0].allow, known: map[netip.AddrPort]health.Endpoint{}, seen: map[netip.AddrPort]bool{}}
	served.subscriptions = []subscription{v}
	served.scope = rand.Uint64() // not that of another test
	return &busyMembers{h, v, m, served}
}

// say has the members say how busy they are. A negative number is silence.
func (b *busyMembers) say(utilisations ...float64) {
	for i, u := range utilisations {
		at := withoutPort(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
		e := health.Endpoint{At: at, Verdict: health.Up, Since: time.Now(), Load: b.known[at].Load}
		if u >= 0 {
			e.Load = health.Load{Report: load.Report{Kind: load.Utilisation, Value: u}, At: time.Now()}
		}
		b.known[at] = e
	}
}

// lead asks, and returns the number of the member that leads the answer.
func (b *busyMembers) lead(t *testing.T) int {
	t.Helper()
	return int(addrOfA(ask(t, b.Handler, b.question).Answer[0].(*dns.A)).As4()[3]) - 1
}

// state returns the state for the members, nil before the first answer.
func (b *busyMembers) state() *state {
	e := allTurns.known(b.served.scope, turnKey{where: inAnswer, rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "www.h.")
	if e == nil {
		return nil
	}
	return e.state.Load()
}

// leadsFor has the members say the same for some time, with questions, and returns who led how
// often in the last minute of it.
func (b *busyMembers) leadsFor(t *testing.T, d time.Duration, utilisations ...float64) (leads [3]int) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); wait(100 * time.Millisecond) {
		b.say(utilisations...)
		lead := b.lead(t)
		if time.Until(end) <= time.Minute {
			leads[lead]++
		}
	}
	return leads
}

func TestLoadWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyMembers(t, "load_weights 20%")
		if got := b.leadsFor(t, 2*time.Minute, 0.5, 0.5, 0.5); got != [3]int{200, 200, 200} {
			t.Errorf("equally busy: %v led", got)
		}
		// 0.9, 0.3 and 0.3 whatever the traffic: down to the floor, 1 of 11.
		if got := b.leadsFor(t, 15*time.Minute, 0.9, 0.3, 0.3); got[0] < 53 || got[0] > 56 {
			t.Errorf("one is busy: %v led, want about 55, 273, 273", got)
		}
		reasons := strings.Join(b.served.reasonsFor("www.h.", b.state().plan, 0, &buffers{}, time.Now()), "\n")
		for _, want := range []string{"90% busy, 0s ago", "weight in force 0.2 of 1: load_weights 20%"} {
			if !strings.Contains(reasons, want) {
				t.Errorf("reasons are %q, want %q", reasons, want)
			}
		}
		if p := shownLoad(b.known[withoutPort(a1)].Load, time.Now().Add(3*time.Second)); p.Kind != "utilisation" || p.Value != 0.9 || p.Age < 3 {
			t.Errorf("the page has %+v", p)
		}
		b.leadsFor(t, time.Minute, 0.9, 0.3, -1)
		reasons = strings.Join(b.served.reasonsFor("www.h.", b.state().plan, 2, &buffers{}, time.Now()), "\n")
		if want := "load_weights: no valid load report for 1m0s: it gets the mean of the others' parts, and no more than it has"; !strings.Contains(reasons, want) {
			t.Errorf("reasons are %q, want %q", reasons, want)
		}
	})
}

// A factor scales the static weight, and is forgotten with neither a drain nor a reload of the
// rule.
func TestLoadScalesStaticWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyMembers(t, "load_weights 50%\n weight 192.0.2.1 4\n weight 192.0.2.2 2")
		got := b.leadsFor(t, 15*time.Minute, 0.9, 0.3, 0.3) // 2, 2, 1
		if want := [3]int{240, 240, 120}; got[0] < want[0]-3 || got[0] > want[0]+3 || got[2] < want[2]-3 || got[2] > want[2]+3 {
			t.Errorf("%v led, want about %v", got, want)
		}
	})
}

// A member in a slow start is idle because it gets little, not because it could take more: neither
// does it get more than its ramp, nor do the others get less of their weights.
func TestLoadOfARampingMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBusyMembers(t, "load_weights\n ttl 10\n slow_start 10m")
		b.records = make(map[netip.AddrPort]health.Record)
		for i, cameUp := range []bool{false, false, true} {
			at := withoutPort(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
			b.records[at] = health.Record{Verdict: health.Up, Since: time.Now(), CameUp: cameUp}
		}
		traffic := [3]float64{0.47, 0.47, 0.06} // of the last ten seconds
		var leads [3]int
		for range 10 * 120 {
			b.say(traffic[0], traffic[1], traffic[2])
			lead := b.lead(t)
			leads[lead]++
			for i := range traffic {
				traffic[i] *= 0.99
			}
			traffic[lead] += 0.01
			wait(100 * time.Millisecond)
		}
		// In two minutes of ten the ramp goes from 10 to 20 %: 1/21 to 1/11 of the answers.
		if leads[2] > 130 {
			t.Errorf("%v led, want at most 130 for the one that ramps", leads)
		}
		for i, s := range b.state().plan.standings {
			if s.factors.Load > 0 && s.factors.Load < 75 {
				t.Errorf("member %d has %d %% of its weight", i+1, s.factors.Load)
			}
		}
	})
}

// If several checks may bring reports, the first valid one counts: neither one that is not valid nor
// one that is too old hides it. Reports are valid for three intervals of the slowest of the checks.
func TestFirstValidReportCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(t, "balance {\n policy weighted\n ttl 10\n load_weights\n"+
			" health_check http 80 {\n allow 0.0.0.0/0\n interval 1s\n }\n"+
			" health_check agent 81 {\n allow 0.0.0.0/0\n interval 6s\n }\n}", echo)
		z := h.(*Balance).rules.only
		at := withoutPort(a1)
		said := func(l health.Load) *verdicts {
			return &verdicts{rule: z.rule, allow: z.checks[0].allow, known: map[netip.AddrPort]health.Endpoint{at: {At: at, Load: l}}}
		}
		now := time.Now()
		half := health.Load{Report: load.Report{Kind: load.Share, Value: 0.5}, At: now.Add(-17 * time.Second)}
		old := health.Load{Report: load.Report{Kind: load.Utilisation, Value: 0.5}, At: now.Add(-19 * time.Second)}
		for _, first := range []health.Load{{}, {Problem: "not a number"}, old} {
			z.subscriptions = []subscription{said(first), said(half)}
			if got := z.loadOf(a1); got != half {
				t.Errorf("%+v counts beside %+v, want the valid one", got, first)
			}
			if silence := z.loads.silence(z.loadOf(a1), now); silence != "" {
				t.Errorf("after 17s, with an interval of 6s: %s", silence)
			}
		}
		z.subscriptions = []subscription{said(old), said(health.Load{})}
		if got := z.loadOf(a1); got != old {
			t.Errorf("%+v counts, want the only one, although it is old", got)
		}
	})
}

// Weights that change every few seconds keep shares exact from one change to the next, and the
// member whose turn it is when they change has it.
func TestLoadWeightsKeepTurns(t *testing.T) {
	for _, options := range []string{"", "weight 192.0.2.1 5", "weight 192.0.2.1 700\n weight 192.0.2.2 300", "answers 1"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBusyMembers(t, "load_weights\n"+options)
			random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
			utilisations := []float64{0.5, 0.5, 0.5}
			var step, all tallies
			steps := 0
			for i := range 20_000 {
				if i%100 == 0 {
					for m := range utilisations {
						utilisations[m] = random.Float64()
					}
				}
				before, due := b.state(), -1
				if before != nil {
					due = before.due()
				}
				b.say(utilisations...)
				lead := b.lead(t)
				if before != nil && lead != due {
					t.Fatalf("answer %d: member %d led, but it was the turn of %d", i, lead, due)
				}
				now := b.state().plan.groups[0].weights
				if !slices.Equal(now, step.weights) {
					step, steps = tallies{weights: now}, steps+1
				}
				step.add(lead, now)
				all.add(lead, now)
				if off := step.off(); off > 2 {
					t.Fatalf("answer %d, weights %v: led %v in this step, %.1f off", i, now, step.led, off)
				}
				wait(100 * time.Millisecond)
			}
			if steps < 200 {
				t.Errorf("%d steps, want many", steps)
			}
			if off := all.off(); off > 0.02*20_000 {
				t.Errorf("%v led, %.0f off, in %d steps", all.led, off, steps)
			}
		})
	}
}

// due returns the member whose turn is next.
func (s *state) due() int {
	g := &s.plan.groups[0]
	order := make([]uint16, 1)
	if len(g.members) == s.plan.wanted {
		order = make([]uint16, len(g.members))
	}
	g.schedule.Order(s.turns.of(0).Load(), order)
	return int(g.members[order[0]].addr.As4()[3]) - 1
}

// tallies counts who led, and how often each should have.
type tallies struct {
	weights []uint16
	led     [3]int
	wanted  [3]float64
}

func (c *tallies) add(lead int, weights []uint16) {
	c.led[lead]++
	sum := 0.0
	for _, w := range weights {
		sum += float64(w)
	}
	for i, w := range weights {
		c.wanted[i] += float64(w) / sum
	}
}

// off returns by how many answers any member is away from its share.
func (c *tallies) off() (most float64) {
	for i := range c.led {
		most = max(most, math.Abs(float64(c.led[i])-c.wanted[i]))
	}
	return most
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"testing/synctest"
	"time"
)

// A reload in the middle of a failure streak keeps the streak and causes no probe.
func TestReloadKeepsStreak(t *testing.T) {
	for _, interval := range []time.Duration{defaultInterval, 4 * time.Second} { // the same check, and one with another interval
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBackends(t)
				c := b.checkOf()
				c.Timing.FastInterval = 3 * time.Second
				before := pools.Join(c, in("example.org."))
				before.Seen(a1)
				wait(20 * time.Second)
				b.set(a1, errRefused)
				b.await(t, a1, b.count(a1)+2) // two failures of three
				probes := b.count(a1)

				changed := *c
				changed.Timing.Interval = interval
				after := joined(t, &changed)
				before.Leave()
				wait(10 * time.Millisecond)
				if got := after.Seen(a1); got != Up || b.count(a1) != probes {
					t.Errorf("after the reload %v and %d probes, want up and %d", got, b.count(a1), probes)
				}
				b.await(t, a1, probes+1)
				if got := after.Seen(a1); got != Down {
					t.Errorf("after the third failure %v, want down", got)
				}
			})
		})
	}
}

// A hundred reloads with thousands of endpoints cause no burst of probes. If the interval changes
// each time, endpoints have to find new phases, which costs a few.
func TestReloadsSendNoBurst(t *testing.T) {
	for _, change := range []time.Duration{0, time.Second} {
		t.Run(change.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkNoBurst(t, change) })
		})
	}
}

func checkNoBurst(t *testing.T, change time.Duration) {
	t.Helper()
	const endpoints = 2000
	b := newBackends(t)
	s := pools.Join(b.checkOf(), in("example.org."))
	for _, addr := range addresses(endpoints) {
		s.Seen(addr)
	}
	wait(30 * time.Second)
	const most = 3 * endpoints / 50 // probes in 100 ms: an even spread has a third of that, a burst has 2000
	for i := range 100 {
		before := b.all()
		c := b.checkOf()
		c.Timing.Interval += time.Duration(i%2) * change
		next := pools.Join(c, in("example.org."))
		s.Leave()
		s = next
		wait(100 * time.Millisecond)
		if probes := b.all() - before; probes > most {
			t.Errorf("%d probes in the 100 ms after reload %d, want at most %d", probes, i, most)
		}
	}
	if s.pool.table.known() != endpoints {
		t.Errorf("%d endpoints known, want %d", s.pool.table.known(), endpoints)
	}
	s.Leave()
}

// An address that the new Corefile does not allow is no longer probed once the old server has
// stopped.
func TestReloadWithLessAllowed(t *testing.T) {
	for _, interval := range []time.Duration{defaultInterval, 2 * defaultInterval} { // the same pool, and one that takes over what the first knew
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			c := b.checkOf()
			before := pools.Join(c, in("example.org."))
			before.Seen(a1)
			before.Seen(a2)
			wait(20 * time.Second)
			less := *c
			less.Timing.Interval = interval
			joinedAs(t, &less, allowing(a2))
			before.Leave()
			probes, others := b.count(a1), b.count(a2)
			wait(time.Minute)
			if b.count(a1) != probes || b.count(a2) == others {
				t.Errorf("interval %v: %d more probes of the one not allowed, %d of the other", interval, b.count(a1)-probes, b.count(a2)-others)
			}
		})
	}
}

// A query that the old server answers after its end registers nothing.
func TestLateAnswersAfterAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		before := pools.Join(c, in("example.org."))
		before.Seen(a1)
		wait(time.Second)
		after := joinedAs(t, c, allowing(a2))
		before.Leave()
		probes := b.count(a1)
		if v := before.Seen(a1); v != Up {
			t.Errorf("%v for a late answer, want up, as it was", v)
		}
		before.Seen(a3)
		live(after, 5*time.Minute, a2)
		if b.count(a1) != probes || b.count(a3) > 0 {
			t.Errorf("%d and %d probes of what is not allowed any more, want none", b.count(a1)-probes, b.count(a3))
		}
	})
}

// Rules with the same check share its probes; each sees its own endpoints.
func TestRulesShareProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		one, other := joined(t, c), pools.Join(c, in("other.example.org."))
		one.Seen(a1)
		one.Seen(a2)
		other.Seen(a2)
		wait(22 * time.Second)
		if n := b.count(a2); n > 6 {
			t.Errorf("%d probes of the shared endpoint in 22 s, want at most 6", n)
		}
		if got := metric(t, "coredns_balance_endpoints", "other.example.org.", "up"); got != 1 {
			t.Errorf("%v endpoints of the other rule, want 1", got)
		}
		other.Leave()
		if got := metric(t, "coredns_balance_endpoints", "other.example.org.", "up"); got != 0 {
			t.Errorf("%v endpoints of the rule that left, want 0", got)
		}
	})
}

// Stopping waits for the probes in flight, and changes no verdict.
func TestStoppingIsNotDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := pools.Join(b.checkOf(), in("example.org."))
		s.Seen(a1)
		wait(20 * time.Second)
		b.fail(a1, true)
		wait(defaultInterval)
		s.Leave()
		if b.now != 0 {
			t.Errorf("%d probes in flight after the end", b.now)
		}
		if got := s.Seen(a1); got != Up {
			t.Errorf("verdict %v, want the last one, up", got)
		}
	})
}

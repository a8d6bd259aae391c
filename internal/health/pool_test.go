// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// With the default timing, a dead endpoint is down within a bound, whenever in its interval it
// dies.
func TestDetectionTime(t *testing.T) {
	const inDoubt = defaultInterval + 2*defaultFastInterval + time.Second
	tests := []struct {
		name   string
		hang   bool
		within time.Duration
	}{
		{"refused", false, inDoubt},
		{"black-holed", true, inDoubt + 3*defaultTimeout},
	}
	for _, tc := range tests {
		for moment := 20 * time.Second; moment < 25*time.Second; moment += 500 * time.Millisecond {
			t.Run(fmt.Sprint(tc.name, " at ", moment), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBackends(t)
					s := joined(t, b.checkOf())
					s.Seen(a1)
					wait(moment)
					if got := s.Seen(a1); got != Up {
						t.Fatalf("verdict %v, want up", got)
					}
					b.fail(a1, tc.hang)
					wait(tc.within)
					if got := s.Seen(a1); got != Down {
						t.Errorf("verdict %v after %v, want down", got, tc.within)
					}
				})
			})
		}
	}
}

// New endpoints are probed at once. Many are spread over a second, and then over the interval.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints = 5000
		b := newBackends(t)
		s := joined(t, b.checkOf())
		addrs := addresses(endpoints)
		start := time.Now()
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(time.Second)
		for _, addr := range addrs {
			if b.count(addr) != 1 || s.Seen(addr) != Up {
				t.Fatalf("%s: %d probes and %v after a second, want one and up", addr, b.count(addr), s.Seen(addr))
			}
		}
		wait(time.Minute - time.Second)
		perSecond := map[int]int{}
		b.Lock()
		defer b.Unlock()
		for _, addr := range addrs {
			for i, at := range b.probes[addr] {
				perSecond[int(at.Sub(start)/time.Second)]++
				if i > 0 && at.Sub(b.probes[addr][i-1]) > defaultInterval*110/100 {
					t.Fatalf("%s: %v between probes, want at most the interval and 10 %%", addr, at.Sub(b.probes[addr][i-1]))
				}
			}
		}
		for second, n := range perSecond {
			if mean := endpoints / 5; second > 10 && (n < mean*8/10 || n > mean*12/10) {
				t.Errorf("%d probes in second %d, want about %d", n, second, mean)
			}
		}
	})
}

// A few new endpoints do not wait for each other.
func TestFirstProbeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			s.Seen(addr)
		}
		wait(5 * time.Millisecond)
		if b.all() != 3 {
			t.Errorf("%d endpoints probed, want 3", b.all())
		}
	})
}

// Probes that are due within two milliseconds are made together, none of them late.
func TestProbesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		start, addrs := time.Now(), addresses(9) // due a millisecond apart, or at once
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(10 * time.Millisecond)
		b.Lock()
		defer b.Unlock()
		starts := map[time.Duration]int{}
		for _, addr := range addrs {
			for _, at := range b.probes[addr] {
				starts[at.Sub(start)]++
			}
		}
		if len(starts) > 3 || slices.Max(slices.Collect(maps.Keys(starts))) > 8*time.Millisecond {
			t.Errorf("probes began at %v, want three moments of the first 8 ms", starts)
		}
	})
}

// With the shortest interval, probes that are made together are still an interval apart.
func TestTogetherKeepsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 100 * time.Millisecond
		b := newBackends(t)
		check := b.checkOf()
		check.Timing.Interval, check.Timing.FastInterval = interval, interval
		s := joined(t, check)
		addrs := addresses(50)
		for _, addr := range addrs {
			s.Seen(addr)
		}
		wait(30 * time.Second)
		b.Lock()
		defer b.Unlock()
		for _, addr := range addrs {
			starts := b.probes[addr][5:] // the first ones approach the endpoint's phase
			for i := range starts[1:] {
				if gap := starts[i+1].Sub(starts[i]); gap < interval*9/10 || gap > interval*11/10 {
					t.Fatalf("%s: %v between probes, want %v or 10 %% less or more", addr, gap, interval)
				}
			}
		}
	})
}

// If 10,000 endpoints all time out, max_in_flight bounds the probes, and each endpoint gets its
// verdict.
func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for _, addr := range addresses(10_000) {
			b.fail(addr, true)
			s.Seen(addr)
		}
		wait(5 * time.Minute)
		if want, _ := s.pool.limiter.lastingParts(); b.most != want {
			t.Errorf("%d probes in flight at most, want %d", b.most, want)
		}
		if b.twice {
			t.Error("an endpoint was probed while a probe of it was in flight")
		}
		if workers := len(s.pool.workers); workers > defaultMaxInFlight {
			t.Errorf("%d workers, want at most %d", workers, defaultMaxInFlight)
		}
		for _, addr := range addresses(10_000) {
			if s.Seen(addr) != Down {
				t.Fatalf("%s is %v, want down", addr, s.Seen(addr))
			}
		}
	})
}

// An endpoint that no answer holds any more is forgotten with its series. One that an answer holds
// stays.
func TestForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		s.Seen(a1)
		s.Seen(a2)
		for second := range 13 * 60 {
			wait(time.Second)
			s.Seen(a2)
			if second == 10*60 && s.pool.table.known() != 2 {
				t.Error("the endpoint was forgotten within ten minutes")
			}
		}
		if got := metric(t, "coredns_balance_endpoints", "example.org.", "up"); got != 1 {
			t.Errorf("%v endpoints up, want 1", got)
		}
		if got := metric(t, "coredns_balance_endpoint_up", "example.org.", a1.String()+" fake:1"); got != 0 {
			t.Errorf("there still is a series for %s", a1)
		}
		if s.pool.table.known() != 1 {
			t.Errorf("%d endpoints known, want 1", s.pool.table.known())
		}
	})
}

// An endpoint that is down is remembered six times as long, because it would return to the answers
// once forgotten.
func TestTheDeadAreRememberedLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		b.set(a1, errRefused)
		s.Seen(a1)
		s.Seen(a2)
		wait(59 * time.Minute)
		known, ok := s.Peek(a1)
		if _, live := s.Peek(a2); !ok || known.Verdict != Down || live {
			t.Errorf("after 59 minutes the dead one is %v, and the live one known: %v", known.Verdict, live)
		}
		wait(20 * time.Minute)
		if s.pool.table.known() != 0 {
			t.Errorf("%d endpoints known after 79 minutes, want none", s.pool.table.known())
		}
	})
}

// Rules look their endpoints up often enough that none is forgotten while answers hold it.
func TestRulesLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes atomic.Int32
		sub := in("example.org.")
		sub.Changed = func() { changes.Add(1) }
		s := joinedAs(t, newBackends(t).checkOf(), sub)
		for range 5 {
			before := changes.Load()
			wait(s.pool.forgetAfter() / 3)
			if changes.Load() == before {
				t.Fatal("the rule keeps its plans for too long to notice")
			}
		}
	})
}

// A rule that has reached max_endpoints gets no further endpoint probed. That is counted.
func TestTableFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.MaxEndpoints = 2
		s := joined(t, c)
		before := metric(t, "coredns_balance_probes_refused_total", "example.org.", "table_full")
		for _, addr := range []netip.AddrPort{a1, a2, a3} {
			s.Seen(addr)
			wait(time.Second)
		}
		if got := s.Seen(a3); got != Unknown || b.count(a3) != 0 {
			t.Errorf("the third is %v after %d probes, want unknown and none", got, b.count(a3))
		}
		if got := metric(t, "coredns_balance_probes_refused_total", "example.org.", "table_full") - before; got != 2 {
			t.Errorf("%v refusals counted, want 2", got)
		}
	})
}

// Many endpoints that arrive at once do not exceed max_endpoints.
func TestTableFullAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.MaxEndpoints = 10
		s := joined(t, c)
		for _, addr := range addresses(30) {
			s.Seen(addr)
		}
		if n := int(s.scope.arrived.Load()); n > 2*c.MaxEndpoints {
			t.Errorf("%d addresses wait, want at most %d", n, 2*c.MaxEndpoints)
		}
		wait(2 * time.Second)
		probed := 0
		for _, addr := range addresses(30) {
			probed += min(1, b.count(addr))
		}
		if probed != c.MaxEndpoints || s.pool.table.known() != c.MaxEndpoints {
			t.Errorf("%d endpoints, %d probed, want %d", s.pool.table.known(), probed, c.MaxEndpoints)
		}
	})
}

// Queries do not hurry probes: a known endpoint is probed on its own schedule.
func TestQueriesDoNotHurryProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, b.checkOf())
		for range 600 { // a minute
			for range 100 {
				s.Seen(a1)
			}
			wait(100 * time.Millisecond)
		}
		if n := b.count(a1); n < 10 || n > 15 {
			t.Errorf("%d probes in a minute with 60,000 queries, want 12 or so", n)
		}
	})
}

// Setting the clock does not change what the pool measures: its times have a monotonic reading.
func TestTimesAreMonotonic(t *testing.T) {
	p := newPool(newBackends(t).checkOf(), logged{})
	l := newProbeContext(t.Context())
	defer l.close()
	l.begin(time.Minute)
	for what, at := range map[string]time.Time{"pool": p.base, "probe context": l.deadline, "endpoint": newEndpoint(a1).status.Load().since} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s: %s has no monotonic reading", what, at)
		}
	}
}

// An endpoint takes little memory: a rule may have thousands.
func TestEndpointIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(endpoint{}); size > 128 {
		t.Errorf("an endpoint takes %d bytes, want at most 128", size)
	}
}

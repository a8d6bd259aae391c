// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// detect returns how long it takes until the death of an endpoint is known.
func detect(t *testing.T, b *backends, s *Subscription, at netip.AddrPort) time.Duration {
	t.Helper()
	b.fail(at, true)
	start := time.Now()
	for s.Seen(at) != Down {
		if wait(10 * time.Millisecond); time.Since(start) > 5*time.Minute {
			t.Fatal("the death was not noticed in five minutes")
		}
	}
	return time.Since(start)
}

// meanDetection returns how long it takes on average until a dead endpoint of a rule is known,
// beside silent endpoints of its own and of another rule with the same check.
func meanDetection(t *testing.T, own, neighbours int) (mean time.Duration) {
	t.Helper()
	const deaths = 20
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		s, neighbour := joined(t, c), joinedAs(t, c, in("neighbour.example."))
		silent := addresses(own + neighbours)
		for i, at := range silent {
			b.fail(at, true)
			if i < own {
				s.Seen(at)
			} else {
				neighbour.Seen(at)
			}
		}
		var live []netip.AddrPort
		for i := range deaths {
			live = append(live, endpointAt(fmt.Sprintf("192.0.2.%d", i+1)))
			s.Seen(live[i])
		}
		wait(2 * time.Minute)
		for _, at := range live {
			mean += detect(t, b, s, at) / deaths
		}
	})
	return mean
}

// Silent endpoints, of a neighbour or of the rule itself, do not delay the detection of a death.
func TestTheSilentDelayNobody(t *testing.T) {
	alone := meanDetection(t, 0, 0)
	for _, tc := range []struct{ own, neighbours int }{{0, 10_000}, {1000, 0}, {1000, 9000}} {
		if took := meanDetection(t, tc.own, tc.neighbours); took > alone*3/2 {
			t.Errorf("%v with %d silent endpoints of its own and %d of a neighbour, %v alone", took, tc.own, tc.neighbours, alone)
		}
	}
}

// A new endpoint gets its first verdict at once, although a neighbour brought thousands of silent
// ones just before.
func TestNewEndpointsDoNotWaitForANeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		s, neighbour := joined(t, c), joinedAs(t, c, in("neighbour.example."))
		for _, at := range addresses(9000) {
			b.fail(at, true)
			neighbour.Seen(at)
		}
		wait(5 * time.Second)
		s.Seen(a1)
		wait(10 * time.Millisecond)
		if got := s.Seen(a1); got != Up {
			t.Errorf("%v after 10 ms, want up", got)
		}
	})
}

// A neighbour whose thousands of endpoints answer just before the timeout delays no detection.
func TestTheSlowDelayNobody(t *testing.T) {
	alone := meanDetection(t, 0, 0)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		s, neighbour := joined(t, c), joinedAs(t, c, in("neighbour.example."))
		for _, at := range addresses(5000) {
			b.delay(at, defaultTimeout-10*time.Millisecond)
			neighbour.Seen(at)
		}
		var mean time.Duration
		const deaths = 20
		for i := range deaths {
			at := endpointAt(fmt.Sprintf("192.0.2.%d", i+1))
			s.Seen(at)
			wait(time.Minute)
			mean += detect(t, b, s, at) / deaths
		}
		if mean > alone*3/2 {
			t.Errorf("%v beside slow endpoints, %v alone", mean, alone)
		}
		b.Lock()
		defer b.Unlock()
		if b.most < defaultMaxInFlight*3/4 {
			t.Errorf("%d in flight at most: the neighbour is not as busy as it should be", b.most)
		}
	})
}

// A rule exhausts only its own max_endpoints. The log names it once.
func TestEachRuleHasItsPlaces(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		c.MaxEndpoints = 100
		greedy, modest := joined(t, c), joinedAs(t, c, in("modest.example."))
		for _, at := range addresses(100) { // as many as it may have
			greedy.Seen(at)
		}
		wait(time.Second)
		if logged.count("max_endpoints") != 0 {
			t.Error("the log says that it is full before it needs more")
		}
		for range 5 {
			for _, at := range addresses(1000) {
				greedy.Seen(at)
			}
			wait(time.Second)
		}
		shared := addresses(1)[0]
		for _, at := range []netip.AddrPort{a1, a2, a3, shared} {
			modest.Seen(at)
		}
		wait(time.Second)
		for _, at := range []netip.AddrPort{a1, a2, a3} {
			if got := modest.Seen(at); got != Up || b.count(at) == 0 {
				t.Errorf("%s of the other rule is %v after %d probes, want up", at.Addr(), got, b.count(at))
			}
		}
		if n := greedy.pool.table.known(); n != 103 && n != 104 {
			t.Errorf("%d endpoints, want 100 of the one and 3 or 4 of the other", n)
		}
	})
	want := "[WARNING] example.org.: health_check fake:1: max_endpoints 100 reached: further endpoints are not probed"
	if logged.count(want) != 1 || logged.count("max_endpoints") != 1 {
		t.Errorf("logged\n%swant once %q", logged, want)
	}
}

// Hundreds of rules can share a check. Each knows its own endpoints.
func TestManyRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c, endpoints := b.checkOf(), addresses(300)
		var all []*Subscription
		for i := range 200 {
			sub := in(fmt.Sprintf("zone%d.example.", i))
			sub.Scope = uint64(i)
			all = append(all, joinedAs(t, c, sub))
			all[i].Seen(endpoints[i])
			all[i].Seen(endpoints[299])
		}
		wait(2 * time.Second)
		for i, s := range all {
			var names []string
			for e := range s.Endpoints() {
				names = append(names, e.Name())
			}
			if len(names) != 2 || !strings.Contains(strings.Join(names, " "), endpoints[i].Addr().String()) {
				t.Fatalf("rule %d has %v, want %s and the one that all have", i, names, endpoints[i])
			}
		}
		if n := b.count(endpoints[299]); n != 1 {
			t.Errorf("%d probes of the endpoint that all have, want 1", n)
		}
	})
}

// Two rules with one check allow different addresses: each knows and probes its own.
func TestRulesAllowDifferentAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := b.checkOf()
		one, other := joinedAs(t, c, allowing(a1, a3)), in("other.example.org.")
		other.Allow = []netip.Prefix{netip.PrefixFrom(a2.Addr(), 32), netip.PrefixFrom(a3.Addr(), 32)}
		second := joinedAs(t, c, other)
		b.set(a3, errRefused)
		for _, at := range []netip.AddrPort{a1, a2, a3} {
			one.Seen(at)
			second.Seen(at)
		}
		wait(time.Second)
		for _, tc := range []struct {
			at          netip.AddrPort
			one, second Verdict
		}{{a1, Up, Unknown}, {a2, Unknown, Up}, {a3, Down, Down}} {
			if one.Seen(tc.at) != tc.one || second.Seen(tc.at) != tc.second {
				t.Errorf("%s is %v and %v, want %v and %v", tc.at.Addr(), one.Seen(tc.at), second.Seen(tc.at), tc.one, tc.second)
			}
		}
		if _, known := one.Peek(a2); known || one.Allows(a2) {
			t.Error("a rule knows what only the other one allows")
		}
	})
}

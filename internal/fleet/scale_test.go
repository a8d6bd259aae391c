// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// notRaced skips a test under the race detector, which makes it ten times slower and finds nothing
// in its one goroutine. "make test-go" also runs these tests without the detector.
func notRaced(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("one goroutine")
	}
}

// 500 replicas, of which one in a hundred comes and goes each minute: each endpoint is probed by
// two to four at any time.
func TestChurn(t *testing.T) {
	notRaced(t)
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	synctest.Test(t, func(t *testing.T) {
		const replicas, all, minutes = 500, 100, 2
		w := newNetwork(t, 0)
		w.pace, w.calm = 250*time.Millisecond, true
		for i := range replicas {
			w.join(fmt.Sprintf("r%d", i), fmt.Sprintf("zone%d", i%3))
		}
		w.introduce()
		for _, at := range endpoints(all) {
			w.nodes[0].see(at)
		}
		w.run(30 * time.Second)
		var seen [16]int
		w.each = func() {
			var probers [all]int
			for _, n := range w.live() {
				for i := range n.probed {
					if n.probed[i].on {
						probers[n.slots[i].Addr().As4()[3]]++
					}
				}
			}
			for _, n := range probers {
				seen[min(n, len(seen)-1)]++
			}
		}
		for i := range minutes * replicas / 100 {
			victim := w.live()[1+w.rand.IntN(replicas-1)]
			if i%2 == 0 {
				w.leave(victim)
			} else {
				w.kill(victim)
			}
			w.join(fmt.Sprintf("new%d", i), victim.place)
			w.run(time.Minute * 100 / replicas)
		}
		t.Logf("probers of an endpoint, by how often: %v", seen)
		for n, times := range seen {
			if times > 0 && (n < 2 || n > 4) {
				t.Errorf("endpoints were probed by %d replicas %d times", n, times)
			}
		}
	})
}

// steady is what five replicas with many endpoints cost.
func steady(t *testing.T, all int) (perSecond, perEndpoint float64) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 5)
		w.pace = 100 * time.Millisecond
		w.run(10 * time.Second)
		for _, at := range endpoints(all) {
			for _, n := range w.nodes {
				n.see(at)
			}
		}
		w.run(20 * time.Second)
		for _, n := range w.nodes {
			n.probed = nil // its votes stand
		}
		before := w.nodes[0].fleet.Snapshot()
		w.run(30 * time.Second)
		after := w.nodes[0].fleet.Snapshot()
		perSecond = float64(after.SentBytes-before.SentBytes) / 30
		if checks := after.Checks[0]; checks.Endpoints != all || checks.Bare > 0 || checks.Undecided > 0 {
			t.Errorf("%+v", checks)
		}
		perEndpoint = float64(sizeOf(w.nodes[0].share)) / float64(all)
	})
	return perSecond, perEndpoint
}

// sizeOf returns the bytes that a share takes, by what it holds.
func sizeOf(s *Share) (bytes int) {
	bytes = cap(s.ballots)*32 + len(s.tables.Load().all)*4 + cap(s.changed)*4 + 8*cap(s.departed)
	for i := range s.peers {
		bytes += 8 * cap(s.peers[i].wants)
	}
	for i := range s.ballots {
		if more := s.ballots[i].more; more != nil {
			bytes += 24 + cap(*more)*4
		}
	}
	return bytes + 64*(len(s.disputes)+len(s.bare)+len(s.texts))
}

// Traffic does not grow with endpoints while nothing changes, and an endpoint takes at most 64
// bytes.
func TestSteady(t *testing.T) {
	notRaced(t)
	all := 100_000
	if testing.Short() {
		all = 10_000
	}
	runtime.GC()
	perSecond, perEndpoint := steady(t, all)
	t.Logf("%d endpoints, 5 replicas: each sends %.0f bytes a second while nothing changes; %.1f bytes an endpoint", all, perSecond, perEndpoint)
	if perSecond > 1000 || perEndpoint > 64 {
		t.Errorf("%.0f bytes a second and %.1f an endpoint, want at most 1000 and 64", perSecond, perEndpoint)
	}
}

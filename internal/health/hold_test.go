// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"time"
)

// peer is a server that ends idle connections, and never dies.
type peer struct {
	life   func(nth int) time.Duration // of a connection; 0: it lasts for ever
	accept time.Duration               // until a connection is accepted
}

// liveWith returns how many hints and connections a peer causes in some time, if its endpoint is
// probed at every interval.
func liveWith(p peer, interval, whole time.Duration) (hints []time.Duration, dials int, covered time.Duration) {
	h := hold{}
	step := interval / 20
	probeAt := step
	dial := func(now time.Duration) { h = h.opened(now); dials++ }
	for now := step; now < whole; now += step {
		if h.state == dialled && now-h.since >= p.accept {
			h = h.accepted()
		}
		if life := p.life(dials); h.state != noLine && life > 0 && now-h.since >= life {
			h = h.lost(now)
			hints = append(hints, now)
			probeAt = now + step // the confirming probe
		}
		if h.state == held {
			covered += step
		}
		if now < probeAt {
			continue
		}
		probeAt = now + interval
		h = h.passed(now, interval)
		switch {
		case h.overdue(now, interval/2):
			h = h.givenUp(now, interval)
		case h.stale(now, interval), h.mayOpen(now):
			dial(now)
		}
	}
	return hints, dials, covered
}

func always(life time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return life }
}

// However a server treats idle connections, there is at most one hint for every ten probes, and at
// most one connection for every probe.
func TestHoldIsNoBurden(t *testing.T) {
	const interval, whole = 5 * time.Second, 24 * time.Hour
	tests := []struct {
		name      string
		peer      peer
		mostHints int
		leastHeld float64 // share of the time
	}{
		{"keeps them", peer{life: always(0)}, 0, 0.999},
		{"ends them at once", peer{life: always(time.Millisecond)}, 32, 0},
		{"after 1 s", peer{life: always(time.Second)}, 32, 0},
		{"after 6 s", peer{life: always(6 * time.Second)}, 32, 0},
		{"after 20 s", peer{life: always(20 * time.Second)}, 2, 0.98},
		{"after 60 s", peer{life: always(time.Minute)}, 2, 0.98},
		{"after an hour", peer{life: always(time.Hour)}, 2, 0.99},
		{"at any time", peer{life: func(n int) time.Duration { return time.Duration(n*7919%50) * time.Second }}, 24 * 3600 / 50, 0},
		{"after 10 or 20 s", peer{life: func(n int) time.Duration { return time.Duration(10+n/3%2*10) * time.Second }}, 24 * 3600 / 50, 0},
		{"after 51 s or at once", peer{life: func(n int) time.Duration { return time.Duration(n%2*51)*time.Second + 1 }}, 24*3600/50 + 1, 0},
		{"accepts none", peer{life: always(0), accept: time.Hour}, 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			hints, dials, covered := liveWith(tc.peer, interval, whole)
			if len(hints) > tc.mostHints {
				t.Errorf("%d hints, want at most %d", len(hints), tc.mostHints)
			}
			for i := 2; i < len(hints); i++ {
				if gap := hints[i] - hints[i-2]; gap < holdSpacing*interval {
					t.Fatalf("hint %d came %v after the last but one, want ten intervals at least", i, gap)
				}
			}
			if most := int(whole / interval); dials > most {
				t.Errorf("%d connections, want at most one a probe: %d", dials, most)
			}
			if share := float64(covered) / float64(whole); share < tc.leastHeld {
				t.Errorf("held for %.3f of the time, want %.3f", share, tc.leastHeld)
			}
		})
	}
}

func TestHoldStepByStep(t *testing.T) {
	const interval = 5 * time.Second
	at := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	h := hold{}
	if !h.mayOpen(at(1)) {
		t.Fatal("nothing may be opened at first")
	}
	h = h.opened(at(1)).accepted()
	if h.mayOpen(at(2)) || h.overdue(at(100), interval) || h.stale(at(1e6), interval) {
		t.Errorf("%+v: want it left alone", h)
	}
	h = h.lost(at(100))
	if h.mayOpen(at(1e6)) {
		t.Error("opened again before a probe passed")
	}
	if again := h.passed(at(99.9), interval); !again.hinted {
		t.Error("a probe that began before the hint counts")
	}
	h = h.passed(at(100.1), interval)
	if h.hinted || !h.mayOpen(at(100.2)) {
		t.Errorf("%+v: want it opened at once, for the last one lasted long", h)
	}
	h = h.opened(at(101)).accepted().lost(at(103)).passed(at(103.1), interval)
	if h.mayOpen(at(150)) || !h.mayOpen(at(151)) {
		t.Errorf("%+v: want it opened ten intervals after the last was", h)
	}
	if h = h.opened(at(200)); h.overdue(at(201), at(2)) || !h.overdue(at(203), at(2)) {
		t.Error("not accepted: want it overdue after the timeout")
	}
	h = h.givenUp(at(203), interval)
	if h.mayOpen(at(302)) || !h.mayOpen(at(303)) {
		t.Errorf("%+v: want it opened after twice as long", h)
	}
}

// If two connections ended at about the same age, the next ones are replaced before that age. They
// are not opened sooner than others.
func TestHoldLearns(t *testing.T) {
	const interval, second = 5 * time.Second, time.Second
	h := hold{}
	for i, age := range []time.Duration{20 * second, 21 * second} {
		since := time.Duration(i+1) * time.Hour
		h = h.opened(since).accepted().lost(since+age).passed(since+age+second, interval)
		if h.learned != (i == 1) {
			t.Errorf("learned: %v after %d", h.learned, i+1)
		}
		if opens := since + holdSpacing*interval; h.mayOpen(opens-1) || !h.mayOpen(opens) {
			t.Errorf("%+v: want it opened ten intervals after the last one was", h)
		}
	}
	h = h.opened(3 * time.Hour).accepted()
	if h.stale(3*time.Hour+13*second, interval) || !h.stale(3*time.Hour+14*second, interval) {
		t.Error("want it replaced where the peer would end it before the next probe")
	}
}

// A peer may greet. A peer that goes on talking is not idle.
func TestHoldHears(t *testing.T) {
	h, tooMuch := hold{}.opened(time.Second).heard(300)
	if tooMuch || h.state != held {
		t.Errorf("%+v after a greeting, too much: %v", h, tooMuch)
	}
	for heard := 0; heard < 64<<10; heard += 16 << 10 {
		if tooMuch {
			t.Errorf("too much after %d bytes", heard)
		}
		h, tooMuch = h.heard(16 << 10)
	}
	if !tooMuch {
		t.Error("64 KiB and more are not too much")
	}
	if h, tooMuch = h.opened(time.Minute).heard(1); tooMuch {
		t.Error("the next connection pays for the last one")
	}
	if _, tooMuch = h.heard(1 << 30); !tooMuch {
		t.Error("a GiB is not too much")
	}
}

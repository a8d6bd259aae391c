// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"time"
)

// The window shrinks while probes wait for a processor, but not without end, and grows back.
func TestLimiterFollowsTheLag(t *testing.T) {
	p := limiter{window: 256, most: 256}
	now := time.Second
	p.after(maxLag+1, now)
	p.after(maxLag+1, now+1) // begun before the smaller window could show
	if p.window != 192 {
		t.Errorf("window of %d after a lag, want 192", p.window)
	}
	for range 100 {
		now += lagStep
		p.after(time.Second, now-1)
		p.after(0, now) // the worst counts
	}
	if p.window != leastInFlight {
		t.Errorf("window of %d after many, want %d", p.window, leastInFlight)
	}
	for range 50 {
		now += lagStep
		p.after(0, now)
	}
	if p.window != 256 {
		t.Errorf("window of %d a second after the last, want 256", p.window)
	}
}

// A small max_in_flight is not raised.
func TestLimiterKeepsToMaxInFlight(t *testing.T) {
	p := limiter{window: 3, most: 3}
	for i := range 10 {
		p.after(time.Second, time.Duration(i+1)*lagStep)
	}
	if p.window != 3 {
		t.Errorf("window of %d, want 3", p.window)
	}
}

// No probe starts while as many as a query may wait behind have not begun, or as are in flight.
func TestLimiterFull(t *testing.T) {
	p := limiter{window: 256, most: 256}
	if full, _ := p.full(255); full {
		t.Error("full with 255 in flight, want room")
	}
	if full, moment := p.full(256); !full || moment {
		t.Error("not full with 256 in flight, or for a moment only")
	}
	p.waiting.Store(maxWaiting)
	if full, moment := p.full(100); !full || !moment {
		t.Error("not full for a moment while probes wait for a processor")
	}
}

// Silent endpoints leave a quarter of the window to the others, except for the smallest windows.
func TestSilentPart(t *testing.T) {
	for window, want := range map[int]int{1: 1, 2: 1, 4: 3, 32: 24, 256: 192} {
		if got := (&limiter{window: window}).silentPart(); got != want {
			t.Errorf("window %d: %d silent ones, want %d", window, got, want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"time"
)

// The window shrinks while probes wait for a processor, down to a limit, and grows back.
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
		p.after(0, now) // the longest lag counts
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

// No probe starts while too many are in flight, or while so many wait for a processor that a query
// would have to wait behind them.
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

// Silent endpoints leave a quarter of the window to the others, and with slow ones, or if they are
// the only ones of their rule, an eighth. The smallest windows are exceptions.
func TestLastingParts(t *testing.T) {
	for window, want := range map[int][2]int{1: {1, 1}, 2: {2, 2}, 4: {3, 4}, 32: {24, 28}, 256: {192, 224}} {
		if part, most := (&limiter{window: window}).lastingParts(); part != want[0] || most != want[1] {
			t.Errorf("window %d: %d and %d silent ones, want %v", window, part, most, want)
		}
	}
}

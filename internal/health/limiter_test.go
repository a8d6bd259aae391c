// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The window shrinks while probes wait for a processor, not without end, and grows back.
func TestPaceFollowsTheLag(t *testing.T) {
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
func TestPaceKeepsToMaxInFlight(t *testing.T) {
	p := limiter{window: 3, most: 3}
	for i := range 10 {
		p.after(time.Second, time.Duration(i+1)*lagStep)
	}
	if p.window != 3 {
		t.Errorf("window of %d, want 3", p.window)
	}
}

// No probe starts while as many as a query may wait behind have not begun, or as are in flight.
func TestPaceFull(t *testing.T) {
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

// A timeout says nothing while we are late; a refusal does, and so does a timeout when we are not.
func TestTimeoutsWhileWeAreLateDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newBackends(t).checkOf()
		p := newPool(c, logged{})
		<-time.After(time.Minute)
		gone := errors.New("no answer within 2s")
		tests := []struct {
			name string
			result
			want bool
		}{
			{"timeout", result{took: c.Timing.Timeout, err: gone}, false},
			{"refused, begun late", result{lag: time.Second, took: time.Millisecond, err: errRefused}, false},
			{"timeout, another began late meanwhile", result{took: c.Timing.Timeout, err: gone}, true},
			{"success, begun late", result{lag: time.Second, took: time.Millisecond}, false},
			{"noticed long after", result{took: 2 * c.Timing.Timeout, err: gone}, true},
		}
		for _, tc := range tests {
			tc.endpoint = &endpoint{at: a1}
			tc.start = p.now() - tc.took
			if got := p.wasBusy(tc.result); got != tc.want {
				t.Errorf("%s: too busy is %v, want %v", tc.name, got, tc.want)
			}
		}
		<-time.After(time.Minute)
		if p.wasBusy(result{endpoint: &endpoint{at: a1}, start: p.now() - c.Timing.Timeout, took: c.Timing.Timeout, err: gone}) {
			t.Error("a timeout is held to be our fault a minute after we were late")
		}
	})
}

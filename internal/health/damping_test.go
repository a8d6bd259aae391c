// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// flap is an endpoint that is up for a while, and then down.
type flap struct {
	up, down time.Duration
	doubted  bool
}

// after returns the damping after some flaps, when the endpoint has just come back up.
func (d damping) after(flaps []flap, halfLife time.Duration) damping {
	for _, f := range flaps {
		d = d.wentDown(f.up, halfLife, false).cameUp(f.down, halfLife, f.doubted)
	}
	return d
}

func TestDamping(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name    string
		flaps   []flap
		penalty float32       // when the endpoint is back
		out     time.Duration // how long it is to stay out from then on
	}{
		{"never down", nil, 0, 0},
		{"down once", []flap{{time.Hour, 60 * s, false}}, 500, 0},
		{"twice in a row", []flap{{time.Hour, 0, false}, {0, 0, false}}, 2000, 0},
		{"three times in half a minute", []flap{{time.Hour, 5 * s, false}, {10 * s, 5 * s, false}, {10 * s, 0, false}}, 2548, 106 * s},
		{"three times in an hour", []flap{{time.Hour, s, false}, {20 * time.Minute, s, false}, {20 * time.Minute, s, false}}, 989, 0},
		{"down for long after flapping", []flap{{0, 0, false}, {0, 0, false}, {0, 4 * time.Minute, false}}, 188, 0},
		{"again while it is to stay out", []flap{{0, 0, false}, {0, 0, false}, {0, 0, false}, {60 * s, 0, false}}, 2500, 104 * s},
		{"while all others failed too", []flap{{0, 0, false}, {0, 0, false}, {0, 0, true}}, 2000, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			d := damping{}.after(tc.flaps, time.Minute)
			if out := d.lasts(time.Minute).Round(s); float32(int(d.penalty+0.5)) != tc.penalty || out != tc.out {
				t.Errorf("penalty %.0f, out for %v: want %.0f and %v", d.penalty, out, tc.penalty, tc.out)
			}
		})
	}
}

// Whatever an endpoint does, it is not to stay out for longer than ten half-lives after it came
// back, nor after two downs, and the longer it stays up the smaller its penalty.
func TestDampingIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		halfLife := time.Second + rand.N(time.Hour)
		var d damping
		for i := range 1 + rng.IntN(2000) {
			d = d.after([]flap{{rand.N(halfLife / 100), rand.N(halfLife / 100), rng.IntN(5) == 0}}, halfLife)
			if out := d.lasts(halfLife); out > longestDamping*halfLife || i < 2 && out > 0 {
				t.Fatalf("out for %v with a half-life of %v after %d downs", out, halfLife, i+1)
			}
			if later := d.decayed(time.Second, halfLife); later.penalty > d.penalty || later.lasts(halfLife) > d.lasts(halfLife) {
				t.Fatalf("penalty %v became %v", d, later)
			}
		}
		if left := d.decayed(d.lasts(halfLife)+time.Second, halfLife); left.suppressed {
			t.Fatalf("%v is still suppressed at its end: %v", d, left)
		}
	}
}

// dampingCheck returns a check that damps, and reacts to every result.
func dampingCheck(b *backends) *Check {
	c := b.checkOf()
	c.Timing.Rise, c.Timing.Fall, c.Timing.MaxInterval, c.HalfLife = 1, 1, c.Timing.Interval, time.Minute
	return c
}

// flapOnce has some endpoints fail, and then pass again.
func flapOnce(b *backends, flapping ...string) {
	for _, err := range []error{errRefused, nil} {
		for _, addr := range flapping {
			b.set(endpointAt(addr), err)
		}
		wait(6 * time.Second)
	}
}

// An endpoint that goes down three times in half a minute is up, but is to stay out. It is down at
// once when it fails again.
func TestFlappingEndpoint(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, dampingCheck(b))
		s.Seen(a1)
		s.Seen(a2)
		wait(time.Second)
		for range 2 {
			flapOnce(b, "192.0.2.1")
		}
		if known, _ := s.Peek(a1); !known.Reuse.IsZero() || known.Penalty < 1000 || known.Penalty > 2000 {
			t.Errorf("after two downs: penalty %.0f, out until %v", known.Penalty, known.Reuse)
		}
		flapOnce(b, "192.0.2.1")
		known := s.Record(a1)
		if out := time.Until(known.Reuse); known.Verdict != Up || !known.CameUp || out < time.Minute || out > 2*time.Minute {
			t.Errorf("%+v after three downs", known)
		}
		if n := metric(t, "coredns_balance_suppressed", "example.org."); n != 1 {
			t.Errorf("%v endpoints are suppressed, want 1", n)
		}
		b.set(a1, errRefused)
		wait(6 * time.Second)
		if known := s.Record(a1); known.Verdict != Down || !known.Reuse.IsZero() {
			t.Errorf("%+v when it fails again", known)
		}
		if known := s.Record(a2); known.CameUp || !known.Reuse.IsZero() {
			t.Errorf("the steady one: %+v", known)
		}
	})
	if logged.count("; damp: it flaps, so it is to stay out for 1m") != 1 {
		t.Errorf("logged\n%s", logged)
	}
}

// If all endpoints of a rule fail at once, this host may be at fault: that adds to no penalty.
func TestFlapsDuringSelfDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := joined(t, dampingCheck(b))
		s.Seen(a1)
		s.Seen(a2)
		wait(time.Second)
		for range 4 {
			flapOnce(b, "192.0.2.1", "192.0.2.2")
		}
		if known, _ := s.Peek(a1); known.Verdict != Up || known.Penalty != 0 {
			t.Errorf("%+v", known)
		}
	})
}

// A reload keeps penalties, one that changes the interval too.
func TestReloadKeepsPenalties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c := dampingCheck(b)
		before := pools.Join(c, in("example.org."))
		before.Seen(a1)
		before.Seen(a2)
		wait(time.Second)
		for range 3 {
			flapOnce(b, "192.0.2.1")
		}
		changed := *c
		changed.Timing.Interval = 4 * time.Second
		after := joined(t, &changed)
		was := before.Record(a1)
		before.Leave()
		if now := after.Record(a1); now.Reuse.IsZero() || now != was {
			t.Errorf("%+v became %+v", was, now)
		}
	})
}

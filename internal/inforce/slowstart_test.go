// SPDX-License-Identifier: Apache-2.0

package inforce

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestRamp(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		age, window time.Duration
		want        Percent
		next        time.Duration
	}{
		{0, 60 * s, 10, 9 * s},
		{-5 * s, 60 * s, 10, 14 * s}, // the clock was set back
		{8 * s, 60 * s, 10, s},
		{9 * s, 60 * s, 15, 3 * s},
		{30 * s, 60 * s, 50, 3 * s},
		{59 * s, 60 * s, 95, s},
		{60 * s, 60 * s, 0, 0},
		{time.Hour, 60 * s, 0, 0},
	} {
		if got, next := Ramp(tc.age, tc.window); got != tc.want || next.Round(time.Millisecond) != tc.next {
			t.Errorf("after %v of %v: %d%% for %v more, want %d%% for %v", tc.age, tc.window, got, next, tc.want, tc.next)
		}
	}
}

// A ramp never shrinks, is never more than the time that has passed allows, except at first, has at
// least ten steps, and each lasts until the time that it says.
func TestRampGrowsInSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		window := time.Second + time.Duration(rng.Int64N(int64(24*time.Hour)))
		steps, last := 0, Percent(0)
		for age := time.Duration(0); age < window; steps++ {
			now, next := Ramp(age, window)
			if now <= last || now > firstRamp && float64(now) > 100*float64(age)/float64(window)+0.01 || next <= 0 {
				t.Fatalf("after %v of %v: %d%% after %d%%, for %v more", age, window, now, last, next)
			}
			if before, _ := Ramp(age+next-time.Millisecond, window); before != now {
				t.Fatalf("after %v of %v: %d%% became %d%% before its time", age, window, now, before)
			}
			age, last = age+next, now
		}
		if steps < 10 {
			t.Fatalf("%d steps in %v", steps, window)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestTracker(t *testing.T) {
	tests := []struct {
		name       string
		Rise, Fall int
		results    string // + passed, - failed
		verdicts   string // after each result
	}{
		{"the first result decides: up", 2, 3, "+", "U"},
		{"the first result decides: down", 2, 3, "-", "D"},
		{"fall failures in a row", 2, 3, "+---", "UUUD"},
		{"a success in between starts anew", 2, 3, "+--+---", "UUUUUUD"},
		{"rise successes in a row", 2, 3, "-++", "DDU"},
		{"a failure in between starts anew", 2, 3, "-+-++", "DDDDU"},
		{"one of each", 1, 1, "+-+--", "UDUDD"},
		{"five to rise", 5, 1, "+-+++++", "UDDDDDU"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var at tracker
			var got strings.Builder
			for _, r := range tc.results {
				at = at.after(r == '+', tc.Rise, tc.Fall)
				got.WriteString(map[Verdict]string{Unknown: "?", Up: "U", Down: "D"}[at.verdict])
			}
			if got.String() != tc.verdicts {
				t.Errorf("results %s gave %s, want %s", tc.results, got.String(), tc.verdicts)
			}
		})
	}
}

// The pause between probes after some results: short while in doubt, longer and longer while down.
func TestTrackerPause(t *testing.T) {
	timing := Timing{Interval: 5 * time.Second, FastInterval: time.Second, MaxInterval: 30 * time.Second, Rise: 2, Fall: 3}
	results := "+" + "---" + "------" + "+" + "+"
	want := []time.Duration{
		5000,             // up
		1000, 1000, 5000, // in doubt, in doubt, down
		7500, 11250, 16875, 25312, 30000, 30000, // down for long
		1000, // in doubt
		5000, // up
	}
	var at tracker
	for i, r := range results {
		at = at.after(r == '+', timing.Rise, timing.Fall)
		if got := at.pause(&timing).Truncate(time.Millisecond); got != want[i]*time.Millisecond {
			t.Errorf("after %s the pause is %v, want %v", results[:i+1], got, want[i]*time.Millisecond)
		}
	}
	if got := (tracker{}).pause(&timing); got != timing.FastInterval {
		t.Errorf("with no result the pause is %v, want %v", got, timing.FastInterval)
	}
}

// However long an endpoint is down, the pause stays at the ceiling, and computing it takes no
// longer.
func TestTrackerPauseIsBounded(t *testing.T) {
	timing := Timing{Interval: time.Second, FastInterval: time.Second, MaxInterval: time.Minute, Rise: 2, Fall: 3}
	var at tracker
	for range 100_000 {
		at = at.after(false, timing.Rise, timing.Fall)
	}
	if got := at.pause(&timing); got != time.Minute {
		t.Errorf("the pause is %v, want %v", got, time.Minute)
	}
}

// Whenever an endpoint is first probed, it reaches its phase within two probes and stays there. No
// gap between probes is longer than 1.05 intervals, before jitter.
func TestAlign(t *testing.T) {
	const interval = 5 * time.Second
	rng := rand.New(rand.NewPCG(5, 6))
	for range 10_000 {
		start, phase := time.Duration(rng.Int64N(int64(time.Hour))), time.Duration(rng.Int64N(int64(interval)))
		for step := range 5 {
			gap := align(start, phase, interval)
			if gap <= 0 || gap > interval+interval/20 {
				t.Fatalf("start %v, phase %v: the next probe is due after %v", start, phase, gap)
			}
			start += gap
			if off := (start - phase) % interval; step > 1 && off != 0 {
				t.Fatalf("phase %v: still %v off after %d probes", phase, off, step)
			}
		}
	}
}

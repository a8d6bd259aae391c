// SPDX-License-Identifier: Apache-2.0

package weights

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

var tenOClock = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

// ramped returns a file whose only address has a weight.
func ramped(t *testing.T, weight string) *File {
	t.Helper()
	f, err := Parse([]byte("www.example.org\n192.0.2.12 " + weight + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *File) at(now time.Time) int {
	return int(f.Of("www.example.org.", netip.MustParseAddr("192.0.2.12"), now))
}

func TestRamp(t *testing.T) {
	up, down := ramped(t, "5 to 50 from 2026-12-01T10:00:00Z over 2h"), ramped(t, "65535 to 0 from 2026-12-01T11:00:00+01:00 over 1h")
	tests := []struct {
		after    time.Duration // ten o'clock
		up, down int
	}{
		{-24 * time.Hour, 5, 65535},
		{0, 5, 65535},
		{159 * time.Second, 5, 62641}, // a step of up takes 160 s
		{160 * time.Second, 6, 62623},
		{30 * time.Minute, 16, 32768},
		{time.Hour - time.Nanosecond, 27, 19},
		{time.Hour, 27, 0}, // 27.5
		{time.Hour + 80*time.Second, 28, 0},
		{2*time.Hour - time.Second, 49, 0},
		{2 * time.Hour, 50, 0},
		{24 * time.Hour, 50, 0},
	}
	for _, tc := range tests {
		now := tenOClock.Add(tc.after)
		if gotUp, gotDown := up.at(now), down.at(now); gotUp != tc.up || gotDown != tc.down {
			t.Errorf("%v after the beginning: weights %d and %d, want %d and %d", tc.after, gotUp, gotDown, tc.up, tc.down)
		}
	}
}

// Next names the beginning and every step, in whole seconds. Nothing changes in between.
func TestRampSteps(t *testing.T) {
	for _, weight := range []string{
		"5 to 50 from 2026-12-01T10:00:00Z over 2h", "50 to 5 from 2026-12-01T10:00:00.5Z over 17m", "0 to 65535 from 2026-12-01T10:00:00Z over 61s",
		"0 to 1 from 2026-12-01T10:00:00Z over 1s", "7 to 7 from 2026-12-01T10:00:00Z over 1h",
	} {
		f := ramped(t, weight)
		changed := []time.Time{tenOClock}
		for now := tenOClock; !now.After(tenOClock.Add(2 * time.Hour)); now = now.Add(time.Second) {
			if f.at(now) != f.at(now.Add(-time.Second)) {
				changed = append(changed, now)
			}
		}
		var named []time.Time
		for now := tenOClock.Add(-time.Hour); ; {
			next, changes := f.Next(now)
			if !changes {
				t.Fatalf("%s: no weight changes", weight)
			}
			if next.IsZero() {
				break
			}
			named, now = append(named, next.UTC()), next
		}
		if !slices.Equal(named, changed) {
			t.Errorf("%s: %d steps are named, want %d", weight, len(named), len(changed))
		}
	}
	if _, changes := ramped(t, "5\n192.0.2.12 1 to 9 from 2026-12-01T10:00:00Z over 1h").Next(tenOClock); changes {
		t.Error("a line that does not count, because an earlier one is for the same address, changes the weight")
	}
	if _, changes := ramped(t, "5").Next(tenOClock); changes {
		t.Error("a weight that stays changes")
	}
}

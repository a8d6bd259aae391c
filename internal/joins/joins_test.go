// SPDX-License-Identifier: Apache-2.0

package joins

import (
	"testing"
	"time"
)

func TestJoined(t *testing.T) {
	start := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	const absence = time.Minute
	var l *Log
	for _, step := range []struct {
		at      time.Duration
		members []uint64
		joined  map[uint64]time.Duration // -1: it was always there
	}{
		{0, []uint64{1, 2}, map[uint64]time.Duration{1: -1, 2: -1}},
		{10 * time.Second, []uint64{3, 1, 2}, map[uint64]time.Duration{1: -1, 3: 10 * time.Second}},
		{20 * time.Second, []uint64{1, 3}, map[uint64]time.Duration{1: -1, 2: -1, 3: 10 * time.Second}},
		{60 * time.Second, []uint64{2}, map[uint64]time.Duration{2: -1}}, // back within a minute
		{70 * time.Second, []uint64{2, 3}, map[uint64]time.Duration{3: 10 * time.Second}},
		{119 * time.Second, []uint64{2}, nil},
		{120 * time.Second, []uint64{1, 2}, map[uint64]time.Duration{1: 120 * time.Second}}, // gone for a minute
	} {
		now := start.Add(step.at)
		l = l.After(step.members, now, absence)
		for number, want := range step.joined {
			got := l.Joined(number)
			if want < 0 && !got.IsZero() || want >= 0 && !got.Equal(start.Add(want)) {
				t.Errorf("after %v member %d joined at %v, want %v", step.at, number, got, want)
			}
		}
		if again := l.After(step.members, now.Add(time.Second), absence); again != l {
			t.Errorf("after %v the same members make another log", step.at)
		}
	}
}

// However many members come and go, a log is bounded, and the members that left last are those
// kept.
func TestLogIsBounded(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	var l *Log
	for i := range uint64(5 * maxLeft) {
		now = now.Add(time.Millisecond)
		l = l.After([]uint64{i}, now, time.Hour)
	}
	if len(l.entries) != maxLeft+1 || l.Joined(4*maxLeft).IsZero() {
		t.Errorf("%d entries", len(l.entries))
	}
}

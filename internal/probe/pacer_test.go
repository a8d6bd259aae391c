// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"
	"time"
)

// Once a burst is used up, so many are allowed as steps have passed.
func TestPacer(t *testing.T) {
	p := pacer{step: 10 * time.Millisecond, burst: time.Second}
	now := time.Now()
	count := func() (n int) {
		for p.allow(now) {
			n++
		}
		return n
	}
	for _, tc := range []struct {
		pass time.Duration
		want int
	}{{0, 101}, {0, 0}, {50 * time.Millisecond, 5}, {time.Hour, 101}} {
		now = now.Add(tc.pass)
		if got := count(); got != tc.want {
			t.Errorf("after %v: %d, want %d", tc.pass, got, tc.want)
		}
	}
}

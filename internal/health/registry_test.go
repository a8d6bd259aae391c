// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"testing/synctest"
)

// A scrape sees the pools as they are between two steps of a reload: nobody joins or leaves while it looks at them.
func TestScrapeWhileARuleLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		joined(t, newBackends(t).checkOf())
		seen := 0
		pools.each(func(*Subscription) {
			seen++
			if pools.TryLock() {
				pools.Unlock()
				t.Error("a rule could leave")
			}
		})
		if seen != 1 {
			t.Errorf("%d rules seen, want 1", seen)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The last probes are remembered, oldest first, with those that failed.
func TestHistory(t *testing.T) {
	h := new(history)
	for i := range historySize + 5 {
		r := attempt{took: time.Duration(i) * time.Millisecond}
		if i%10 == 9 {
			r.err = fmt.Errorf("problem %d", i)
		}
		h.add(r)
	}
	milliseconds, failed := h.probes()
	if len(milliseconds) != historySize || milliseconds[0] != 5 || milliseconds[historySize-1] != historySize+4 {
		t.Errorf("probes took %v, want 5 to %d", milliseconds, historySize+4)
	}
	if !slices.Equal(failed, []int{4, 14, 24}) || *h.problem.Load() != "problem 29" {
		t.Errorf("%v failed, the last with %q, want 4, 14 and 24 with problem 29", failed, *h.problem.Load())
	}
}

// Probes are remembered while a rule wants it, and forgotten when none does.
func TestHistoryIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		c, shown := b.checkOf(), in("example.net.")
		shown.Scope, shown.History = 2, true
		one := joined(t, c)
		one.Seen(a1)
		remembered := func() bool {
			wait(time.Minute)
			known, _ := one.Peek(a1)
			return len(known.Milliseconds) > 0
		}
		if remembered() {
			t.Error("probes are remembered, and no rule is shown")
		}
		other := pools.Join(c, shown)
		if !remembered() {
			t.Error("no probe is remembered, and a rule is shown")
		}
		other.Leave()
		if remembered() {
			t.Error("probes are still remembered")
		}
	})
}

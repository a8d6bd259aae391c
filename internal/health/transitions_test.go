// SPDX-License-Identifier: Apache-2.0

package health

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Up to twenty new verdicts in a second have a line each. More become one line after the first
// three. None is lost.
func TestManyTransitions(t *testing.T) {
	for endpoints, lines := range map[int]int{1: 1, 3: 3, 20: 20, 21: 4, 2000: 5} {
		logged := captureLog(t)
		synctest.Test(t, func(t *testing.T) {
			b := newBackends(t)
			s := joined(t, b.checkOf())
			for _, at := range addresses(endpoints) {
				s.Seen(at)
			}
			wait(5 * time.Second)
		})
		got := strings.Split(strings.TrimSpace(logged.String()), "\n")
		if len(got) < lines-1 || len(got) > lines {
			t.Errorf("%d endpoints: %d lines, want %d:\n%s", endpoints, len(got), lines, logged)
		}
		if endpoints == 21 {
			want := "[INFO] example.org.: fake:1: 18 more changes of verdict within a second: 0 down, 18 up; the first: 10.0.0."
			if !strings.HasPrefix(got[3], want) {
				t.Errorf("logged %q, want %q", got[3], want)
			}
		}
	}
}

// An outage is one line with counts. A rule that observes says that its answers stay.
func TestManyTransitionsOfAnObserver(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		sub := in("example.org.")
		sub.Observe = true
		s := joinedAs(t, b.checkOf(), sub)
		for _, at := range addresses(100) {
			b.set(at, errRefused)
			s.Seen(at)
		}
		wait(2 * time.Second)
	})
	want := "97 more changes of verdict within a second: 97 down, 0 up; the first: 10.0.0."
	if logged.count(want) != 1 || logged.count("; observe: the answers of example.org. stay as they are") != 1 || logged.count("[WARNING]") < 4 {
		t.Errorf("logged\n%swant %q", logged, want)
	}
}

// Verdicts that wait to be logged when the pool stops are logged.
func TestTransitionsAtTheEnd(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		s := pools.Join(b.checkOf(), in("example.org."))
		for _, at := range addresses(10) {
			s.Seen(at)
		}
		wait(100 * time.Millisecond)
		s.Leave()
	})
	if n := logged.count("is up"); n != 10 {
		t.Errorf("%d of 10 are logged:\n%s", n, logged)
	}
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// What a probe says about its endpoint, and the doubt that it leaves for the next probe.
func TestAwareness(t *testing.T) {
	const timeout, start = 2 * time.Second, time.Hour
	silence := errors.New("no answer within 2s")
	short := fmt.Errorf("%w: too many open files", probe.ErrLocal)
	limited, agentless := fmt.Errorf("%w: status 429", probe.ErrInconclusive), fmt.Errorf("%w: no agent", probe.ErrNoSay)
	lagged := awareness{lagged: start + time.Second}
	tests := []struct {
		name   string
		host   awareness
		one    attempt
		before doubt
		want   outcome
		after  doubt
	}{
		{"success", awareness{}, attempt{took: time.Millisecond}, doubt{local: 3, overloaded: 2, evasive: start}, success, doubt{}},
		{"refused", awareness{}, attempt{err: errRefused, took: time.Millisecond}, doubt{local: 3, overloaded: 2}, failure, doubt{}},
		{"timeout", awareness{}, attempt{err: silence, took: timeout}, doubt{}, failure, doubt{}},
		{"local error", awareness{}, attempt{err: short}, doubt{overloaded: 2}, localError, doubt{local: 1, overloaded: 2}},
		{"many local errors", awareness{}, attempt{err: short}, doubt{local: maxLocal}, localError, doubt{local: maxLocal}},
		{"success although lagged", lagged, attempt{took: time.Millisecond, lag: time.Second}, doubt{}, success, doubt{}},
		{"refused although lagged", lagged, attempt{err: errRefused, took: time.Millisecond}, doubt{}, failure, doubt{}},
		{"timeout while a probe lagged", lagged, attempt{err: silence, took: timeout}, doubt{local: 1}, inconclusive, doubt{overloaded: 1}},
		{"timeout long after a probe lagged", awareness{lagged: start - 1}, attempt{err: silence, took: timeout}, doubt{}, failure, doubt{}},
		{"noticed long after the timeout", awareness{}, attempt{err: silence, took: 2 * timeout}, doubt{}, inconclusive, doubt{overloaded: 1}},
		{"noticed a little after it", awareness{}, attempt{err: silence, took: timeout + timeout/4}, doubt{}, failure, doubt{}},
		{"the third in a row", lagged, attempt{err: silence, took: timeout}, doubt{overloaded: 2}, inconclusive, doubt{overloaded: 3}},
		{"the fourth in a row", lagged, attempt{err: silence, took: timeout}, doubt{overloaded: 3}, failure, doubt{overloaded: 3}},
		{"rate limited", awareness{}, attempt{err: limited}, doubt{overloaded: 1}, inconclusive, doubt{evasive: start}},
		{"rate limited for less than five minutes", awareness{}, attempt{err: limited}, doubt{evasive: start - longestEvasion + 1}, inconclusive, doubt{evasive: start - longestEvasion + 1}},
		{"rate limited for five minutes", awareness{}, attempt{err: limited}, doubt{evasive: start - longestEvasion}, failure, doubt{evasive: start - longestEvasion}},
		{"no say", awareness{}, attempt{err: agentless}, doubt{local: 1}, noSay, doubt{}},
	}
	for _, tc := range tests {
		tc.one.start = start
		if got, after := tc.host.outcome(tc.one, tc.before, timeout); got != tc.want || after != tc.after {
			t.Errorf("%s: outcome %d and %+v, want %d and %+v", tc.name, got, after, tc.want, tc.after)
		}
	}
}

// If a probe begins late by more than a quarter of the timeout, timeouts near that time prove
// nothing.
func TestAwarenessOfLag(t *testing.T) {
	for lag, want := range map[time.Duration]time.Duration{0: 7, 500 * time.Millisecond: 7, 501 * time.Millisecond: time.Minute} {
		if got := (awareness{lagged: 7}).after(attempt{lag: lag}, 2*time.Second, time.Minute); got.lagged != want {
			t.Errorf("lag %v: lagged at %v, want %v", lag, got.lagged, want)
		}
	}
}

// If every endpoint fails, this host is suspect. A single endpoint is no reason to doubt it.
func TestAllFail(t *testing.T) {
	for _, tc := range []struct {
		known, failing int
		want           bool
	}{{0, 0, false}, {1, 1, false}, {2, 1, false}, {2, 2, true}, {100, 99, false}, {100, 100, true}} {
		if got := AllFail(tc.known, tc.failing); got != tc.want {
			t.Errorf("%d of %d fail: %v, want %v", tc.failing, tc.known, got, tc.want)
		}
	}
}

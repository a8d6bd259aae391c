// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// agents are backends that say something about themselves.
type agents struct {
	*backends
	says probe.Report
}

func (a *agents) Report(ctx context.Context, at netip.AddrPort) (probe.Report, error) {
	if err := a.Probe(ctx, at); err != nil {
		return probe.Report{}, err
	}
	a.Lock()
	defer a.Unlock()
	return a.says, nil
}

func (a *agents) say(r probe.Report) {
	a.Lock()
	defer a.Unlock()
	a.says = r
}

// What an agent says is known after one probe, and logged. An endpoint whose agent cannot be
// understood loses its verdict.
func TestAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logged := captureLog(t)
		a := &agents{backends: newBackends(t)}
		check := a.checkOf()
		check.Prober = a
		s := joined(t, check)
		s.Seen(a1)
		is := func(verdict Verdict, want Advice) {
			t.Helper()
			wait(2 * check.Timing.Interval)
			if got := s.Advice(a1); got != want || s.Seen(a1) != verdict {
				t.Errorf("got %v, %+v, want %v, %+v", s.Seen(a1), got, verdict, want)
			}
		}
		is(Up, Advice{})
		a.say(probe.Report{Drain: true, Reason: `"disk swap"`})
		is(Up, Advice{Drain: true, Reason: `"disk swap"`})
		a.say(probe.Report{Reason: `"soon"`})
		is(Up, Advice{Reason: `"soon"`})
		a.set(a1, fmt.Errorf("%w: connection refused", probe.ErrNoSay))
		is(Unknown, Advice{NoSay: true})
		a.set(a1, nil)
		a.say(probe.Report{})
		is(Up, Advice{})
		a.set(a1, errors.New("the agent says down"))
		wait(time.Minute)
		is(Down, Advice{})

		for line, want := range map[string]int{
			`192.0.2.1 fake:1 drains: "disk swap"`:                             1,
			`192.0.2.1 fake:1 takes new clients again: "soon"`:                 1,
			"192.0.2.1 fake:1 has no say (was up): no say: connection refused": 1,
			"192.0.2.1 fake:1 is up (was unknown":                              2,
			"192.0.2.1 fake:1 is down: the agent says down (was up":            1,
		} {
			if got := strings.Count(logged.String(), line); got != want {
				t.Errorf("%d lines have %q, want %d:\n%s", got, line, want, logged)
			}
		}
	})
}

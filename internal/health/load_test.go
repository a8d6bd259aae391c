// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// The last valid load report counts, with the time that it came. Plans stay. One that is not valid
// is logged once, and all are counted, for rules that go by them.
func TestLoadReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logged := captureLog(t)
		a := &agents{backends: newBackends(t)}
		check := a.checkOf()
		check.Prober = a
		changed := 0
		sub := in("example.org.")
		sub.GoesByLoad, sub.Changed = true, func() { changed++ }
		s := joinedAs(t, check, sub)
		s.Seen(a1)
		busy := load.Report{Kind: load.Utilisation, Value: 0.5}
		say := func(r probe.Report, err error) Load {
			a.say(r)
			a.set(a1, err)
			wait(check.Timing.Interval + time.Second)
			return s.Load(a1)
		}
		if got := say(probe.Report{}, nil); got != (Load{}) {
			t.Errorf("got %+v before any report", got)
		}
		changed = 0
		got := say(probe.Report{Load: busy}, nil)
		if got.Report != busy || time.Since(got.At) > check.Timing.Interval+time.Second || got.Problem != "" {
			t.Errorf("got %+v, want %v", got, busy)
		}
		for range 3 {
			if bad := say(probe.Report{BadLoad: "nonsense"}, nil); bad.Report != busy || bad.Problem != "nonsense" || time.Since(bad.At) < check.Timing.Interval {
				t.Errorf("not valid: got %+v, want the last valid one and its time", bad)
			}
		}
		if changed > 0 {
			t.Errorf("plans were outdated %d times", changed)
		}
		if gone := say(probe.Report{}, nil); gone.Report != busy || gone.Problem != "" {
			t.Errorf("without a report: got %+v, want the last valid one without a problem", gone)
		}
		say(probe.Report{}, errors.New("down"))
		if known, _ := s.Peek(a1); known.Load.Report != busy {
			t.Errorf("Peek: got %+v, want %v", known.Load, busy)
		}
		for result, want := range map[string]float64{"valid": 1, "invalid": 3} {
			if got := metric(t, "coredns_balance_load_reports_total", s.sub.Zone, result); got < want {
				t.Errorf("%v %s reports counted, want at least %v", got, result, want)
			}
		}
		if got := strings.Count(logged.String(), "fake:1: nonsense"); got != 1 {
			t.Errorf("%d lines say nonsense, want 1:\n%s", got, logged)
		}
	})
}

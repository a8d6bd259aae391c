// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/filewatch"
)

// The clock is set while overrides with an end are in force. What is in force follows within
// seconds, on time from then on, whether the file is read over and over or once.
func TestOverridesWhenTheClockIsSet(t *testing.T) {
	tests := []struct {
		name  string
		steps []clockStep
	}{
		{"forward, over the end", []clockStep{{0, 0, "2 3"}, {2 * time.Hour, 5 * time.Second, "1 2 3"}, {0, time.Hour, "1 2 3"}}},
		{"forward, not that far", []clockStep{{30 * time.Minute, 29 * time.Minute, "2 3"}, {0, 2 * time.Minute, "1 2 3"}}},
		{"back, before the end", []clockStep{{-time.Hour, 90 * time.Minute, "2 3"}, {0, 29 * time.Minute, "2 3"}, {0, 2 * time.Minute, "1 2 3"}}},
		{"back, after the end", []clockStep{{0, 61 * time.Minute, "1 2 3"}, {-31 * time.Minute, 5 * time.Second, "2 3"}, {0, 29 * time.Minute, "2 3"}, {0, 2 * time.Minute, "1 2 3"}}},
		{"forward and back", []clockStep{{100 * time.Hour, 5 * time.Second, "1 2 3"}, {-100 * time.Hour, 5 * time.Second, "2 3"}, {0, time.Hour, "1 2 3"}}},
	}
	for _, every := range []string{"0", "5s", "1h"} {
		for _, tc := range tests {
			t.Run(tc.name+", read every "+every, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "overrides")
				synctest.Test(t, func(t *testing.T) {
					writeFile(t, file, "192.0.2.1 down until "+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"\n")
					walkClock(t, parsedRule(t, "balance {\n overrides "+file+" "+every+"\n}"), tc.steps)
				})
			})
		}
	}
}

// clockStep sets the clock, waits, and says who answers then.
type clockStep struct {
	set, wait time.Duration
	answer    string
}

func walkClock(t *testing.T, r *rule, steps []clockStep) {
	t.Helper()
	var off atomic.Int64
	r.overrides.Dated.Clock = func() time.Time { return filewatch.Clock().Add(time.Duration(off.Load())) }
	z := &zoneRule{rule: r, zone: "h."}
	l := &life{rules: []*rule{r}, zones: map[string]*zoneRule{"h.": z}}
	l.start()
	defer l.stop()
	synctest.Wait()
	h := &Balance{Next: echo, rules: serve(map[string]*zoneRule{"h.": z})}
	for i, step := range steps {
		off.Add(int64(step.set))
		wait(step.wait)
		m := message(t, "www.h. A", "www.h. 9 A 192.0.2.1\n www.h. 9 A 192.0.2.2\n www.h. 9 A 192.0.2.3")
		got := strings.NewReplacer("192.0.2.", "", " 9", "", ",", "").Replace(targets(ask(t, h, m)))
		if got != step.answer {
			t.Errorf("step %d: %s answer, want %s", i+1, got, step.answer)
		}
	}
}

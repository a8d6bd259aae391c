// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/overrides"
)

// A name is the same however it is spelled, by a message, by a zone file, whose names reach us as
// they stand there, or by an operator.
func TestOwnersAreSpelledInManyWays(t *testing.T) {
	defer inUse.forget()
	overrides, weights := filepath.Join(t.TempDir(), "overrides"), filepath.Join(t.TempDir(), "weights")
	writeFile(t, overrides, "bob's.spelled. 192.0.2.1 down\n")
	writeFile(t, weights, `\098ob\'s.spelled`+"\n192.0.2.2 0\n")
	h := newHandler(t, "balance spelled {\n policy weighted\n weights "+weights+"\n overrides "+overrides+"\n status\n}", echo)
	for _, owner := range []string{"bob's.spelled.", `bob\'s.spelled.`, `\098OB\039s.spelled.`} {
		m := message(t, `bob\'s.spelled. A`, owner+" A 192.0.2.1\n "+owner+" A 192.0.2.2\n "+owner+" A 192.0.2.3")
		if got := ask(t, h, m).Answer; len(got) != 1 || got[0].(*dns.A).A.String() != "192.0.2.3" {
			t.Errorf("%s: %v, want the one that is neither down nor a standby", owner, got)
		}
		shown := map[string]string{}
		for _, member := range shownOf(h, strings.ToLower(m.Answer[0].Header().Name), inAnswer).Members {
			shown[member.Member] = member.State
			if member.Override != nil {
				shown[member.Member] += ", " + member.Override.What
			}
		}
		if diff := cmp.Diff(map[string]string{"192.0.2.1": "down, down", "192.0.2.2": "drained", "192.0.2.3": "answers"}, shown); diff != "" {
			t.Errorf("%s, the page (-want +got):\n%s", owner, diff)
		}
	}
}

func TestClassifyOverrides(t *testing.T) {
	tests := []struct {
		verdicts, said string // a letter a member: U, D, ?; u, d, r for drain, -
		answering      []uint16
	}{
		{"UUU", "-d-", []uint16{0, 2}},
		{"DUU", "u--", []uint16{0, 1, 2}},
		{"UUU", "-r-", []uint16{0, 2}},
		{"DUD", "-r-", []uint16{1}},    // drained, but nothing else serves
		{"DDD", "--d", []uint16{0, 1}}, // fail open, but not with the one that an operator took down
		{"DDD", "-rd", []uint16{0}},
		{"DDD", "ddd", []uint16{0, 1, 2}}, // nothing else is left
		{"UUU", "ddd", []uint16{0, 1, 2}},
		{"UUU", "rrr", []uint16{0, 1, 2}},
		{"UUD", "dr-", []uint16{1}},
	}
	for _, tc := range tests {
		t.Run(tc.verdicts+" "+tc.said, func(t *testing.T) {
			var standings []standing
			for i := range tc.verdicts {
				v := map[byte]health.Verdict{'U': health.Up, 'D': health.Down, '?': health.Unknown}[tc.verdicts[i]]
				o := map[byte]overrides.Override{'u': overrides.Up, 'd': overrides.Down, 'r': overrides.Drain}[tc.said[i]]
				standings = append(standings, standing{weight: 1, verdict: v, override: o}.ruled())
			}
			if got := classify(standings, criteria{minHealthy: quorum{count: 1}}).answering; fmt.Sprint(got) != fmt.Sprint(tc.answering) {
				t.Errorf("answering %v, want %v", got, tc.answering)
			}
		})
	}
}

// An expired line is void though the file stays, a file removed clears them, a broken one changes
// nothing. One-record RRsets are left alone as ever.
func TestOverridesWhileRunning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	synctest.Test(t, func(t *testing.T) {
		at := func(seconds int) string {
			return time.Now().Add(time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339)
		}
		r := parsedRule(t, "balance {\n overrides "+file+" 5s\n}") // not there yet
		z := &zoneRule{rule: r, zone: "h."}
		l := &life{rules: []*rule{r}, zones: map[string]*zoneRule{"h.": z}}
		l.start()
		defer l.stop()
		h := &Balance{Next: echo, rules: serve(map[string]*zoneRule{"h.": z})}
		want := func(step, answer string) {
			t.Helper()
			m := message(t, "www.h. A", "www.h. 9 A 192.0.2.1\n www.h. 9 A 192.0.2.2\n www.h. 9 A 192.0.2.3")
			if got := targets(ask(t, h, m)); got != answer {
				t.Errorf("%s: answer is %s, want %s", step, got, answer)
			}
		}
		all := "192.0.2.1 9, 192.0.2.2 9, 192.0.2.3 9"
		want("no file", all)
		writeFile(t, file, "192.0.2.1 down until "+at(30)+" # disk swap\n192.0.2.2 drain\n")
		wait(6 * time.Second)
		want("down and drain", "192.0.2.3 9")
		if got := metric(t, "coredns_balance_overrides", ".", "drain"); got != 1 {
			t.Errorf("%v drains in force, want 1", got)
		}
		writeFile(t, file, "192.0.2.1 dwon\n")
		wait(6 * time.Second)
		want("broken", "192.0.2.3 9")
		wait(20 * time.Second)
		want("expired", "192.0.2.1 9, 192.0.2.3 9")
		must(t, os.Remove(file))
		wait(6 * time.Second)
		want("removed", all)
	})
}

// Lines begin and end on time, not at the next reading of the file; reading once is enough.
func TestOverridesAreOnTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	synctest.Test(t, func(t *testing.T) {
		writeFile(t, file, "192.0.2.1 down until "+time.Now().Add(90*time.Second).UTC().Format(time.RFC3339)+"\n"+
			"192.0.2.2 down from "+time.Now().Add(91*time.Second).UTC().Format(time.RFC3339)+"\n")
		r := parsedRule(t, "balance {\n overrides "+file+" 0\n}")
		l := &life{rules: []*rule{r}}
		l.start()
		defer l.stop()
		before := r.epoch.Load()
		for i, at := range []time.Duration{89900 * time.Millisecond, 200 * time.Millisecond, 800 * time.Millisecond, 200 * time.Millisecond, time.Hour} {
			wait(at)
			if got, want := r.epoch.Load()-before, []uint64{0, 1, 1, 2, 2}[i]; got != want {
				t.Errorf("step %d: the rule was told %d times, want %d", i, got, want)
			}
		}
	})
}

// A line that is to come is logged when it is read, and when it begins.
func TestOverridesToComeAreLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		writeFile(t, file, "192.0.2.1 down from 2000-01-01T01:00:00Z # move\n192.0.2.2 down from 2000-01-01T02:00:00Z\n")
		r := parsedRule(t, "balance {\n overrides "+file+"\n}")
		l := &life{rules: []*rule{r}}
		l.start()
		defer l.stop()
		writeFile(t, file, "192.0.2.1 down from 2000-01-01T01:00:00Z # move\n")
		wait(2 * time.Hour)
	})
	for _, want := range []string{
		"0 overrides in force; to come: 192.0.2.1 down from 2000-01-01T01:00:00Z # move; 192.0.2.2 down from 2000-01-01T02:00:00Z\n",
		"0 overrides in force; no longer to come: 192.0.2.2 down from 2000-01-01T02:00:00Z\n",
		"1 override in force; added: 192.0.2.1 down from 2000-01-01T01:00:00Z # move\n",
	} {
		if strings.Count(logged.String(), file+": "+want) != 1 {
			t.Errorf("want once %q, logged:\n%s", want, logged)
		}
	}
}

// Rules of one zone, in two blocks or while a reload replaces one by the other, do not break the
// scrape.
func TestOverridesOfOneZoneAreCountedOnce(t *testing.T) {
	dir := t.TempDir()
	one, other := filepath.Join(dir, "one"), filepath.Join(dir, "other")
	writeFile(t, one, "192.0.2.1 drain\n")
	writeFile(t, other, "192.0.2.2 drain\n192.0.2.3 drain\n")
	synctest.Test(t, func(t *testing.T) {
		for _, file := range []string{one, one, other} {
			l := &life{rules: []*rule{parsedRule(t, "balance {\n overrides "+file+"\n}")}}
			l.start()
			defer l.stop()
		}
		if got := metric(t, "coredns_balance_overrides", ".", "drain"); got != 3 {
			t.Errorf("%v drains in force, want 3", got)
		}
	})
}

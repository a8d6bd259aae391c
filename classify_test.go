// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/health"
)

// standingsOf reads members such as "U D ?0 U/1": a verdict, a weight other than 1, a tier other
// than 0.
func standingsOf(t *testing.T, text string) (standings []standing) {
	t.Helper()
	for field := range strings.FieldsSeq(text) {
		s := standing{weight: 1}
		v, rest := field[0], field[1:]
		if w, n, ok := strings.Cut(rest, "/"); ok {
			rest = w
			_, err := fmt.Sscan(n, &s.tier)
			must(t, err)
		}
		if rest != "" {
			_, err := fmt.Sscan(rest, &s.weight)
			must(t, err)
		}
		s.verdict = map[byte]health.Verdict{'U': health.Up, 'D': health.Down, '?': health.Unknown}[v]
		standings = append(standings, s)
	}
	return standings
}

func TestClassify(t *testing.T) {
	one := quorum{count: 1}
	tests := []struct {
		members   string
		quorum    quorum
		answering []uint16
		excluded  string // members, each with the reason
		degraded  bool
		allDown   bool
		over      bool // failed over: another tier answers than the first
	}{
		// Standby members answer if no other can.
		{members: "D D U0", answering: []uint16{2}, excluded: "0 down, 1 down", degraded: true},
		{members: "D D D0", answering: []uint16{0, 1}, excluded: "2 drained", degraded: true, allDown: true},
		{members: "D U D0", answering: []uint16{1}, excluded: "0 down, 2 down", degraded: true},
		{members: "U U D0", answering: []uint16{0, 1}, excluded: "2 down"},
		{members: "U U U0", answering: []uint16{0, 1}, excluded: "2 drained"},
		{members: "? ? ?0", answering: []uint16{0, 1}, excluded: "2 drained"},
		{members: "? D U0", answering: []uint16{0}, excluded: "2 drained, 1 down", degraded: true},
		{members: "U0 U0 U0", answering: []uint16{0, 1, 2}},
		{members: "D0 U0 ?0", answering: []uint16{1, 2}, excluded: "0 down", degraded: true},
		{members: "D0 D0 D0", answering: []uint16{0, 1, 2}, degraded: true, allDown: true},
		{members: "D7", answering: []uint16{0}, degraded: true, allDown: true},
		// One tier answers: the first that can.
		{members: "D D/1 U/1 U/2", answering: []uint16{2}, excluded: "3 tier, 0 down, 1 down", degraded: true, over: true},
		{members: "D D/1 D/1 D/2", answering: []uint16{0}, excluded: "1 tier, 2 tier, 3 tier", degraded: true, allDown: true},
		{members: "U D/1 U/1 U/2", answering: []uint16{0}, excluded: "2 tier, 3 tier, 1 down"},
		{members: "U/1 U/3", answering: []uint16{0}, excluded: "1 tier"},
		{members: "D U0 U/1", answering: []uint16{1}, excluded: "2 tier, 0 down", degraded: true},
		{members: "U/1 U0/1 D D", answering: []uint16{0}, excluded: "1 drained, 2 down, 3 down", degraded: true, over: true},
		// A tier below its quorum is passed over, unless none has one.
		{members: "U D U/1 U/1", quorum: quorum{count: 2}, answering: []uint16{2, 3}, excluded: "0 tier, 1 down", degraded: true, over: true},
		{members: "U D U/1 D/1", quorum: quorum{count: 2}, answering: []uint16{0}, excluded: "2 tier, 1 down, 3 down", degraded: true},
		{members: "D D U/1 D/1", quorum: quorum{count: 2}, answering: []uint16{2}, excluded: "0 down, 1 down, 3 down", degraded: true, over: true},
		{members: "U D U/1", quorum: quorum{percent: 50}, answering: []uint16{0}, excluded: "2 tier, 1 down", degraded: true},
		{members: "U D D U/1", quorum: quorum{percent: 50}, answering: []uint16{3}, excluded: "0 tier, 1 down, 2 down", degraded: true, over: true},
	}
	for _, tc := range tests {
		t.Run(tc.members, func(t *testing.T) {
			q := tc.quorum
			if q == (quorum{}) {
				q = one
			}
			c := classify(standingsOf(t, tc.members), criteria{minHealthy: q})
			var out []string
			for _, a := range c.excluded {
				out = append(out, fmt.Sprintf("%d %s", a.member, reasonNames[a.why]))
			}
			if !slices.Equal(c.answering, tc.answering) || strings.Join(out, ", ") != tc.excluded {
				t.Errorf("answering %v, excluded %v; want %v and %v", c.answering, out, tc.answering, tc.excluded)
			}
			if c.degraded != tc.degraded || c.allDown != tc.allDown || c.failedOver != tc.over {
				t.Errorf("degraded %v, all down %v, failed over %v; want %v, %v and %v", c.degraded, c.allDown, c.failedOver, tc.degraded, tc.allDown, tc.over)
			}
		})
	}
}

// A share rounds up.
func TestQuorum(t *testing.T) {
	tests := []struct {
		quorum        quorum
		members, want int
	}{
		{quorum{percent: 50}, 1, 1},
		{quorum{percent: 50}, 2, 1},
		{quorum{percent: 50}, 3, 2},
		{quorum{percent: 50}, 4, 2},
		{quorum{percent: 50}, 5, 3},
		{quorum{percent: 10}, 8, 1},
		{quorum{percent: 10}, 16, 2},
		{quorum{percent: 100}, 7, 7},
		{quorum{percent: 1}, 1, 1},
		{quorum{count: 3}, 2, 3},
	}
	for _, tc := range tests {
		if got := tc.quorum.of(tc.members); got != tc.want {
			t.Errorf("%+v of %d members is %d, want %d", tc.quorum, tc.members, got, tc.want)
		}
	}
}

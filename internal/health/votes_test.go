// SPDX-License-Identifier: Apache-2.0

package health

import (
	"testing"
	"time"
)

func TestVotes(t *testing.T) {
	for _, tc := range []struct {
		verdicts      []Verdict
		all, any, two Verdict
	}{
		{nil, Unknown, Unknown, Unknown},
		{[]Verdict{Up}, Up, Up, Up},
		{[]Verdict{Down}, Down, Down, Down},
		{[]Verdict{Unknown}, Unknown, Unknown, Unknown},
		{[]Verdict{Up, Unknown}, Unknown, Up, Unknown},
		{[]Verdict{Down, Unknown}, Down, Unknown, Down},
		{[]Verdict{Up, Down}, Down, Up, Down},
		{[]Verdict{Up, Up, Down}, Down, Up, Up},
		{[]Verdict{Up, Unknown, Down}, Down, Up, Unknown},
		{[]Verdict{Unknown, Down, Down}, Down, Unknown, Down},
		{[]Verdict{Up, Up, Up}, Up, Up, Up},
	} {
		var v Votes
		for _, one := range tc.verdicts {
			v.Add(one)
		}
		if all, anyOne, two := v.Verdict(0), v.Verdict(1), v.Verdict(2); all != tc.all || anyOne != tc.any || two != tc.two {
			t.Errorf("%v: got %v, %v, %v, want %v, %v, %v", tc.verdicts, all, anyOne, two, tc.all, tc.any, tc.two)
		}
	}
}

// How an address came up by several checks: as the last one that was needed.
func TestTogether(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 12, 1, 0, minute, 0, 0, time.UTC) }
	first := Record{Verdict: Up, Since: at(1)}
	damped := Record{Verdict: Up, Since: at(2), CameUp: true, Reuse: at(9)}
	back := Record{Verdict: Up, Since: at(5), CameUp: true}
	down := Record{Verdict: Down, Since: at(1)}
	for _, tc := range []struct {
		name    string
		checks  []Record
		require int
		want    Record
	}{
		{"no check", nil, 0, Record{}},
		{"one", []Record{back}, 0, back},
		{"all of two", []Record{back, first}, 0, back},
		{"any of two", []Record{back, first}, 1, first},
		{"damping lasts longest", []Record{damped, back, first}, 0, damped},
		{"two of three, one is damped", []Record{damped, back, first}, 2, back},
		{"one is down", []Record{back, down}, 0, Record{}},
		{"any, and one is down", []Record{back, down}, 1, back},
	} {
		if got := Together(tc.checks, tc.require); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

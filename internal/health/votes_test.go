// SPDX-License-Identifier: Apache-2.0

package health

import "testing"

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

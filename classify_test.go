// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"
	"testing"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		weights   []uint16
		verdicts  string // a letter a member: U, D or ?
		answering []uint16
		aside     []uint16
	}{
		{[]uint16{1, 1, 0}, "DDU", []uint16{2}, []uint16{0, 1}},
		{[]uint16{1, 1, 0}, "DDD", []uint16{0, 1}, []uint16{2}},
		{[]uint16{1, 1, 0}, "DUD", []uint16{1}, []uint16{0, 2}},
		{[]uint16{1, 1, 0}, "UUD", []uint16{0, 1}, []uint16{2}},
		{[]uint16{1, 1, 0}, "UUU", []uint16{0, 1}, []uint16{2}},
		{[]uint16{1, 1, 0}, "???", []uint16{0, 1}, []uint16{2}},
		{[]uint16{1, 1, 0}, "?DU", []uint16{0}, []uint16{2, 1}},
		{[]uint16{0, 0, 0}, "UUU", []uint16{0, 1, 2}, nil},
		{[]uint16{0, 0, 0}, "DU?", []uint16{1, 2}, []uint16{0}},
		{[]uint16{0, 0, 0}, "DDD", []uint16{0, 1, 2}, nil},
		{[]uint16{7}, "D", []uint16{0}, nil},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.weights, tc.verdicts), func(t *testing.T) {
			var standings []standing
			for i, letter := range tc.verdicts {
				v := map[rune]verdict{'U': up, 'D': down, '?': unknown}[letter]
				standings = append(standings, standing{weight: tc.weights[i], verdict: v})
			}
			c := classify(standings)
			var out []uint16
			for _, a := range c.aside {
				out = append(out, a.member)
			}
			if !slices.Equal(c.answering, tc.answering) || !slices.Equal(out, tc.aside) {
				t.Errorf("answering %v, aside %v; want %v and %v", c.answering, out, tc.answering, tc.aside)
			}
		})
	}
}

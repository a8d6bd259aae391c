// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Critical values of the chi-square distribution as tables print them (NIST/SEMATECH e-Handbook of
// Statistical Methods, 1.3.6.7.4).
func TestUpperTail(t *testing.T) {
	tests := []struct {
		x       float64
		degrees int
		want    float64
	}{
		{2.706, 1, 0.10}, {3.841, 1, 0.05}, {6.635, 1, 0.01}, {10.828, 1, 0.001},
		{5.991, 2, 0.05}, {9.210, 2, 0.01},
		{7.815, 3, 0.05}, {11.345, 3, 0.01},
		{18.307, 10, 0.05}, {29.588, 10, 0.001},
		{19.675, 11, 0.05},
		{43.773, 30, 0.05},
		{77.931, 100, 0.95}, {124.342, 100, 0.05}, {149.449, 100, 0.001},
	}
	for _, tc := range tests {
		if got := upperTail(tc.x, tc.degrees); math.Abs(got-tc.want) > 0.00005*(1+tc.want*10) {
			t.Errorf("upperTail(%v, %d) is %v, want %v", tc.x, tc.degrees, got, tc.want)
		}
	}
	for _, tc := range []struct {
		x       float64
		degrees int
		want    float64
	}{{0, 3, 1}, {math.Inf(1), 3, 0}, {1e6, 2, 0}, {1, 0, 1}} {
		if got := upperTail(tc.x, tc.degrees); got != tc.want {
			t.Errorf("upperTail(%v, %d) is %v, want %v", tc.x, tc.degrees, got, tc.want)
		}
	}
	if got := upperTail(20000, 20000); math.Abs(got-0.4987) > 0.001 { // by the central limit theorem near 1/2
		t.Errorf("with 20,000 degrees it is %v, want 0.4987", got)
	}
}

func TestJudge(t *testing.T) {
	third := []float64{1. / 3, 1. / 3, 1. / 3}
	weighted := []float64{5. / 7, 1. / 7, 1. / 7}
	tests := []struct {
		name    string
		leads   []int
		shares  []float64
		verdict string
		p       float64
	}{
		{"strict rotation", []int{1000, 1000, 1000}, third, exact, 1},
		{"strict rotation, not to the end of a cycle", []int{334, 333, 333}, third, exact, 0.999},
		{"by weight", []int{2143, 429, 429}, weighted, exact, 1},
		{"a little uneven", []int{1003, 998, 999}, third, asWanted, 0.993},
		{"random", []int{1030, 985, 985}, third, asWanted, 0.509},
		{"uneven", []int{1100, 950, 950}, third, notAsWanted, 0.00055},
		{"one leads all the time", []int{300, 0, 0}, third, notAsWanted, 0},
		{"weights that are not followed", []int{1000, 1000, 1000}, weighted, notAsWanted, 0},
		{"a standby that leads", []int{50, 50, 1}, []float64{0.5, 0.5, 0}, notAsWanted, 0},
		{"a standby that leads, few answers", []int{1, 1, 1}, []float64{0.5, 0.5, 0}, notAsWanted, 0},
		{"a standby that stands by", []int{50, 50, 0}, []float64{0.5, 0.5, 0}, exact, 1},
		{"few answers, all even", []int{4, 4, 4}, third, tooFew, 1},
		{"few answers, uneven", []int{12, 1, 1}, third, tooFew, 0.00018},
		{"just enough", []int{5, 5, 5}, third, exact, 1},
		{"few for a small share", []int{396, 4}, []float64{0.99, 0.01}, tooFew, 1},
		{"enough for a small share", []int{495, 5}, []float64{0.99, 0.01}, exact, 1},
		{"no answer", []int{0, 0}, []float64{0.5, 0.5}, tooFew, 1},
		{"one member", []int{1000}, []float64{1}, onlyOne, 1},
		{"one member beside standbys", []int{1000, 0}, []float64{1, 0}, onlyOne, 1},
	}
	for _, tc := range tests {
		j := judge(tc.leads, tc.shares)
		if j.verdict != tc.verdict || math.Abs(j.p-tc.p) > 0.0006 {
			t.Errorf("%s: %q with p %v, want %q with p %v", tc.name, j.verdict, j.p, tc.verdict, tc.p)
		}
	}
	if j := judge([]int{4, 4, 4}, third); j.enough != 15 {
		t.Errorf("%d answers are enough for three members, want 15", j.enough)
	}
}

// Of runs that chance makes with the shares that are wanted, one in a hundred is denied; with other
// shares all are. 20,000 runs: the number denied has mean 200 and standard deviation 14, so 5 of
// these are 130 to 270.
func TestJudgeErrsAsOftenAsItSays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(cumulated []float64, n int) []int {
		leads := make([]int, len(cumulated))
		for range n {
			u, i := random.Float64(), 0
			for u >= cumulated[i] {
				i++
			}
			leads[i]++
		}
		return leads
	}
	wanted := []float64{0.5, 0.3, 0.2}
	denied := 0
	for range 20000 {
		if judge(draw([]float64{0.5, 0.8, 1}, 500), wanted).verdict == notAsWanted {
			denied++
		}
	}
	if denied < 130 || denied > 270 {
		t.Errorf("%d of 20,000 fair runs are denied, want about 200", denied)
	}
	for range 200 {
		if got := judge(draw([]float64{0.4, 0.7, 1}, 1000), wanted).verdict; got != notAsWanted {
			t.Errorf("shares 40, 30 and 30 %% are %q where 50, 30 and 20 are wanted", got)
		}
	}
}

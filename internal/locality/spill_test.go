// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestLeads(t *testing.T) {
	a, b, c, elsewhere := Named("a"), Named("b"), Named("c"), Locality(0)
	for _, test := range []struct {
		name   string
		shares []Share
		want   map[Locality][]Lead
	}{
		{"clients as the weights", []Share{{a, 1, 30}, {b, 1, 30}}, map[Locality][]Lead{a: {{a, 1}}, b: {{b, 1}}}},
		{"a has a quarter of the weight and half of the clients", []Share{{a, 1, 50}, {b, 3, 50}},
			map[Locality][]Lead{a: {{a, 0.5}, {b, 0.5}}, b: {{b, 1}}}},
		{"clients 50/30/20, weights 20/40/40", []Share{{a, 20, 50}, {b, 40, 30}, {c, 40, 20}},
			map[Locality][]Lead{a: {{a, 0.4}, {b, 0.2}, {c, 0.4}}, b: {{b, 1}}, c: {{c, 1}}}},
		{"a has no members", []Share{{a, 0, 50}, {b, 1, 25}, {c, 1, 25}}, map[Locality][]Lead{a: {{b, 0.5}, {c, 0.5}}}},
		{"members of no locality take their part", []Share{{a, 1, 100}, {elsewhere, 1, 0}}, map[Locality][]Lead{a: {{a, 0.5}, {elsewhere, 0.5}}}},
		{"nothing is known of the clients", []Share{{a, 1, 0}, {b, 9, 0}}, map[Locality][]Lead{a: {{a, 1}}}},
		{"no member can answer", []Share{{a, 0, 10}, {b, 0, 10}}, map[Locality][]Lead{a: {{a, 1}}}},
	} {
		for of, want := range test.want {
			got := Leads(of, test.shares)
			same := len(got) == len(want)
			for i := range got {
				same = same && got[i].Locality == want[i].Locality && math.Abs(got[i].Portion-want[i].Portion) < 1e-9
			}
			if !same {
				t.Errorf("%s: clients of %s are led %v, want %v", test.name, of, got, want)
			}
		}
	}
}

// Whatever the shares are: every locality's members lead their part of all answers, and no more
// answers cross than must.
func TestLeads_LoadByWeight(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	for range 1000 {
		n := 2 + rng.IntN(6)
		shares := make([]Share, n)
		weights, answers := 0.0, 0.0
		for i := range shares {
			shares[i] = Share{Named(string(rune('a' + i))), float64(rng.IntN(10)), float64(1 + rng.IntN(10))}
			weights, answers = weights+shares[i].Weight, answers+shares[i].Answers
		}
		if weights == 0 {
			continue
		}
		led, crossed, must := make(map[Locality]float64), 0.0, 0.0
		for _, s := range shares {
			for _, lead := range Leads(s.Locality, shares) {
				led[lead.Locality] += lead.Portion * s.Answers / answers
				if lead.Locality != s.Locality {
					crossed += lead.Portion * s.Answers / answers
				}
			}
			must += max(0, s.Answers/answers-s.Weight/weights)
		}
		for _, s := range shares {
			if want := s.Weight / weights; math.Abs(led[s.Locality]-want) > 1e-9 {
				t.Fatalf("%v: %s leads %f of all answers, want %f", shares, s.Locality, led[s.Locality], want)
			}
		}
		if math.Abs(crossed-must) > 1e-9 {
			t.Fatalf("%v: %f of the answers cross localities, want %f", shares, crossed, must)
		}
	}
}

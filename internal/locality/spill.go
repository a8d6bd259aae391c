// SPDX-License-Identifier: Apache-2.0

package locality

import "slices"

// Share is a locality's part in the answers for an RRset.
type Share struct {
	Locality Locality
	Weight   float64 // of its members that can answer
	Answers  float64 // given to its clients
}

// Lead says that a part of the answers is led by members of a locality.
type Lead struct {
	Locality Locality
	Portion  float64 // above 0, at most 1
}

// Leads returns who leads the answers to the clients of a locality, the locality itself first if it
// keeps any. A locality whose share of the weight is smaller than its share of the answers keeps
// that part. The rest goes to the localities with weight to spare, in proportion to what they have.
// This loads all members in proportion to their weight and crosses localities as rarely as that
// allows. It is the zone-aware routing of Envoy
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/zone_aware).
func Leads(of Locality, shares []Share) []Lead {
	weights, answers := 0.0, 0.0
	for _, s := range shares {
		weights, answers = weights+s.Weight, answers+s.Answers
	}
	own := slices.IndexFunc(shares, func(s Share) bool { return s.Locality == of })
	if weights == 0 || answers == 0 || own < 0 || shares[own].Answers == 0 {
		return []Lead{{of, 1}}
	}
	spare := func(s Share) float64 { return s.Weight/weights - s.Answers/answers }
	missing := -spare(shares[own])
	if missing <= 0 {
		return []Lead{{of, 1}}
	}
	spilled := missing / (shares[own].Answers / answers)
	var leads []Lead
	if kept := 1 - spilled; kept > 0 {
		leads = append(leads, Lead{of, kept})
	}
	all := 0.0
	for _, s := range shares {
		all += max(0, spare(s))
	}
	for _, s := range shares {
		if spare(s) > 0 {
			leads = append(leads, Lead{s.Locality, spilled * spare(s) / all})
		}
	}
	return leads
}

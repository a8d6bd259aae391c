// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// report is all that is shown of a run. Its JSON is what -json writes. Immutable.
type report struct {
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Server    string         `json:"server"`
	Over      string         `json:"over"`
	Asked     int            `json:"asked"`
	Answered  int            `json:"answered"`
	Lost      int            `json:"lost"`      // no answer in time
	Problems  map[string]int `json:"problems"`  // why there was none otherwise
	Truncated int            `json:"truncated"` // asked again over TCP
	Empty     int            `json:"empty"`     // NOERROR without a member
	Rcodes    map[string]int `json:"rcodes"`
	TTLs      map[uint32]int `json:"ttls"`
	Seconds   float64        `json:"seconds"`
	Latency   latency        `json:"latency_ms"`
	Sets      []setReport    `json:"sets"`
}

// latency is percentiles of the time from question to answer, in milliseconds.
type latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// setReport is what was seen of a set.
type setReport struct {
	What      string         `json:"what"`
	Answers   int            `json:"answers"`
	Members   []memberReport `json:"members"`
	Verdict   string         `json:"verdict"`
	ChiSquare *float64       `json:"chi_square"` // null: infinite
	Degrees   int            `json:"degrees_of_freedom"`
	P         float64        `json:"p"`
	Enough    int            `json:"answers_for_a_verdict"`
}

// memberReport is what was seen of a member, and what was wanted.
type memberReport struct {
	Member  string  `json:"member"`
	Leads   int     `json:"leads"`
	Share   float64 `json:"share"`      // of all leads, 0 to 1
	Wanted  float64 `json:"wanted"`     // of all leads, 0 to 1
	Answers int     `json:"answers"`    // that hold it
	Place   float64 `json:"mean_place"` // in these, the lead being 1; 0 if there are none
}

// newReport puts together what was counted in a run that took some time.
func newReport(o *options, t *tally, took time.Duration) *report {
	r := &report{
		Name: o.name, Type: dns.TypeToString[o.qtype], Server: o.server, Over: o.over,
		Asked: t.asked, Answered: t.answered, Lost: t.lost, Problems: t.problems, Truncated: t.truncated, Empty: t.empty,
		Rcodes: map[string]int{}, TTLs: t.ttls, Seconds: took.Seconds(), Latency: latencyOf(t.took), Sets: []setReport{},
	}
	for code, n := range t.rcodes {
		name := dns.RcodeToString[code]
		if name == "" {
			name = "unknown"
		}
		r.Rcodes[name] += n
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.sets), setID.compare) {
		r.Sets = append(r.Sets, newSetReport(id, t.sets[id], o))
	}
	return r
}

func newSetReport(id setID, s *set, o *options) setReport {
	members := maps.Clone(s.members)
	for _, missing := range o.wanted.missing(id.isV4(o.qtype), id.isV6(o.qtype), s.members) {
		members[missing] = &member{}
	}
	ids := slices.SortedFunc(maps.Keys(members), memberID.compare)
	shares := o.wanted.shares(s.owner, ids)
	leads := make([]int, len(ids))
	rows := make([]memberReport, len(ids))
	for i, id := range ids {
		m := members[id]
		leads[i] = m.leads
		rows[i] = memberReport{Member: id.String(), Leads: m.leads, Share: float64(m.leads) / float64(s.answers), Wanted: shares[i], Answers: m.answers}
		if m.answers > 0 {
			rows[i].Place = float64(m.places) / float64(m.answers)
		}
	}
	j := judge(leads, shares)
	out := setReport{What: id.title(o.qtype), Answers: s.answers, Members: rows, Verdict: j.verdict, Degrees: max(0, j.degrees), P: j.p, Enough: j.enough}
	if !math.IsInf(j.chiSquare, 1) {
		out.ChiSquare = &j.chiSquare
	}
	return out
}

// latencyOf returns the percentiles of times, by the nearest rank.
func latencyOf(took []time.Duration) latency {
	if len(took) == 0 {
		return latency{}
	}
	sorted := slices.Sorted(slices.Values(took))
	at := func(percent int) float64 {
		rank := (len(sorted)*percent + 99) / 100
		return float64(sorted[max(rank, 1)-1].Microseconds()) / 1000
	}
	return latency{P50: at(50), P90: at(90), P99: at(99), Max: at(100)}
}

// exitStatus tells scripts the worst verdict.
func (r *report) exitStatus() int {
	has := func(verdict string) bool {
		return slices.ContainsFunc(r.Sets, func(s setReport) bool { return s.Verdict == verdict })
	}
	switch {
	case has(notAsWanted):
		return exitNotAsWanted
	case has(tooFew), !has(exact) && !has(asWanted):
		return exitNoVerdict
	}
	return exitAsWanted
}

// SPDX-License-Identifier: Apache-2.0

package load

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"
)

// The controller's constants. docs/load.md says why these.

// approach is how much of its way to its aim a factor goes in a TTL, as a rate, by the kind of
// report. A share that an agent asks for may follow from the load, so it is followed slowly.
var approach = [kinds]float64{Nothing: 0.55, Share: 0.55, Utilisation: 0.9}

const (
	most   = 0.25 // the largest change of a factor in a TTL
	slack  = 0.05 // added to utilisations: near 0 their ratios say nothing
	memory = 1    // TTLs: the time constant with which it forgets how wrong a view was
	doubt  = 1e-6 // added to how wrong views were, so that none counts alone
)

// lags are how late reports may show a change of weights, in TTLs: the time constant of each of two
// lags in a row. Nobody says how late they are, so there is a view for either.
var lags = [views]float64{0.5, 1.3}

// Patience is how many intervals a report is valid.
const Patience = 3

// Members that leave the RRset may come back, as with an upstream that returns some of many.
const (
	goneFor = 10 // TTLs in which they keep their factors
	maxGone = 8  // as many times the number of members do so at most
)

const (
	shortest  = 3    // intervals: a shorter TTL counts as that, because reports are no faster
	threshold = 0.02 // of a factor: the smallest change that comes into force
)

// Next returns the state that follows at a time. The members are sorted by address, each there
// once. The receiver may be nil.
func (s *State) Next(now time.Time, members []Member, limits Limits) *State {
	elapsed := s.ttlsSince(now, max(limits.TTL, shortest*limits.Interval))
	members = s.withGone(members)
	next := &State{at: now, members: make([]known, len(members))}
	groups := make(map[uint16]group, 1)
	for i := range members {
		m, k := &members[i], &next.members[i]
		*k = s.before(m)
		k.meet(m, elapsed)
		k.hear(m, limits)
		groups[m.Group] = append(groups[m.Group], part{k, m.Weight, m.ramp()})
	}
	for _, g := range groups {
		g.carry(s == nil, elapsed)
		g.steer(elapsed, limits.Floor)
	}
	return next
}

// ttlsSince returns how many TTLs have passed, at most 1: after a longer time without questions,
// the factors still go on from where they were.
func (s *State) ttlsSince(now time.Time, ttl time.Duration) float64 {
	if s == nil {
		return 0
	}
	return min(max(now.Sub(s.at).Seconds()/ttl.Seconds(), 0), 1)
}

// withGone adds the members that left not long ago, without traffic: so each keeps its factor.
func (s *State) withGone(members []Member) []Member {
	var gone []known
	for i := range s.Len() {
		k := s.members[i]
		if _, there := slices.BinarySearchFunc(members, k.addr, func(m Member, addr netip.Addr) int { return m.Addr.Compare(addr) }); !there && k.gone < goneFor {
			gone = append(gone, k)
		}
	}
	if len(gone) == 0 {
		return members
	}
	slices.SortStableFunc(gone, func(a, b known) int { return cmp.Compare(a.gone, b.gone) })
	all := slices.Clone(members)
	for _, k := range gone[:min(len(gone), maxGone*len(members))] {
		all = append(all, Member{Addr: k.addr, gone: true})
	}
	slices.SortFunc(all, func(a, b Member) int { return a.Addr.Compare(b.Addr) })
	return all
}

// meet notes for how long a member has been gone.
func (k *known) meet(m *Member, elapsed float64) {
	if m.gone {
		k.gone += elapsed
	} else {
		k.gone = 0
	}
}

// before returns what was known of a member. Of a new one nothing is.
func (s *State) before(m *Member) known {
	if k := s.find(m.Addr); k != nil {
		return *k
	}
	return known{addr: m.Addr, factor: 1, percent: 100}
}

// hear takes a report into account. The last valid one counts for a while.
func (k *known) hear(m *Member, limits Limits) {
	k.silent = m.Report.Kind == Nothing || m.Age > Patience*limits.Interval
	if !k.silent {
		k.kind, k.value = m.Report.Kind, m.Report.Value
	}
}

// progress returns the part of its way that an exponential approach goes in some time constants.
func progress(times float64) float64 { return 1 - math.Exp(-times) }

// group is members that share the traffic of an RRset.
type group []part

// part is a member of a group, its weight without the factor, and how much of that it has now.
type part struct {
	*known
	weight, ramp float64
}

// carry updates the share of the traffic that each member has in each view. Caches keep answers, so
// traffic follows the weights late. Without this, the controller would correct again and again what
// it has corrected already, until the traffic follows: that makes a loop oscillate.
func (g group) carry(first bool, elapsed float64) {
	sum := 0.0
	for _, p := range g {
		sum += p.weight * p.ramp * p.factor
	}
	for _, p := range g {
		share := 0.0
		if p.weight > 0 {
			share = p.ramp * p.factor / sum // for a weight of 1, as is the capacity
		}
		for i, lag := range lags {
			v := &p.views[i]
			if first {
				v.sent, v.carried = share, share
			}
			v.sent += (share - v.sent) * progress(elapsed/lag)
			v.carried += (v.sent - v.carried) * progress(elapsed/lag)
		}
	}
}

// capacity returns how much traffic a member can take that is so busy: in each view the share that
// it has, divided by that. What a member can take does not depend on its weight, so the views in
// which it stays the same count most.
func (k *known) capacity(busy, elapsed float64) float64 {
	sum, all := 0.0, 0.0
	for i := range k.views {
		v := &k.views[i]
		found := math.Log(max(v.carried, smallest) / busy)
		if !k.measured {
			v.usual = found
		}
		off := found - v.usual
		v.usual += off * progress(elapsed/memory)
		v.wrong += (off*off - v.wrong) * progress(elapsed/memory)
		counts := 1 / ((v.wrong + doubt) * (v.wrong + doubt))
		sum, all = sum+counts*found, all+counts
	}
	k.measured = true
	return math.Exp(sum / all)
}

const smallest = 1e-6 // a share of traffic, in place of none

// steer moves every factor towards its aim. That of a member without traffic stays, because its
// reports say nothing of what it could take.
func (g group) steer(elapsed, floor float64) {
	capacity, total := g.capacities(elapsed), g.total()
	up, down := math.Pow(1+most, elapsed), math.Pow(1-most, elapsed)
	factors := make([]float64, len(g))
	for i, p := range g {
		aim := capacity[i]
		switch {
		case p.weight == 0:
			aim = p.factor
		case p.silent:
			aim = min(p.factor, total.meanWithout(p))
		}
		step := math.Pow(max(aim, floor)/p.factor, progress(approach[p.kind]*elapsed))
		factors[i] = min(max(p.factor*min(max(step, down), up), floor), 1)
	}
	for i, p := range g {
		p.factor = factors[i]
		p.round()
	}
}

// capacities returns how much traffic each member that reports can take, divided by the largest of
// its kind: the share that it asks for, or what follows from how busy it is.
func (g group) capacities(elapsed float64) []float64 {
	all := make([]float64, len(g))
	var largest [kinds]float64
	for i, p := range g {
		if p.silent || p.weight == 0 {
			continue
		}
		all[i] = p.value
		if p.kind == Utilisation {
			all[i] = p.capacity(p.value+slack*p.ramp, elapsed) // a ramp divides both alike
		}
		largest[p.kind] = max(largest[p.kind], all[i])
	}
	for i, p := range g {
		if top := largest[p.kind]; top > 0 {
			all[i] /= top
		} else {
			all[i] = 1 // all ask for nothing
		}
	}
	return all
}

// total is the sum of the factors of members that get traffic.
type total struct{ sum, count float64 }

func (g group) total() (t total) {
	for _, p := range g {
		if p.weight > 0 {
			t.sum, t.count = t.sum+p.factor, t.count+1
		}
	}
	return t
}

// meanWithout returns the mean factor of all but one of these members, 1 if there is no other.
func (t total) meanWithout(p part) float64 {
	if t.count == 1 {
		return 1
	}
	return (t.sum - p.factor) / (t.count - 1)
}

// round takes the factor into force if it differs enough from the one in force, or if the member
// gets its whole weight again.
func (k *known) round() {
	percent := math.Round(100 * k.factor)
	if change := math.Abs(percent - float64(k.percent)); percent == 100 || change >= 1 && change >= threshold*float64(k.percent) {
		k.percent = uint8(percent)
	}
}

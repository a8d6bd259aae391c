// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/schedule"
)

// How "prefer locality spill" counts clients.
const (
	spillInterval = 10 * time.Second // from one look at the counts to the next
	spillHalfLife = time.Minute      // after which an answer counts half
	spillAnswers  = 100              // counted answers below which nothing spills: too few to go by
	spillStep     = 0.01             // of the answers: portions that differ by less stay as they are
)

// spillway decides, answer by answer, which locality's members lead for the clients of an RRset.
// Safe for concurrent use.
type spillway struct {
	now    atomic.Pointer[spillTable]
	others atomic.Pointer[[]locality.Share] // answers that the other replicas of the fleet counted; nil: none
}

// spillSource is what a spillway counts, and the fleet that counts the same. Immutable.
type spillSource struct {
	hub  *fleet.Fleet // nil: this replica is by itself
	zone string       // of the rule

	// The RRset, the section that it is in, and the prefer line of its clients.
	owner   string
	rrtype  uint16
	section uint8
	line    int8
}

// topic identifies in all replicas what is counted.
func (f *spillSource) topic() uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "spill %s %s %d %d %d", f.zone, f.owner, f.section, f.rrtype, f.line)
	return h.Sum64()
}

// spillTable holds the decisions of a spillway for about spillInterval. Immutable except for the
// counts of its lanes.
type spillTable struct {
	made    time.Time
	weights []localWeight
	lanes   []spillLane // one for each locality of clients, sorted
}

// localWeight is the weight of a locality's members that can answer.
type localWeight struct {
	place  locality.Locality
	weight uint32
}

// spillLane is the answers to the clients of one locality. Immutable except for its counts.
type spillLane struct {
	place  locality.Locality
	counts *spillCounts      // those of all tables
	seen   uint64            // answers when the table was made
	recent float64           // of them, decayed
	places []locality.Lead   // whose members lead; one: all answers stay
	order  schedule.Schedule // of places; nil for one
}

// spillCounts are what one lane counts. Safe for concurrent use.
type spillCounts struct{ answers, turn atomic.Uint64 }

// lead counts an answer to a client, and returns the locality whose members lead it.
func (s *spillway) lead(client locality.Locality, weights []localWeight, now time.Time, from *spillSource) locality.Locality {
	table := s.tableFor(client, weights, now, from)
	lane := table.lane(client)
	lane.counts.answers.Add(1)
	return lane.at(lane.counts.turn.Add(1) - 1)
}

// next returns what lead would return, and counts nothing.
func (s *spillway) next(client locality.Locality) locality.Locality {
	if table := s.now.Load(); table != nil {
		if lane := table.lane(client); lane != nil {
			return lane.at(lane.counts.turn.Load())
		}
	}
	return client
}

// at returns the locality whose members lead at a turn.
func (l *spillLane) at(turn uint64) locality.Locality {
	if l.order == nil {
		return l.places[0].Locality
	}
	var first [1]uint16
	l.order.Order(turn, first[:])
	return l.places[first[0]].Locality
}

// lane returns the lane of a locality, nil if there is none.
func (t *spillTable) lane(client locality.Locality) *spillLane {
	at, found := slices.BinarySearchFunc(t.lanes, client, func(l spillLane, client locality.Locality) int { return cmp.Compare(l.place, client) })
	if !found {
		return nil
	}
	return &t.lanes[at]
}

// tableFor returns a table that has a lane for a client's locality and goes by the weights: the one
// in use, or a new one if that is old.
func (s *spillway) tableFor(client locality.Locality, weights []localWeight, now time.Time, from *spillSource) *spillTable {
	for {
		table := s.now.Load()
		if table != nil && table.lane(client) != nil && now.Sub(table.made) < spillInterval && slices.Equal(table.weights, weights) {
			return table
		}
		next := table.successor(client, weights, now, s.others.Load())
		if s.now.CompareAndSwap(table, next) {
			if from.hub != nil {
				go s.exchange(next, from.hub, from.topic()) // it may wait, and a query may not
			}
			return next
		}
	}
}

// exchange tells the fleet what a table counted, and takes what the others did for the next table.
func (s *spillway) exchange(t *spillTable, hub *fleet.Fleet, topic uint64) {
	var own []fleet.Count
	for i := range t.lanes {
		if l := &t.lanes[i]; l.place.Known() {
			own = append(own, fleet.Count{Name: l.place.String(), Value: uint64(l.recent)})
		}
	}
	hub.SetCounts(topic, own)
	var others []locality.Share
	for name, answers := range hub.OtherCounts(topic) {
		if place := locality.Find(name); place.Known() {
			others = append(others, locality.Share{Locality: place, Answers: float64(answers)})
		}
	}
	s.others.Store(&others)
}

// successor returns the table that follows, which may be nil: with the answers counted since, the
// weights as they are, and a lane for a client's locality. others are the answers of other
// replicas.
func (t *spillTable) successor(client locality.Locality, weights []localWeight, now time.Time, others *[]locality.Share) *spillTable {
	next := &spillTable{made: now, weights: slices.Clone(weights)}
	if t != nil {
		decay := math.Exp2(-float64(now.Sub(t.made)) / float64(spillHalfLife))
		for i := range t.lanes {
			next.lanes = append(next.lanes, t.lanes[i].counted(decay))
		}
	}
	if next.lane(client) == nil {
		next.lanes = append(next.lanes, spillLane{place: client, counts: new(spillCounts)})
		slices.SortFunc(next.lanes, func(a, b spillLane) int { return cmp.Compare(a.place, b.place) })
	}
	shares := next.shares(others)
	for i := range next.lanes {
		next.lanes[i].decide(shares)
	}
	return next
}

// counted returns the lane for the next table, with the answers counted since.
func (l *spillLane) counted(decay float64) spillLane {
	next := *l
	next.seen = l.counts.answers.Load()
	next.recent = l.recent*decay + float64(next.seen-l.seen)
	return next
}

// shares returns the part of every locality, nil if too few answers are counted.
func (t *spillTable) shares(others *[]locality.Share) (shares []locality.Share) {
	all := 0.0
	add := func(place locality.Locality, answers, weight float64) {
		at := slices.IndexFunc(shares, func(s locality.Share) bool { return s.Locality == place })
		if at < 0 {
			at, shares = len(shares), append(shares, locality.Share{Locality: place})
		}
		shares[at].Answers += answers
		shares[at].Weight += weight
		all += answers
	}
	for i := range t.lanes {
		add(t.lanes[i].place, t.lanes[i].recent, 0)
	}
	if others != nil {
		for _, other := range *others {
			add(other.Locality, other.Answers, 0)
		}
	}
	for _, w := range t.weights {
		add(w.place, 0, float64(w.weight))
	}
	if all < spillAnswers {
		return nil
	}
	return shares
}

// decide sets whose members lead. The order stays if it is nearly the same, so that its turns go
// on.
func (l *spillLane) decide(shares []locality.Share) {
	leads := locality.Leads(l.place, shares)
	if slices.EqualFunc(l.places, leads, func(a, b locality.Lead) bool {
		return a.Locality == b.Locality && math.Abs(a.Portion-b.Portion) < spillStep
	}) {
		return
	}
	l.places, l.order = leads, nil
	if len(leads) > 1 {
		weights := make([]uint16, len(leads))
		for i, lead := range leads {
			weights[i] = uint16(max(1, math.Round(lead.Portion/(spillStep/10)))) //nolint:gosec // at most 1000
		}
		l.order = schedule.Weighted(weights, 1)
	}
}

// weightsByPlace returns the weight of the members that can answer, by locality.
func weightsByPlace(standings []standing, answering []uint16) (weights []localWeight) {
	for _, m := range answering {
		s := standings[m]
		at := slices.IndexFunc(weights, func(w localWeight) bool { return w.place == s.place })
		if at < 0 {
			at = len(weights)
			weights = append(weights, localWeight{place: s.place})
		}
		weights[at].weight += uint32(s.share())
	}
	slices.SortFunc(weights, func(a, b localWeight) int { return cmp.Compare(a.place, b.place) })
	return weights
}

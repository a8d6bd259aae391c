// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/schedule"
)

// The times of the model.
const (
	interval = 5 * time.Second // between reports, and between looks of the controller
	caches   = 2000            // resolvers, each with as many clients behind it
	fraction = 5               // of an interval: the time that the model goes at once
)

// scenario is what is simulated.
type scenario struct {
	name   string
	powers []float64 // of the members: what each can take
	demand float64   // mean utilisation if all were used equally
	ttl    time.Duration
	late   int            // TTLs from a change of traffic to the report that says so
	says   map[int]speech // members that do not say what is true
	agent  bool           // reports are agents' percentages: what of the processor is idle
	noise  float64        // each report is wrong by up to this part
	static bool           // load_weights is off
	floor  float64        // 0: a tenth
	ttls   int            // how long it lasts
	surge  int            // after so many TTLs the demand is half as much again; 0: never
	equal  int            // for so many TTLs all members can take as much as the first
}

// speech is what a member says instead of its utilisation, at a time; not ok: nothing.
type speech func(actual float64, now time.Duration) (said float64, ok bool)

// sample is the state at the end of an interval.
type sample struct {
	at          float64 // in TTLs
	share       []float64
	utilisation []float64 // what the traffic asks for: above 1 more than the member can take
	factor      []float64
}

// world is a simulation that runs.
type world struct {
	scenario
	random  *rand.Rand
	state   *load.State
	weights []uint16
	order   schedule.Schedule
	turn    uint64
	caches  []cache
	past    [][]float64 // utilisations, one an interval
	last    []load.Report
	heard   []time.Duration // when a member last said something
}

// cache is a resolver's answer: the member that leads it, until it expires.
type cache struct {
	member  uint16
	expires time.Duration
}

// run simulates a scenario. The same scenario always runs the same.
func (s scenario) run() (samples []sample) {
	n := len(s.powers)
	w := &world{
		scenario: s, random: rand.New(rand.NewPCG(1, 2)), weights: make([]uint16, n), //nolint:gosec // no secret
		caches: make([]cache, caches), last: make([]load.Report, n), heard: make([]time.Duration, n),
	}
	for i := range w.weights {
		w.weights[i] = 100
	}
	w.order = schedule.Weighted(w.weights, n)
	for i := range w.caches { // as if it had run with static weights before
		w.caches[i] = cache{uint16(i % n), time.Duration(w.random.Int64N(int64(s.ttl)))}
	}
	for now := interval; now <= time.Duration(s.ttls)*s.ttl; now += interval {
		samples = append(samples, w.step(now))
	}
	return samples
}

// step goes on by an interval, to a time.
func (w *world) step(now time.Duration) sample {
	shares := w.traffic(now - interval)
	w.past = append(w.past, w.utilisations(shares, now))
	if !w.static {
		w.steer(now)
	}
	factors := make([]float64, len(w.weights))
	for i, weight := range w.weights {
		factors[i] = float64(weight) / 100
	}
	return sample{now.Seconds() / w.ttl.Seconds(), shares, w.past[len(w.past)-1], factors}
}

// traffic returns the members' shares of the traffic in the interval that begins at a time.
func (w *world) traffic(begin time.Duration) []float64 {
	shares := make([]float64, len(w.weights))
	order := make([]uint16, len(w.weights))
	for i := range fraction {
		now := begin + interval*time.Duration(i)/fraction
		for j := range w.caches {
			c := &w.caches[j]
			if c.expires <= now {
				w.order.Order(w.turn, order)
				w.turn++
				*c = cache{order[0], now + w.ttl}
			}
			shares[c.member] += 1.0 / caches / fraction
		}
	}
	return shares
}

// utilisations returns how busy traffic makes the members.
func (w *world) utilisations(shares []float64, now time.Duration) []float64 {
	demand := w.demand
	if w.surge > 0 && now > time.Duration(w.surge)*w.ttl {
		demand *= 1.5
	}
	powers := w.powers
	if now <= time.Duration(w.equal)*w.ttl {
		powers = slices.Repeat(w.powers[:1], len(w.powers))
	}
	sum := 0.0
	for _, power := range powers {
		sum += power
	}
	all := make([]float64, len(shares))
	for i, share := range shares {
		all[i] = demand * share * sum / powers[i]
	}
	return all
}

// steer has the controller look at what the members say, and takes new weights into force.
func (w *world) steer(now time.Duration) {
	limits := load.Limits{Floor: w.floor, TTL: w.ttl, Interval: interval}
	if limits.Floor == 0 {
		limits.Floor = 0.1
	}
	members := make([]load.Member, len(w.weights))
	for i := range members {
		members[i] = load.Member{Addr: addrOf(i), Weight: 1, Report: w.report(i, now), Age: now - w.heard[i]}
	}
	w.state = w.state.Next(time.Unix(0, 0).Add(now), members, limits)
	weights := make([]uint16, len(members))
	for i := range weights {
		weights[i] = uint16(w.state.Percent(addrOf(i)))
	}
	if slices.Equal(weights, w.weights) {
		return
	}
	order := schedule.Weighted(weights, len(weights))
	w.turn = order.Resume(w.order, w.turn, func(i int) (int, bool) { return i, true })
	w.order, w.weights = order, weights
}

// report returns the last report of a member.
func (w *world) report(member int, now time.Duration) load.Report {
	at := max(len(w.past)-1-w.late*int(w.ttl/interval), 0)
	value, ok := min(w.past[at][member], 1), true // nothing is more than busy
	value *= 1 + w.noise*(2*w.random.Float64()-1)
	kind := load.Utilisation
	if w.agent {
		kind, value = load.Share, max(1-value, 0.01)
	}
	if speak := w.says[member]; speak != nil {
		value, ok = speak(value, now)
	}
	if ok {
		w.last[member], w.heard[member] = load.Report{Kind: kind, Value: value}, now
	}
	return w.last[member]
}

func addrOf(member int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(member)}) }

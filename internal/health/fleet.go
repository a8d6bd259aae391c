// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// A pool's part in a fleet. A pool without a fleet has no share, which costs it a nil check. In a
// fleet
//
//   - the pool probes only the endpoints that it is assigned to: the others are not in its timers;
//   - the verdict of a tracker is a vote, and queries see the fleet's verdict;
//   - endpoints that other replicas named are members of a scope of their own, the guests.

// fleetHost is a pool as its share sees it.
type fleetHost struct{ *pool }

var _ fleet.Host = fleetHost{}

// joinFleet lets a new pool take part in its fleet, if it has one.
func (p *pool) joinFleet() {
	if p.check.Fleet == nil {
		return
	}
	p.wakeShare, p.loads = make(chan struct{}, 1), make(map[uint32]Load)
	p.share = p.check.Fleet.Join(p.check.shared(), fleetHost{p})
}

// leaveFleet ends the pool's part. The last verdicts stay.
func (p *pool) leaveFleet() {
	if p.share != nil {
		p.share.Leave()
	}
}

// shared returns what identifies the check in all replicas of a fleet. The source address, what may
// be probed and how many at once may differ from replica to replica. The text that the ID is a hash
// of stays as it is from release to release: otherwise a rolling upgrade would split the fleet.
func (c *Check) shared() fleet.Check {
	key := c.Key()
	if before, after, found := strings.Cut(key, " source="); found {
		_, after, _ = strings.Cut(after, " ")
		key = before + " " + after
	}
	t := &c.Timing
	text := fmt.Sprintf("%s interval=%v timeout=%v fast_interval=%v max_interval=%v rise=%d fall=%d half_life=%v hold=%t",
		key, t.Interval, t.Timeout, t.FastInterval, t.MaxInterval, t.Rise, t.Fall, c.HalfLife, c.holds())
	return fleet.Check{ID: fleet.IDOf(text), Name: c.Name(), Interval: t.Interval, Timeout: t.Timeout}
}

// FleetID returns what identifies the check in all replicas of a fleet.
func (c *Check) FleetID() fleet.CheckID { return c.shared().ID }

// DiffersInFleet returns the option that keeps two checks with the same FleetID from sharing their
// probes, "" if there is none. One process cannot have both in a fleet, because each endpoint has
// one vote of a replica.
func (c *Check) DiffersInFleet(other *Check) (option string) {
	switch {
	case c.MaxEndpoints != other.MaxEndpoints:
		return "max_endpoints"
	case c.MaxInFlight != other.MaxInFlight:
		return "max_in_flight"
	case c.Key() != other.Key():
		return "source"
	}
	return ""
}

// Wake implements fleet.Host.
func (h fleetHost) Wake() {
	select {
	case h.wakeShare <- struct{}{}:
	default:
	}
}

// Run implements fleet.Host.
func (h fleetHost) Run(call func()) bool {
	finished := make(chan struct{})
	select {
	case h.calls <- func() { call(); close(finished) }:
		<-finished
		return true
	case <-h.ended:
		return false
	}
}

// Now implements fleet.Host.
func (h fleetHost) Now() time.Duration { return h.now() }

// Find implements fleet.Host.
func (h fleetHost) Find(at netip.AddrPort) (uint32, bool) {
	if e := h.table.find(at); e != nil {
		return e.number, true
	}
	return 0, false
}

// At implements fleet.Host.
func (h fleetHost) At(n uint32) netip.AddrPort { return h.table.numbered(n).at }

// Probe implements fleet.Host.
func (h fleetHost) Probe(n uint32, on bool) {
	e := h.table.numbered(n)
	delete(h.loads, n)
	if e.assigned = on; !on {
		h.markFailing(e, e.status.Load().verdict == Down, nil)
		h.rest(e)
		return
	}
	h.inheritLoad(e)
	known := e.status.Load().verdict
	e.tracker, e.doubt, e.speed = tracker{verdict: known}, doubt{}, prompt
	if e.heap != notThere || e.place != nil {
		return
	}
	e.next = h.now()
	if known == Unknown {
		e.next += time.Duration(h.fresh%1000) * time.Millisecond
		h.fresh++
	} else {
		e.next += rand.N(h.check.Timing.Interval) //nolint:gosec // no secret
	}
	h.timers.add(e)
}

// rest ends the probes of an endpoint. The result of one that is in flight will not count.
func (p *pool) rest(e *endpoint) {
	if e.heap >= 0 {
		p.timers.remove(e)
	}
	if e.place != nil {
		e.line.remove(e)
	}
	p.letGo(e)
}

// Decide implements fleet.Host.
func (h fleetHost) Decide(n uint32, d fleet.Decision) {
	e := h.table.numbered(n)
	verdict, advice := verdictOf(d.Opinion), adviceFrom(d, e.status.Load().said())
	if verdict == Down && d.Text == "" {
		d.Text = "other replicas say so"
	}
	if !e.assigned {
		h.markFailing(e, verdict == Down, errors.New(d.Text))
	}
	if advice.NoSay {
		h.silence(e, d.Text)
		return
	}
	if verdict != e.status.Load().verdict {
		now := h.statusOf(e, verdict, d.Text, time.Now().Add(-d.Age))
		now.remember(d.Memory, h.check.HalfLife > 0)
		h.publish(e, now)
	}
	h.decideLoad(e, d.Opinion)
	h.advise(e, advice)
}

// Past implements fleet.Host.
func (h fleetHost) Past(n uint32) fleet.Past {
	known := h.table.numbered(n).status.Load()
	text := known.problem
	if text == "" {
		text = known.said().Reason
	}
	return fleet.Past{Age: time.Since(known.since), Text: text, Memory: known.memory()}
}

// memory returns what is remembered about flaps, as it travels to replicas that join: the penalty
// as the bits of a float, and flags. It is nil if there is nothing.
func (s *status) memory() []byte {
	if s.damping == (damping{}) && !s.cameUp {
		return nil
	}
	flags := byte(one(s.damping.suppressed) | one(s.damping.charges)<<1 | one(s.cameUp)<<2)
	return append(binary.BigEndian.AppendUint32(nil, math.Float32bits(s.damping.penalty)), flags)
}

// remember takes over what another replica remembers about flaps.
func (s *status) remember(memory []byte, damps bool) {
	if len(memory) < 5 {
		return
	}
	penalty, flags := math.Float32frombits(binary.BigEndian.Uint32(memory)), memory[4]
	s.cameUp = flags&4 != 0
	if damps && penalty >= 0 && penalty <= maxPenalty {
		s.damping = damping{penalty: penalty, suppressed: flags&1 != 0, charges: flags&2 != 0}
	}
}

// verdictOf returns the verdict in an opinion.
func verdictOf(o fleet.Opinion) Verdict {
	switch o.Verdict {
	case fleet.Up:
		return Up
	case fleet.Down:
		return Down
	}
	return Unknown
}

// adviceFrom returns the advice in a decision. If a decision has no new reason and does not change
// whether the endpoint drains, the reason stays as it was.
func adviceFrom(d fleet.Decision, before Advice) Advice {
	a := Advice{Drain: d.Drain, NoSay: d.Verdict == fleet.NoSay}
	switch {
	case d.Verdict == fleet.Up && d.Text != "":
		a.Reason = d.Text
	case d.Drain == before.Drain:
		a.Reason = before.Reason
	}
	return a
}

// opinionOf returns a verdict and the endpoint's advice as an opinion.
func opinionOf(v Verdict, a Advice) fleet.Opinion {
	o := fleet.Opinion{Drain: a.Drain}
	switch v {
	case Up:
		o.Verdict = fleet.Up
	case Down:
		o.Verdict = fleet.Down
	}
	if a.NoSay {
		o.Verdict = fleet.NoSay
	}
	return o
}

// vote votes with what is known about an endpoint after a probe. While the tracker is in doubt it
// does not vote: the tracker's verdict may be one that another replica found.
func (p *pool) vote(e *endpoint, r *probe.Report, err error) {
	if e.tracker.inDoubt() {
		return
	}
	text := r.Reason
	if err != nil {
		text = err.Error()
	}
	o := opinionOf(e.tracker.verdict, adviceOf(*r))
	o.Load, o.Share = p.loadVote(e)
	o.BadLoad = p.loads[e.number].Problem != "" && p.goesByLoad()
	p.share.Vote(e.number, o, text)
}

// shareNew adds to the share an endpoint that an answer here held first.
func (p *pool) shareNew(e *endpoint) {
	if p.share != nil {
		p.share.Add(e.number, true, fleet.Opinion{})
	}
}

// shareRestored adds to the share an endpoint that another pool of this process knew.
func (p *pool) shareRestored(e *endpoint) {
	if p.share != nil && !p.share.Has(e.number) {
		known := e.status.Load()
		p.share.Add(e.number, !p.unseen(e), opinionOf(known.verdict, known.said()))
	}
}

// want tells the share that an answer holds an endpoint.
func (p *pool) want(e *endpoint) {
	if p.share != nil {
		p.share.SetWanted(e.number, true)
	}
}

// nextShare returns when the share next has something to do, or its argument without a fleet.
func (p *pool) nextShare(otherwise time.Duration) time.Duration {
	if p.share == nil {
		return otherwise
	}
	return p.shareAt
}

// phase returns the endpoint's offset in an interval, in the pool's time. In a fleet the replicas
// that are assigned to the endpoint probe it at equal distances: of three, two have noticed a death
// after two thirds of an interval. Their wall clocks say when an interval begins. If the clocks
// differ, the offsets are random.
func (p *pool) phase(e *endpoint, interval time.Duration) time.Duration {
	phase := e.phase(interval)
	if p.share == nil {
		return phase
	}
	place, of := p.share.Place(e.number)
	phase += interval*time.Duration(place)/time.Duration(of) - time.Duration(p.base.UnixNano()%int64(interval))
	return (phase%interval + interval) % interval
}

// probes reports whether this replica probes an endpoint.
func (p *pool) probes(e *endpoint) bool { return p.share == nil || e.assigned }

// isWanted reports whether answers hold an endpoint, here or in another replica.
func (p *pool) isWanted(e *endpoint) bool {
	return !p.unseen(e) || p.share != nil && p.share.WantedElsewhere(e.number)
}

// workShare lets the share do what is due.
func (p *pool) workShare() {
	if p.share == nil {
		return
	}
	now := p.now()
	if len(p.scopes) == 0 {
		p.shareAt = now + time.Second // the first rule is about to subscribe
		return
	}
	if now >= p.reviewAt {
		p.reviewAt = now + time.Second
		p.review(now)
		p.reviewGuests(now)
	}
	p.shareAt = p.share.Work()
	p.fresh = 0
}

// review withdraws the votes on endpoints whose probes are overdue, or cannot be made, and tells
// the share whether most probes prove nothing because of this host.
func (p *pool) review(now time.Duration) {
	proofless, assigned := 0, 0
	grace := p.check.Timing.Interval + p.check.Timing.Timeout
	for n := range p.table.used {
		e := p.table.numbered(n)
		if e == nil || !e.assigned {
			continue
		}
		overdue := now > e.next+grace || int(e.doubt.local) >= p.check.Timing.Fall
		if overdue {
			p.share.Vote(n, fleet.Opinion{}, "")
		}
		assigned++
		proofless += one(overdue || e.doubt.local > 0 || e.doubt.overloaded > 0)
	}
	p.share.Overloaded(proofless > 1 && 2*proofless > assigned)
}

// reviewWants tells the share which endpoints are in answers here, and forgets those that no
// replica wants and that wait for no probe.
func (p *pool) reviewWants() {
	if p.share == nil {
		return
	}
	for n := range p.table.used {
		e := p.table.numbered(n)
		if e == nil {
			continue
		}
		p.share.SetWanted(n, !p.unseen(e) && p.scopes.smallestWith(e) != nil)
		if idle := e.place == nil && e.heap != beingProbed; idle && (!p.isWanted(e) || p.scopes.smallestWith(e) == nil) {
			p.rest(e)
			p.forget(e)
		}
	}
}

// votes returns who voted what, for the log.
func (p *pool) votes(e *endpoint) string {
	if p.share == nil {
		return ""
	}
	if text := p.share.Ballot(e.number); text != "" {
		return "; by " + text
	}
	return "; taken over from another replica"
}

// Voters returns what each replica of the fleet says about an endpoint, nil without a fleet. It
// waits for the pool, so it is for people. It does not register the endpoint for probing.
func (s *Subscription) Voters(at netip.AddrPort) []fleet.Voter {
	if s.pool.share == nil {
		return nil
	}
	return s.pool.share.Voters(s.targetOf(at).at)
}

// Fleet returns the fleet that shares the check, nil for none.
func (s *Subscription) Fleet() *fleet.Fleet { return s.pool.check.Fleet }

// Tally returns the count of the votes on an endpoint: a snapshot for scrapes, without a lock. It
// reports false without a fleet, or if the endpoint is not known.
func (s *Subscription) Tally(at netip.AddrPort) (fleet.Summary, bool) {
	e := s.targetOf(at).known
	if e == nil || s.pool.share == nil {
		return 0, false
	}
	return s.pool.share.Summary(e.number), true
}

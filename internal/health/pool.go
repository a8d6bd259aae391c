// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// pool probes the endpoints of a check. There is one for a check in the process, whichever rules
// have it. Everything but the table, which queries read, is owned by the goroutine that runs it.
type pool struct {
	check *Check
	log   Logger
	base  time.Time // times are counted from it
	table
	calls chan func() // carried out between probes, for those who do not own what they want

	queue    queue // endpoints, by the time they are due
	urgent   queue // those that were hinted to be dead
	turn     bool  // of the urgent ones, where both have some that are due
	due      chan assignment
	results  chan result
	workers  int
	inFlight int
	limiter  limiter

	suspicion suspicion
	faultLog  time.Duration // when a fault of ours may be logged again
	lagged    time.Duration // when a probe last began so late that a timeout says nothing; 0: never
	renewal   time.Duration
	lines     lines         // nil without the option hold, or where they could not be opened
	dialAgain time.Duration // when a connection to hold may be opened again
	holdLog   time.Duration // when it may be logged again that none could be
	affected  uint64        // bits of the subscribers to tell of new verdicts

	subscribers subscribers
}

// assignment is a probe that a worker is to make.
type assignment struct {
	endpoint *endpoint
	at       time.Duration // when it was handed out, as the pool counts time
}

// result is what became of a probe.
type result struct {
	endpoint *endpoint
	lag      time.Duration // from when it was handed out to its start
	start    time.Duration
	took     time.Duration
	err      error
}

func newPool(c *Check, log Logger) *pool {
	return &pool{
		check:   c,
		log:     log,
		base:    time.Now(),
		table:   table{limit: c.MaxEndpoints, wake: make(chan struct{}, 1)},
		calls:   make(chan func()),
		due:     make(chan assignment, c.MaxInFlight),
		results: make(chan result, c.MaxInFlight),
		limiter: limiter{window: c.MaxInFlight, most: c.MaxInFlight},
	}
}

// now returns the time since the pool was made.
func (p *pool) now() time.Duration { return time.Since(p.base) }

// run probes until ctx is done, and returns when no probe is in flight any more.
func (p *pool) run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(p.due)
	defer p.openLines()()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.wake:
			p.admit()
		case call := <-p.calls:
			call()
		case r := <-p.results:
			p.settle(r)
			p.settleMore()
		}
		p.renew()
		p.dispatch(func() { workers.Go(func() { p.work(ctx) }) })
		timer.Reset(p.idle())
	}
}

// idle returns how long nothing is due.
func (p *pool) idle() time.Duration {
	until, now := p.renewal, p.now()
	if p.suspicion.due {
		until = min(until, p.nextLook())
	}
	full, moment := p.limiter.full(p.inFlight)
	switch {
	case moment:
		until = min(until, now+time.Millisecond)
	case !full:
		until = min(until, p.queue.nextDue(until), p.urgent.nextDue(until))
	}
	return max(0, until-now)
}

// admit takes new addresses in. Each is probed at once; many are spread over a second.
func (p *pool) admit() {
	fresh, joined := p.table.admit(p.now())
	p.affected |= joined
	step := time.Second / time.Duration(max(len(fresh), 1000))
	for i, e := range fresh {
		e.next = p.now() + time.Duration(i)*step
		p.queue.add(e)
	}
}

// dispatch starts the probes that are due, as many as may be in flight.
func (p *pool) dispatch(newWorker func()) {
	now := p.now()
	for {
		if full, _ := p.limiter.full(p.inFlight); full {
			return
		}
		q := p.chooseDue(now)
		if q == nil {
			return
		}
		e := q.pop()
		if p.unseen(e) {
			p.letGo(e)
			p.remove(e)
			continue
		}
		p.inFlight++
		if p.inFlight > p.workers {
			p.workers++
			newWorker()
		}
		p.limiter.waiting.Add(1)
		p.due <- assignment{e, p.now()} // has room for as many as may be in flight
	}
}

// chooseDue returns the queue whose first endpoint is due: the two in turn, so that neither those that were
// hinted to be dead, nor those that wait where more is due than we can do, wait for all of the others.
// nil: none is due.
func (p *pool) chooseDue(now time.Duration) *queue {
	normal, urgent := p.queue.nextDue(now+1) <= now, p.urgent.nextDue(now+1) <= now
	switch {
	case !normal && !urgent:
		return nil
	case normal && urgent:
		p.turn = !p.turn
		urgent = p.turn
	}
	if urgent {
		return &p.urgent
	}
	return &p.queue
}

// await puts an endpoint into the queue that is for it. Its next probe is not due while the last one was in
// flight: a timeout may be longer than the pause.
func (p *pool) await(e *endpoint) {
	e.next = max(e.next, p.now())
	if e.hinted() {
		p.urgent.add(e)
		return
	}
	p.queue.add(e)
}

// work probes what is due until there will be no more.
func (p *pool) work(ctx context.Context) {
	probeContext := newProbeContext(ctx)
	defer probeContext.close()
	for a := range p.due {
		r := p.probe(probeContext, a)
		select {
		case p.results <- r:
		case <-ctx.Done():
			return
		}
	}
}

// probe asks an endpoint once.
func (p *pool) probe(l *probeContext, a assignment) result {
	p.limiter.waiting.Add(-1)
	ctx := l.begin(p.check.Timing.Timeout)
	defer l.pause()
	start := p.now()
	err := p.ask(ctx, a.endpoint.at)
	return result{a.endpoint, start - a.at, start, p.now() - start, err}
}

// ask is Probe, but for a prober that panics over what an endpoint says: that is our fault, and no reason for
// the server to end. The server does the same for a client's query.
func (p *pool) ask(ctx context.Context, endpoint netip.AddrPort) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the prober panicked: %s", probe.ErrLocal, brief(fmt.Sprint(r)))
		}
	}()
	return p.check.Probe(ctx, endpoint)
}

// brief makes a text that others wrote fit for a line of the log: printable and short.
func brief(text string) string {
	const longest = 1 << 10
	quoted := strconv.Quote(text[:min(len(text), longest)])
	return quoted[1 : len(quoted)-1]
}

// settleMore settles the results that wait, so that many need one look at the queue.
func (p *pool) settleMore() {
	for {
		select {
		case r := <-p.results:
			p.settle(r)
		default:
			return
		}
	}
}

// settle takes a result in.
func (p *pool) settle(r result) {
	p.inFlight--
	p.limiter.after(r.lag, p.now())
	e := r.endpoint
	timing := &p.check.Timing
	if r.start-e.next > timing.Interval/10 { // more than the jitter
		p.subscribers.eachScope(e.zones.Load(), func(s *Subscription) { s.late.Inc() })
	}
	busy := p.wasBusy(r)
	if p.dismiss(e, r, busy) {
		p.await(e)
		return
	}
	e.faults = 0
	if busy {
		r.err = fmt.Errorf("%w, while this host was busy", r.err)
	} else {
		e.busy = 0
	}
	before := e.tracker
	e.tracker = before.after(r.err == nil, timing.Rise, timing.Fall)
	p.countResult(e, r)
	p.remember(e, r)
	if e.tracker.verdict != before.verdict {
		p.publish(e, r.err)
	}
	e.next = r.start + p.pause(e, r.start)
	p.tend(e, r)
	p.await(e)
}

// dismiss leaves a result out that says nothing of the endpoint, for the fault is ours, and says when to probe again. Where the
// probe could not be made that is as if the endpoint were down for long; where we were busy, as if nothing had been. The
// latter is believed after some in a row: a host that always is busy has to notice deaths too.
func (p *pool) dismiss(e *endpoint, r result, busy bool) (dismissed bool) {
	timing := &p.check.Timing
	switch {
	case errors.Is(r.err, probe.ErrLocal):
		p.letGo(e) // perhaps for a lack of descriptors: here is one
		pause := tracker{verdict: Down, failed: uint16(e.faults)}.pause(timing)
		e.faults = min(e.faults+1, maxFaults)
		e.next = r.start + jitter(pause, pause/10)
	case !busy || e.busy >= maxBusy:
		return false
	default:
		e.faults, e.busy = 0, e.busy+1
		pause := p.pause(e, r.start)
		if e.tracker.verdict == Unknown { // it is served, and nobody is in a hurry
			pause = jitter(timing.Interval, timing.Interval/10)
		}
		e.next = r.start + pause
		p.tend(e, r)
	}
	p.countFault(e, r.err)
	return true
}

// pause returns the time from the start of a probe to that of the next.
func (p *pool) pause(e *endpoint, start time.Duration) time.Duration {
	pause := e.tracker.pause(&p.check.Timing)
	if pause != p.check.Timing.Interval {
		return jitter(pause, pause/10)
	}
	return jitter(align(start, e.phase(pause), pause), pause/25) // at most 1.09 intervals: the rest is for the way to a worker
}

// wasBusy tells whether a probe failed for we were too busy to hear the reply in time. That shows in one that ends long after its
// timeout, and in one, this or another meanwhile, that began late by a good part of the timeout, which it notes.
func (p *pool) wasBusy(r result) bool {
	timeout := p.check.Timing.Timeout
	much := timeout / 4
	if r.lag > much {
		p.lagged = p.now()
	}
	return r.err != nil && (r.took > timeout+max(much, leastLate) || r.took >= timeout && p.lagged > r.start)
}

// countFault counts a fault of ours, and logs one now and then.
func (p *pool) countFault(e *endpoint, err error) {
	p.subscribers.eachScope(e.zones.Load(), func(s *Subscription) { s.faults.Inc() })
	if p.now() >= p.faultLog {
		p.faultLog = p.now() + faultLogInterval
		p.log.Errorf("health_check %s: a probe of %s says nothing, for the fault is on this side: %v", p.check.Name(), e.name(), err)
	}
}

const (
	leastLate        = 50 * time.Millisecond // by which a probe must end after its timeout to say that we were busy
	faultLogInterval = time.Minute           // between two lines about faults of ours
	maxFaults        = 50                    // that count for the pause between probes
	maxBusy          = 3                     // probes of an endpoint in a row, of those made, that we may have been too busy for
)

// publish makes a new verdict known.
func (p *pool) publish(e *endpoint, err error) {
	before := e.status.Load()
	now := &status{verdict: e.tracker.verdict, since: time.Now()}
	if err != nil {
		now.problem = err.Error()
	}
	e.status.Store(now)
	zones := e.zones.Load()
	p.affected |= zones
	p.subscribers.eachScope(zones, func(s *Subscription) { s.transitions[now.verdict].Inc() })
	p.logTransition(e, zones, before, now)
}

// logTransition says which endpoint has a new verdict, why, how long it had the old one, and whether the
// end of its connection was what had it probed.
func (p *pool) logTransition(e *endpoint, bits uint64, before, now *status) {
	zones, name, would := p.subscribers.names(bits), p.check.Name(), p.subscribers.wouldNote(bits, before.verdict, now.verdict)
	was := now.since.Sub(before.since).Round(time.Millisecond)
	if now.verdict == Down {
		noticed := ""
		if e.hinted() {
			noticed = ", noticed by hold"
		}
		p.log.Warningf("%s: endpoint %s %s is down: %s (was %s for %s%s)%s", zones, e.name(), name, now.problem, before.verdict, was, noticed, would)
		return
	}
	reason := ""
	if before.problem != "" {
		reason = ": " + before.problem
	}
	p.log.Infof("%s: endpoint %s %s is %s (was %s for %s%s)%s", zones, e.name(), name, now.verdict, before.verdict, was, reason, would)
}

// countResult counts a probe.
func (p *pool) countResult(e *endpoint, r result) {
	passed := r.err == nil
	p.subscribers.eachScope(e.zones.Load(), func(s *Subscription) { s.count(passed, r.took) })
	if failing := !passed; failing != e.failing.Load() {
		e.failing.Store(failing)
		p.suspicion.due = true
	}
	if !passed {
		p.suspicion.problem = r.err
	}
}

// renew tells the rules of new verdicts. Now and then it tells all, for then they look their
// endpoints up, and what none has looked up for long can be forgotten.
func (p *pool) renew() {
	if p.now() >= p.renewal {
		p.renewal = p.now() + p.forgetAfter()/4
		p.affected = ^uint64(0)
	}
	p.suspectUs()
	if p.affected != 0 {
		p.subscribers.each(p.affected, func(s *Subscription) { s.Changed() })
		p.affected = 0
	}
}

// forgetAfter is how long an endpoint is probed after it was last seen in an answer.
func (p *pool) forgetAfter() time.Duration { return max(10*p.check.Timing.Interval, 10*time.Minute) }

// unseen tells whether an endpoint was in no answer for long, or belongs to no rule any more. Rules
// look their endpoints up a quarter of that time apart.
func (p *pool) unseen(e *endpoint) bool {
	return e.zones.Load() == 0 || p.now()-time.Duration(e.seen.Load()) > p.forgetAfter()*5/4
}

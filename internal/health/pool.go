// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// pool probes the endpoints of a check. All rules of the process that have the check share it. The
// goroutine that runs it owns everything except the table and the members of scopes, which queries
// read.
type pool struct {
	check *Check
	log   Logger
	base  time.Time // all durations below count from it
	end   context.CancelFunc
	ended chan struct{}
	calls chan func() // run by the pool's goroutine, for others that need what it owns

	share      *fleet.Share    // nil without a fleet
	wakeShare  chan struct{}   // receives when the share has something to do
	shareAt    time.Duration   // when the share next has something to do
	reviewAt   time.Duration   // when overdue votes are next withdrawn
	loads      map[uint32]Load // the reports that this replica votes with, by an endpoint's number
	fresh      int             // endpoints without a verdict that this call of the share has assigned
	crowded    bool            // an endpoint of another replica found no room
	askAgainAt time.Duration   // when the others may be asked for it again

	table    table
	scopes   scopes
	outdated scopes // to be told that a verdict has changed
	timers   timers
	backlog  backlog
	history  bool // a subscriber wants the last probes to be remembered

	results    chan result
	workers    []worker // all
	free       []worker // those without a probe; the last one was the last to end a probe
	inFlight   int
	inFlightOf [classes]int
	limiter    limiter

	awareness   awareness
	transitions transitionLog
	localLog    time.Duration // when a local error may be logged again
	loadLog     time.Duration // when a load report that is not valid may be logged again
	renewal     time.Duration // when the rules are next asked to look up their endpoints

	lines     lines         // nil without the option hold, or if they could not be opened
	dialAgain time.Duration // when a connection may be dialled again after a local error
	holdLog   time.Duration // when that may be logged again
}

// assignment is a probe that a worker is to make.
type assignment struct {
	endpoint *endpoint
	scope    *scope        // on whose behalf
	at       time.Duration // when it was handed to a worker
	class    class         // its class at that time
}

// worker is how a probe is handed to the goroutine that makes it.
type worker chan assignment

// result is the result of a probe.
type result struct {
	assignment
	attempt
	by worker
}

func newPool(c *Check, log Logger) *pool {
	return &pool{
		check: c, log: log, base: time.Now(), ended: make(chan struct{}), calls: make(chan func()),
		table:   table{wake: make(chan struct{}, 1)},
		results: make(chan result, c.MaxInFlight),
		limiter: limiter{window: c.MaxInFlight, most: c.MaxInFlight},
	}
}

func startPool(c *Check, log Logger) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := newPool(c, log)
	p.end = cancel
	p.joinFleet()
	go func() {
		defer close(p.ended)
		p.run(ctx)
	}()
	return p
}

// stop returns when no probe is in flight any more.
func (p *pool) stop() {
	p.end()
	<-p.ended
}

// do runs call in the pool's goroutine and waits for it.
func (p *pool) do(call func()) {
	finished := make(chan struct{})
	p.calls <- func() { call(); close(finished) }
	<-finished
}

// now returns the time since the pool was made.
func (p *pool) now() time.Duration { return time.Since(p.base) }

// run probes until ctx is done, and returns when no probe is in flight any more.
func (p *pool) run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer p.dismiss()
	defer p.openLines()()
	defer p.leaveFleet()
	defer func() { p.flushTransitions(p.transitions.nextFlush(0)) }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.table.wake:
			p.admit()
		case call := <-p.calls:
			call()
		case <-p.wakeShare:
		case r := <-p.results:
			p.settle(r)
			p.settleMore()
		}
		p.workShare()
		p.announce()
		p.dispatch(func(w worker) { workers.Go(func() { p.work(ctx, w) }) })
		timer.Reset(p.idle())
	}
}

// idle returns how long the pool can sleep.
func (p *pool) idle() time.Duration {
	now := p.now()
	until := min(p.renewal, p.nextShare(p.renewal), p.timers.nextDue(p.renewal), p.transitions.nextFlush(p.renewal))
	if _, moment := p.limiter.full(p.inFlight); moment && !p.backlog.empty(p.mayServe) {
		until = min(until, now+time.Millisecond)
	}
	return max(0, until-now)
}

// dispatch hands the probes that are due to workers, as many as may be in flight.
func (p *pool) dispatch(start func(worker)) {
	p.collectDue()
	for {
		if full, _ := p.limiter.full(p.inFlight); full {
			return
		}
		e, s := p.backlog.pop(p.mayServe)
		if e == nil {
			return
		}
		a := assignment{e, s, p.now(), e.class()}
		p.inFlight++
		e.heap = beingProbed
		s.inFlight++
		p.inFlightOf[a.class]++
		p.limiter.waiting.Add(1)
		p.freeWorker(start) <- a // never blocks: its buffer has room for one
	}
}

// freeWorker takes the worker that ended a probe last, because its stack is still in the
// processor's caches. It starts one if none is free.
func (p *pool) freeWorker(start func(worker)) worker {
	last := len(p.free) - 1
	if last < 0 {
		w := make(worker, 1)
		p.workers = append(p.workers, w)
		start(w)
		return w
	}
	w := p.free[last]
	p.free = p.free[:last]
	return w
}

// dismiss ends all workers.
func (p *pool) dismiss() {
	for _, w := range p.workers {
		close(w)
	}
}

// mayServe reports whether one more probe of a class and scope may be in flight. Silent endpoints
// may use a part of the window, and slow ones a little more, so that proven ones need not wait. If
// a scope has no probe in flight, its silent endpoints count as slow, so that they do not wait for
// those of other scopes.
func (p *pool) mayServe(c class, s *scope) bool {
	part, most := p.limiter.lastingParts()
	both := p.inFlightOf[slow] + p.inFlightOf[silent]
	switch c {
	case slow:
		return both < most
	case silent:
		return both < most && (p.inFlightOf[silent] < part || s.inFlight == 0)
	}
	return true
}

// together is how much earlier than due an endpoint is probed if others are due now. Probes that
// follow each other take less processor time than probes between queries: the pool wakes up once,
// and the processor's caches hold what they need. A query waits for 4 probes or so if 2,000 are due
// a second.
const together = 2 * time.Millisecond

// collectDue moves the endpoints that are due to the backlog, and forgets those that no answer
// holds any more. The jitter is 4 % of an interval, and a probe is made at most 1 % earlier: at
// more than 5 % from its endpoint's phase, align would add a probe half an interval later.
func (p *pool) collectDue() {
	now := p.now()
	if p.timers.nextDue(now+1) > now {
		return
	}
	soon := now + min(together, p.check.Timing.Interval/100)
	for p.timers.nextDue(soon+1) <= soon {
		p.enqueue(p.timers.pop())
	}
}

// enqueue puts an endpoint that is due into the backlog, unless it is to be forgotten.
func (p *pool) enqueue(e *endpoint) {
	if home := p.scopes.smallestWith(e); home != nil && p.isWanted(e) {
		p.backlog.push(home, e)
		return
	}
	p.forget(e)
}

// requeue moves an endpoint whose class or scopes changed to its new place in the backlog, if it
// waits there.
func (p *pool) requeue(e *endpoint) {
	if e.place != nil {
		e.line.remove(e)
		p.enqueue(e)
	}
}

// await schedules an endpoint's next probe. A probe can last longer than the time between two
// starts, so the next one is due now at the earliest.
func (p *pool) await(e *endpoint) {
	e.next = max(e.next, p.now())
	p.timers.add(e)
}

// unseen reports whether an endpoint can be forgotten because no answer has held it for long. A
// quarter is added, because rules look up their endpoints only every quarter of that time. An
// endpoint that is down is kept longer, because once forgotten it would return to the answers.
func (p *pool) unseen(e *endpoint) bool {
	after := p.forgetAfter()
	if e.status.Load().verdict == Down {
		after *= 6
	}
	return p.now()-time.Duration(e.seen.Load()) > after*5/4
}

// forgetAfter is how long an endpoint that is not down is probed after it was last seen in an
// answer.
func (p *pool) forgetAfter() time.Duration { return max(10*p.check.Timing.Interval, 10*time.Minute) }

func (p *pool) forget(e *endpoint) {
	p.letGo(e)
	for s := range p.scopes.with(e) {
		s.remove(e)
		s.allFail = AllFail(int(s.size.Load()), s.failing)
		if e.at.Port() != 0 {
			p.outdate(s) // the other ports of the address now decide about it
		}
	}
	if p.share != nil {
		p.share.Remove(e.number)
		delete(p.loads, e.number)
	}
	p.table.remove(e)
}

// work probes what it is handed until the pool stops.
func (p *pool) work(ctx context.Context, w worker) {
	probing := newProbeContext(ctx)
	defer probing.close()
	for a := range w {
		r := p.probe(probing, a)
		r.by = w
		select {
		case p.results <- r:
		case <-ctx.Done():
			return
		}
	}
}

// probe probes an endpoint once.
func (p *pool) probe(c *probeContext, a assignment) result {
	p.limiter.waiting.Add(-1)
	ctx := c.begin(p.check.Timing.Timeout)
	defer c.pause()
	start := p.now()
	report, err := p.ask(ctx, a.endpoint.at)
	return result{assignment: a, attempt: attempt{report: report, err: err, lag: start - a.at, start: start, took: p.now() - start}}
}

// ask calls the prober and turns a panic into a local error, so that no reply of an endpoint can
// end the server.
func (p *pool) ask(ctx context.Context, endpoint netip.AddrPort) (report probe.Report, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the prober panicked: %s", probe.ErrLocal, printable(fmt.Sprint(r)))
		}
	}()
	if reporter, ok := p.check.Prober.(probe.Reporter); ok {
		return reporter.Report(ctx, endpoint)
	}
	return probe.Report{}, p.check.Probe(ctx, endpoint)
}

// printable makes text from outside fit for a log line.
func printable(text string) string {
	const longest = 1 << 10
	quoted := strconv.Quote(text[:min(len(text), longest)])
	return quoted[1 : len(quoted)-1]
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// pool probes the endpoints of a check. There is one for each check in the process, whichever rules have it. The
// goroutine that runs it owns everything, except for the table and the members of scopes, which queries read.
type pool struct {
	check *Check
	log   Logger
	base  time.Time // times are counted from it
	end   context.CancelFunc
	ended chan struct{}
	calls chan func() // carried out between probes, on behalf of other goroutines

	table
	scopes  scopes
	timers  timers
	backlog backlog
	history bool // a subscriber wants the last probes to be remembered

	due            chan assignment
	results        chan result
	workers        int
	inFlight       int
	silentInFlight int
	limiter        limiter

	awareness   awareness
	transitions transitionLog
	localLog    time.Duration // when a local error may be logged again
	renewal     time.Duration // when the rules are next told to look their endpoints up

	lines     lines         // nil without the option hold, or if they could not be opened
	dialAgain time.Duration // when a connection to hold may be opened again
	holdLog   time.Duration // when it may be logged again that none could be opened
}

// assignment is a probe that a worker is to make.
type assignment struct {
	endpoint *endpoint
	at       time.Duration // when it was handed out, as the pool counts time
	silent   bool          // it counts as silent while it is in flight
}

// result is a probe that is over.
type result struct {
	assignment
	attempt
}

func newPool(c *Check, log Logger) *pool {
	return &pool{
		check: c, log: log, base: time.Now(), ended: make(chan struct{}), calls: make(chan func()),
		table:   table{wake: make(chan struct{}, 1)},
		due:     make(chan assignment, c.MaxInFlight),
		results: make(chan result, c.MaxInFlight),
		limiter: limiter{window: c.MaxInFlight, most: c.MaxInFlight},
	}
}

func startPool(c *Check, log Logger) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := newPool(c, log)
	p.end = cancel
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

// do has the pool carry out a call, and waits for it.
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
	defer close(p.due)
	defer p.openLines()()
	defer func() { p.flushTransitions(p.transitions.nextFlush(0)) }()
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
		p.announce()
		p.dispatch(func() { workers.Go(func() { p.work(ctx) }) })
		timer.Reset(p.idle())
	}
}

// idle returns how long there is nothing to do unless something happens.
func (p *pool) idle() time.Duration {
	now := p.now()
	until := min(p.renewal, p.timers.nextDue(p.renewal), p.transitions.nextFlush(p.renewal))
	if _, moment := p.limiter.full(p.inFlight); moment && !p.backlog.empty(p.silentToo()) {
		until = min(until, now+time.Millisecond)
	}
	return max(0, until-now)
}

// dispatch hands the probes that are due to workers, as many as may be in flight.
func (p *pool) dispatch(newWorker func()) {
	p.collectDue()
	for {
		if full, _ := p.limiter.full(p.inFlight); full {
			return
		}
		e := p.backlog.pop(p.silentToo())
		if e == nil {
			return
		}
		a := assignment{e, p.now(), e.class() == silent}
		p.inFlight++
		p.silentInFlight += one(a.silent)
		if p.inFlight > p.workers {
			p.workers++
			newWorker()
		}
		p.limiter.waiting.Add(1)
		p.due <- a // has room for as many as may be in flight
	}
}

// silentToo reports whether one more probe of a silent endpoint may be in flight.
func (p *pool) silentToo() bool { return p.silentInFlight < p.limiter.silentPart() }

// collectDue moves the endpoints that are due to the backlog, and forgets those that no answer holds any more.
func (p *pool) collectDue() {
	for now := p.now(); p.timers.nextDue(now+1) <= now; {
		p.enqueue(p.timers.pop())
	}
}

// enqueue puts an endpoint that is due into the backlog, unless it is to be forgotten.
func (p *pool) enqueue(e *endpoint) {
	if home := p.scopes.smallestWith(e); home != nil && !p.unseen(e) {
		p.backlog.push(home, e)
		return
	}
	p.forget(e)
}

// requeue enqueues an endpoint anew if it waits in the backlog: what decides on its place there has changed.
func (p *pool) requeue(e *endpoint) {
	if e.place != nil {
		e.line.remove(e)
		p.enqueue(e)
	}
}

// await has an endpoint probed when it is due. Its next probe is not due while the last one was in flight: a timeout
// may be longer than the pause.
func (p *pool) await(e *endpoint) {
	e.next = max(e.next, p.now())
	p.timers.add(e)
}

// unseen reports whether an endpoint was in no answer for long. Rules look their endpoints up a quarter of that time
// apart. One that is down is kept longer, so that the dead do not return to the answers with the next question.
func (p *pool) unseen(e *endpoint) bool {
	after := p.forgetAfter()
	if e.tracker.verdict == Down {
		after *= 6
	}
	return p.now()-time.Duration(e.seen.Load()) > after*5/4
}

// forgetAfter is how long an endpoint that is not down is probed after it was last seen in an answer.
func (p *pool) forgetAfter() time.Duration { return max(10*p.check.Timing.Interval, 10*time.Minute) }

func (p *pool) forget(e *endpoint) {
	p.letGo(e)
	for s := range p.scopes.with(e) {
		s.remove(e)
		s.allFail = AllFail(int(s.size.Load()), s.failing)
	}
	p.table.remove(e)
}

// work probes what is due until there is no more.
func (p *pool) work(ctx context.Context) {
	probing := newProbeContext(ctx)
	defer probing.close()
	for a := range p.due {
		r := p.probe(probing, a)
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
	err := p.ask(ctx, a.endpoint.at)
	return result{a, attempt{err: err, lag: start - a.at, start: start, took: p.now() - start}}
}

// ask calls the prober. A prober that panics because of what an endpoint says is a local error, and does not end the
// server. The server does the same for a client's query.
func (p *pool) ask(ctx context.Context, endpoint netip.AddrPort) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the prober panicked: %s", probe.ErrLocal, printable(fmt.Sprint(r)))
		}
	}()
	return p.check.Probe(ctx, endpoint)
}

// printable makes a text that others wrote fit for a line of the log.
func printable(text string) string {
	const longest = 1 << 10
	quoted := strconv.Quote(text[:min(len(text), longest)])
	return quoted[1 : len(quoted)-1]
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
)

// What a pool does with a result.

// settleMore settles all results that are waiting, so that they share one pass over the queues.
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

// settle updates an endpoint with a result and schedules its next probe.
func (p *pool) settle(r result) {
	p.free = append(p.free, r.by)
	p.inFlight--
	r.scope.inFlight--
	p.inFlightOf[r.class]--
	p.limiter.after(r.lag, p.now())
	p.countLate(r)
	e, timing := r.endpoint, &p.check.Timing
	e.heap = notThere
	if !p.probes(e) {
		return
	}
	p.awareness = p.awareness.after(r.attempt, timing.Timeout, p.now())
	said, doubt := p.awareness.outcome(r.attempt, e.doubt, timing.Timeout)
	e.doubt = doubt
	switch said {
	case localError:
		p.discard(e, r)
		p.letGo(e) // this frees a descriptor, which may be what was missing
		e.next = r.start + p.pauseAfterLocalError(e)
	case noSay:
		p.discard(e, r)
		p.mute(e, r.err)
		e.next = r.start + p.pauseInDoubt(e, r.start)
	case inconclusive:
		p.discard(e, r)
		e.next = r.start + retryAfter(e, r.err, p.pauseInDoubt(e, r.start), timing.MaxInterval)
		p.tend(e, r)
	default:
		if said == failure && doubt.overloaded > 0 {
			r.err = fmt.Errorf("%w, while this host was overloaded", r.err)
		}
		p.conclude(e, r)
		e.next = r.start + retryAfter(e, r.err, p.pause(e, r.start), timing.MaxInterval)
		p.tend(e, r)
	}
	p.await(e)
}

// conclude updates what is known about an endpoint.
func (p *pool) conclude(e *endpoint, r result) {
	timing := &p.check.Timing
	before := e.tracker
	e.tracker = before.after(r.err == nil, timing.Rise, timing.Fall)
	e.speed = r.speed(timing.Timeout)
	e.remember(r.attempt, p.history)
	p.countResult(e, r)
	if r.err == nil {
		p.hearLoad(e, &r.report)
	}
	switch {
	case p.share != nil:
		p.vote(e, &r.report, r.err)
		return
	case e.tracker.verdict != before.verdict:
		p.publish(e, p.statusOf(e, e.tracker.verdict, problemOf(r.err), time.Now()))
	}
	p.advise(e, adviceOf(r.report))
}

// problemOf returns why a probe failed, nothing if it passed.
func problemOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// discard counts a result that changes nothing. It logs local errors, one a minute.
func (p *pool) discard(e *endpoint, r result) {
	evasive := errors.Is(r.err, probe.ErrInconclusive) || errors.Is(r.err, probe.ErrNoSay)
	for s := range p.scopes.with(e) {
		s.counters.countDiscarded(evasive)
	}
	if evasive {
		return
	}
	if p.now() < p.localLog {
		return
	}
	p.localLog = p.now() + localLogInterval
	why := "failed locally"
	if !errors.Is(r.err, probe.ErrLocal) {
		why = "failed while this host was overloaded"
	}
	p.log.Errorf("health_check %s: probe of %s %s; verdict unchanged: %v", p.check.Name(), e.name(), why, r.err)
}

// localLogInterval is the time between two lines about local errors.
const localLogInterval = time.Minute

// pause returns the time from the start of a probe to that of the next one.
func (p *pool) pause(e *endpoint, start time.Duration) time.Duration {
	pause := e.tracker.pause(&p.check.Timing)
	if pause != p.check.Timing.Interval {
		return jitter(pause, pause/10)
	}
	// At most 1.09 intervals. With 0.01 for scheduling, the probe is at most 10 % late.
	return jitter(align(start, p.phase(e, pause), pause), pause/25)
}

// pauseInDoubt is pause after an inconclusive result. An unknown endpoint is served anyway, so
// there is no hurry.
func (p *pool) pauseInDoubt(e *endpoint, start time.Duration) time.Duration {
	if interval := p.check.Timing.Interval; e.tracker.verdict == Unknown {
		return jitter(interval, interval/10)
	}
	return p.pause(e, start)
}

// retryAfter returns the pause that the endpoint asked for, within bounds.
func retryAfter(e *endpoint, err error, pause, longest time.Duration) time.Duration {
	if e.tracker.inDoubt() {
		return pause
	}
	return max(pause, min(probe.RetryAfter(err), longest))
}

// pauseAfterLocalError backs off as if the endpoint were down.
func (p *pool) pauseAfterLocalError(e *endpoint) time.Duration {
	pause := tracker{verdict: Down, failed: uint16(e.doubt.local) - 1}.pause(&p.check.Timing)
	return jitter(pause, pause/10)
}

// countLate counts a probe that began late by more than the jitter.
func (p *pool) countLate(r result) {
	if r.start-r.endpoint.next <= p.check.Timing.Interval/10 {
		return
	}
	for s := range p.scopes.with(r.endpoint) {
		s.counters.late.Inc()
	}
}

// countResult counts a probe for the rules whose answers hold the endpoint.
func (p *pool) countResult(e *endpoint, r result) {
	failed := r.err != nil
	for s := range p.scopes.with(e) {
		s.counters.count(!failed, r.took)
	}
	p.markFailing(e, failed, r.err)
}

// markFailing notes whether an endpoint fails. err is why.
func (p *pool) markFailing(e *endpoint, failed bool, err error) {
	if e.failing.Swap(failed) == failed {
		return
	}
	for s := range p.scopes.with(e) {
		s.failing += one(failed) - one(!failed)
		p.judgeScope(s, err)
	}
}

// judgeScope logs once that every endpoint of a rule fails. err is why the last one failed.
func (p *pool) judgeScope(s *scope, err error) {
	all := len(s.subscriptions) > 0 && AllFail(int(s.size.Load()), s.failing)
	if all && !s.allFail && err != nil {
		p.log.Warningf("%s: all %d endpoints fail %s, the last with %q: the fault may be local", s.zone, s.failing, p.check.Name(), err)
	}
	if all || s.allFail {
		s.allFailed = p.now()
	}
	s.allFail = all
}

// statusOf returns the status of an endpoint with a new verdict. problem is why it is down.
func (p *pool) statusOf(e *endpoint, v Verdict, problem string, since time.Time) *status {
	before := e.status.Load()
	now := &status{verdict: v, since: since, advice: before.advice, load: before.load}
	if v != Up {
		now.problem = problem
	}
	now.cameUp = before.verdict == Down && now.verdict == Up
	now.damping = p.damped(e, before, now)
	return now
}

// publish stores a new verdict for queries, and tells the rules, the metrics and the log.
func (p *pool) publish(e *endpoint, now *status) {
	before := e.status.Load()
	e.status.Store(now)
	affected := scopes(slices.Collect(p.scopes.with(e)))
	for _, s := range affected {
		s.counters.countTransition(now.verdict)
		p.outdate(s)
	}
	p.logTransition(transition{e, affected, before, now, p.check.HalfLife, p.votes(e)})
}

// outdate marks the plans of a rule as outdated.
func (p *pool) outdate(s *scope) {
	if !s.outdated {
		s.outdated = true
		p.outdated = append(p.outdated, s)
	}
}

// announce notifies rules of new verdicts. From time to time it notifies all of them, which makes
// them look up their endpoints; an endpoint that no rule looks up can then be forgotten.
func (p *pool) announce() {
	outdated := p.outdated
	if p.now() >= p.renewal {
		p.renewal = p.now() + p.forgetAfter()/4
		outdated = p.scopes
		p.reviewWants()
	}
	for _, s := range outdated {
		s.outdated = false
		for _, one := range s.subscriptions {
			one.sub.Changed()
		}
	}
	p.outdated = p.outdated[:0]
	p.flushTransitions(p.now())
}

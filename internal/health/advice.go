// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// Advice is what an endpoint with an agent says about itself, besides the verdict. The zero value
// says nothing.
type Advice struct {
	Drain  bool   // it wants no new clients
	Reason string // in its own words, printable
	NoSay  bool   // the check does not count, because the agent cannot be understood
}

// said returns what the endpoint says about itself.
func (s *status) said() Advice {
	if s.advice == nil {
		return Advice{}
	}
	return *s.advice
}

func adviceOf(r probe.Report) Advice { return Advice{Drain: r.Drain, Reason: r.Reason} }

// Advice returns what an endpoint says about itself. It does not register the endpoint for probing.
func (s *Subscription) Advice(at netip.AddrPort) Advice {
	if e := s.targetOf(at).known; e != nil {
		return e.status.Load().said()
	}
	return Advice{}
}

// advise publishes what an endpoint says about itself, if that has changed, and logs that it
// drains. A new reason alone changes no plan.
func (p *pool) advise(e *endpoint, now Advice) {
	status := e.status.Load()
	before := status.said()
	if now == before {
		return
	}
	next := *status
	next.advice = &now
	e.status.Store(&next)
	if now.Drain == before.Drain && now.NoSay == before.NoSay {
		return
	}
	affected := scopes(slices.Collect(p.scopes.with(e)))
	for _, s := range affected {
		p.outdate(s)
	}
	if now.Drain != before.Drain {
		p.logDrain(e, affected.zones(), now)
	}
}

// logDrain logs that an endpoint began or stopped draining.
func (p *pool) logDrain(e *endpoint, zones string, now Advice) {
	what, why := "takes new clients again", ""
	if now.Drain {
		what = "drains"
	}
	if now.Reason != "" {
		why = ": " + now.Reason
	}
	p.log.Infof("%s: endpoint %s %s %s%s", zones, e.name(), p.check.Name(), what, why)
}

// mute makes the check not count for an endpoint, and drops the endpoint's verdict. In a fleet this
// is a vote.
func (p *pool) mute(e *endpoint, err error) {
	e.tracker, e.speed = tracker{}, prompt
	if p.share != nil {
		p.share.Vote(e.number, fleet.Opinion{Verdict: fleet.NoSay}, err.Error())
		return
	}
	p.silence(e, err.Error())
}

// silence publishes that the check does not count for an endpoint.
func (p *pool) silence(e *endpoint, problem string) {
	before := e.status.Load()
	if before.said().NoSay {
		return
	}
	now := &status{since: time.Now(), problem: problem, advice: &Advice{NoSay: true}, load: before.load}
	now.damping = p.damped(e, before, now)
	e.status.Store(now)
	affected := scopes(slices.Collect(p.scopes.with(e)))
	for _, s := range affected {
		p.outdate(s)
	}
	p.log.Infof("%s: endpoint %s %s has no say (was %s): %s", affected.zones(), e.name(), p.check.Name(), before.verdict, problem)
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/load"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// Load is what an endpoint says of its load. The zero value says nothing. Immutable.
type Load struct {
	Report  load.Report // the last valid one
	At      time.Time   // when that came
	Problem string      // why the last report is not valid; empty if it is
}

// Load returns what an endpoint says of its load. It does not register the endpoint for probing.
func (s *Subscription) Load(at netip.AddrPort) Load {
	e := s.targetOf(at).known
	if e == nil {
		return Load{}
	}
	return e.status.Load().lastLoad()
}

// lastLoad returns what the endpoint last said of its load.
func (s *status) lastLoad() (last Load) {
	if s.load == nil {
		return Load{}
	}
	if last = *s.load; last.At.IsZero() && last.Report.Kind != load.Nothing {
		last.At = time.Now()
	}
	return last
}

// hearLoad takes what an endpoint says of its load, and counts it for the rules that go by load. It
// publishes that, unless there is a fleet: then the vote that follows contains it.
func (p *pool) hearLoad(e *endpoint, r *probe.Report) {
	before := p.loadBefore(e)
	now, result := Load{Report: before.Report, At: before.At}, "missing"
	switch {
	case r.BadLoad != "":
		now.Problem, result = r.BadLoad, "invalid"
	case r.Load.Kind != load.Nothing:
		now, result = Load{Report: r.Load, At: time.Now()}, "valid"
	}
	switch {
	case p.share == nil:
		p.publishLoad(e, now)
	case now != before && p.goesByLoad():
		p.loads[e.number] = now
		p.specify(e, now.Problem)
	}
	for s := range p.scopes.with(e) {
		if !s.goesByLoad {
			continue
		}
		loadReports.WithLabelValues(s.zone, result).Inc()
		if result == "invalid" && before.Problem == "" {
			p.logBadLoad(s, e, r.BadLoad)
		}
	}
}

// loadBefore returns what this replica last heard of an endpoint's load.
func (p *pool) loadBefore(e *endpoint) Load {
	if p.share == nil {
		return e.status.Load().lastLoad()
	}
	return p.loads[e.number]
}

// goesByLoad reports whether a rule goes by load reports.
func (p *pool) goesByLoad() bool {
	return slices.ContainsFunc(p.scopes, func(s *scope) bool { return s.goesByLoad })
}

// inheritLoad has a replica that begins to probe an endpoint vote with the report that the fleet
// went by, as if it had come now, until the endpoint sends another one.
func (p *pool) inheritLoad(e *endpoint) {
	if known := e.status.Load().lastLoad(); known.Report.Kind != load.Nothing {
		p.loads[e.number] = Load{Report: known.Report, At: known.At}
	}
}

// publishLoad stores what an endpoint says of its load, if that is new. No plan becomes stale,
// because rules read loads themselves.
func (p *pool) publishLoad(e *endpoint, now Load) {
	before := e.status.Load()
	if before.load != nil && *before.load == now || before.load == nil && now.Report.Kind == load.Nothing && now.Problem == "" {
		return
	}
	next := *before
	next.load = new(now)
	e.status.Store(&next)
}

// loadVote returns the last valid report of an endpoint's load as it travels in a vote. Votes are
// sent if they change, so it is rounded. It is left out if it is too old, or if no rule goes by it.
func (p *pool) loadVote(e *endpoint) (kind fleet.Load, percent uint8) {
	last := p.loads[e.number]
	r := last.Report
	if r.Kind == load.Nothing || time.Since(last.At) > load.Patience*p.check.Timing.Interval || !p.goesByLoad() {
		return fleet.NoLoad, 0
	}
	const step = 2 // percent
	percent = uint8(step * math.Round(min(100*r.Value, math.MaxUint8-1)/step))
	if r.Kind == load.Share {
		return fleet.Percentage, percent
	}
	return fleet.Utilisation, percent
}

// decideLoad publishes what the fleet says of an endpoint's load. If no replica votes with a report
// any more, the last one expires now.
func (p *pool) decideLoad(e *endpoint, o fleet.Opinion) {
	next := Load{Report: loadFrom(o), Problem: p.loadProblem(e, o.BadLoad)}
	if before := e.status.Load().lastLoad(); next.Report.Kind == load.Nothing && before.Report.Kind != load.Nothing {
		next.Report, next.At = before.Report, before.At
		if e.status.Load().load.At.IsZero() {
			next.At = time.Now().Add(-load.Patience * p.check.Timing.Interval)
		}
	}
	p.publishLoad(e, next)
}

// specify publishes why this replica found a report not valid. It replaces the general text that
// loadProblem chose because another replica was first to say so.
func (p *pool) specify(e *endpoint, problem string) {
	if said := e.status.Load().load; said != nil && said.Problem != "" && problem != "" {
		next := *said
		next.Problem = problem
		p.publishLoad(e, next)
	}
}

// loadProblem returns why the last report is not valid if a replica of the fleet says that it is
// not.
func (p *pool) loadProblem(e *endpoint, bad bool) string {
	if !bad {
		return ""
	}
	if own := p.loads[e.number].Problem; own != "" {
		return own
	}
	return "another replica got a load report that is not valid"
}

// loadFrom returns the load report in an opinion of the fleet.
func loadFrom(o fleet.Opinion) load.Report {
	switch o.Load {
	case fleet.Percentage:
		return load.Report{Kind: load.Share, Value: float64(o.Share) / 100}
	case fleet.Utilisation:
		return load.Report{Kind: load.Utilisation, Value: float64(o.Share) / 100}
	}
	return load.Report{}
}

// logBadLoad logs that a load report is not valid, at most once a minute.
func (p *pool) logBadLoad(s *scope, e *endpoint, problem string) {
	if p.now() < p.loadLog {
		return
	}
	p.loadLog = p.now() + time.Minute
	p.log.Warningf("%s: endpoint %s %s: %s", s.zone, e.name(), p.check.Name(), problem)
}

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
	known := e.status.Load().lastLoad()
	if s.pool.share != nil && known.Report.Kind != load.Nothing {
		known.At = time.Now() // the fleet drops a report that is not valid any more
	}
	return known
}

func (s *status) lastLoad() Load {
	if s.load == nil {
		return Load{}
	}
	return *s.load
}

// hearLoad publishes what an endpoint says of its load, and counts it for the rules that go by
// load. In a fleet the vote that follows publishes it.
func (p *pool) hearLoad(e *endpoint, r *probe.Report) {
	before := e.status.Load().lastLoad()
	now, result := Load{Report: before.Report, At: before.At}, "missing"
	switch {
	case r.BadLoad != "":
		now.Problem, result = r.BadLoad, "invalid"
	case r.Load.Kind != load.Nothing:
		now, result = Load{Report: r.Load, At: time.Now()}, "valid"
	}
	if p.share == nil {
		p.publishLoad(e, now)
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

// publishLoad stores what an endpoint says of its load, if that is new. No plan becomes stale,
// because rules read loads themselves.
func (p *pool) publishLoad(e *endpoint, now Load) {
	before := e.status.Load()
	if before.lastLoad() == now || before.load == nil && now.Report.Kind == load.Nothing && now.Problem == "" {
		return
	}
	next := *before
	next.load = new(now)
	e.status.Store(&next)
}

// loadVote returns a load report as it travels in a vote. Votes are sent if they change, so it is
// rounded, and left out if no rule goes by it.
func (p *pool) loadVote(r load.Report) (kind fleet.Load, percent uint8) {
	goesByLoad := func(s *scope) bool { return s.goesByLoad }
	if r.Kind == load.Nothing || !slices.ContainsFunc(p.scopes, goesByLoad) {
		return fleet.NoLoad, 0
	}
	const step = 2 // percent
	percent = uint8(step * math.Round(min(100*r.Value, math.MaxUint8-1)/step))
	if r.Kind == load.Share {
		return fleet.Percentage, percent
	}
	return fleet.Utilisation, percent
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

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// rulesCollector makes the series of the rules that run when they are scraped, so that they end
// with the rule and cost no memory in between.
type rulesCollector struct{}

func init() { prometheus.MustRegister(rulesCollector{}) }

// Describe implements prometheus.Collector.
func (rulesCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- fileLastSuccessDesc
	descs <- ruleInfoDesc
	descs <- fileGoodDesc
	descs <- fileMissingDesc
	descs <- tlsNotAfterDesc
	descs <- overridesDesc
	descs <- localityNodesDesc
	descs <- localityReachedDesc
	descs <- fleetMembersDesc
	descs <- fleetAloneDesc
	descs <- fleetMessagesDesc
	descs <- fleetBytesDesc
	descs <- fleetVotesDesc
	descs <- fleetDisagreementsDesc
	descs <- rampingDesc
	descs <- failbackWaitingDesc
}

// Collect implements prometheus.Collector.
func (rulesCollector) Collect(metrics chan<- prometheus.Metric) {
	collectRules(metrics)
	collectFiles(metrics)
	collectExpiries(metrics)
	collectOverrides(metrics)
	collectNodes(metrics)
	collectFleet(metrics)
	collectVotes(metrics)
	collectChanging(metrics)
}

// zoneFile is a file of a rule, in one of its zones. Rules that share it, or replace each other,
// say the same.
type zoneFile struct{ zone, file string }

// eachRule calls f for every rule that runs, in each of its zones.
func eachRule(f func(r *rule, zone string)) {
	for _, l := range runningLives() {
		for _, r := range l.rules {
			for _, zone := range r.zones {
				f(r, zone)
			}
		}
	}
}

// ruleInfo is what a series says of a rule in one of its zones. Blocks on several ports may say the
// same.
type ruleInfo struct {
	zone, policy string
	observe      bool
}

// collectRules writes which rules run, and which of them only observe.
func collectRules(metrics chan<- prometheus.Metric) {
	seen := make(map[ruleInfo]bool)
	eachRule(func(r *rule, zone string) { seen[ruleInfo{zone, r.policy.name, r.observe}] = true })
	for info := range seen {
		metrics <- gauge(ruleInfoDesc, true, info.zone, info.policy, strconv.FormatBool(info.observe))
	}
}

// collectFiles writes whether files are good, and when they last were.
func collectFiles(metrics chan<- prometheus.Metric) {
	latest, bad, missing := make(map[zoneFile]time.Time), make(map[zoneFile]bool), make(map[zoneFile]bool)
	eachRule(func(r *rule, zone string) {
		for _, f := range r.files() {
			at, known := zoneFile{zone, f.Name()}, f.State()
			if known.Good.After(latest[at]) {
				latest[at] = known.Good
			}
			bad[at] = bad[at] || known.Problem != ""
			missing[at] = missing[at] || known.Missing
		}
	})
	for at, good := range latest {
		metrics <- prometheus.MustNewConstMetric(fileLastSuccessDesc, prometheus.GaugeValue, float64(good.UnixNano())/1e9, at.zone, at.file)
		metrics <- gauge(fileGoodDesc, !bad[at], at.zone, at.file)
		metrics <- gauge(fileMissingDesc, missing[at], at.zone, at.file)
	}
}

// collectExpiries writes until when certificates are valid.
func collectExpiries(metrics chan<- prometheus.Metric) {
	ends := make(map[zoneFile]time.Time)
	eachRule(func(r *rule, zone string) {
		for _, f := range r.secrets {
			ends[zoneFile{zone, f.Name()}] = f.notAfter()
		}
	})
	for at, end := range ends {
		metrics <- prometheus.MustNewConstMetric(tlsNotAfterDesc, prometheus.GaugeValue, float64(end.Unix()), at.zone, at.file)
	}
}

// collectOverrides writes how many overrides are in force.
func collectOverrides(metrics chan<- prometheus.Metric) {
	sets := make(map[zoneFile]overrides.Set)
	eachRule(func(r *rule, zone string) {
		if r.overrides != nil {
			sets[zoneFile{zone, r.overrides.Name()}] = r.overridesInForce()
		}
	})
	inForce := make(map[string]overrides.Set) // by zone
	for at, set := range sets {
		inForce[at.zone] = append(inForce[at.zone], set.InForce(filewatch.Clock())...)
	}
	for zone, set := range inForce {
		for _, what := range overrides.All {
			metrics <- prometheus.MustNewConstMetric(overridesDesc, prometheus.GaugeValue, float64(set.Count(what)), zone, what.String())
		}
	}
}

// gauge returns a series that is 1 or 0.
func gauge(desc *prometheus.Desc, on bool, labels ...string) prometheus.Metric {
	value := 0.0
	if on {
		value = 1
	}
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

// collectNodes writes how many nodes localities come from, and whether their API server answers.
func collectNodes(metrics chan<- prometheus.Metric) {
	shown := make(map[string]*statuspage.Nodes)
	eachRule(func(r *rule, zone string) {
		if r.localities == nil {
			return
		}
		if nodes := r.localities.shownNodes(); nodes != nil {
			shown[zone] = nodes
		}
	})
	for zone, nodes := range shown {
		metrics <- prometheus.MustNewConstMetric(localityNodesDesc, prometheus.GaugeValue, float64(nodes.Count), zone)
		metrics <- gauge(localityReachedDesc, nodes.Problem == "", zone)
	}
}

// changeCount counts what changes with time in a zone. Rules that replace each other may say the
// same.
type changeCount struct {
	ramps, waits bool // the rule has such options
	ramping      map[netip.Addr]bool
	waiting      map[string]bool // by name and type
}

// collectChanging writes how many members are in a slow start, and how many RRsets wait for a
// failback.
func collectChanging(metrics chan<- prometheus.Metric) {
	zones := make(map[string]*changeCount)
	for _, l := range runningLives() {
		for zone, z := range l.zones {
			if !z.remembers() {
				continue
			}
			if zones[zone] == nil {
				zones[zone] = &changeCount{ramping: make(map[netip.Addr]bool), waiting: make(map[string]bool)}
			}
			zones[zone].add(z)
		}
	}
	for zone, c := range zones {
		if c.ramps {
			metrics <- prometheus.MustNewConstMetric(rampingDesc, prometheus.GaugeValue, float64(len(c.ramping)), zone)
		}
		if c.waits {
			metrics <- prometheus.MustNewConstMetric(failbackWaitingDesc, prometheus.GaugeValue, float64(len(c.waiting)), zone)
		}
	}
}

// add adds what changes in a rule. It looks anew, because an RRset that nobody asks for keeps its
// plan.
func (c *changeCount) add(z *zoneRule) {
	c.ramps, c.waits = c.ramps || z.slowStart > 0, c.waits || z.failback.Mode != failback.AtOnce
	for _, e := range z.changing.all() {
		s := e.state.Load()
		if s == nil || allTurns.known(e.scope, e.key, e.owner) != e {
			z.changing.drop(e) // it was evicted
			continue
		}
		p := z.forecastOf(e, s, filewatch.Clock()).plan
		for i := range p.standings {
			if p.standings[i].factors.Ramp > 0 && !p.excludes(i) {
				c.ramping[p.members[i].addr] = true
			}
		}
		if p.basis.kept.number > 0 {
			c.waiting[e.owner+" "+dns.TypeToString[e.key.rrtype]] = true
		}
	}
}

// collectFleet writes who is in the fleet of the process, and what was said.
func collectFleet(metrics chan<- prometheus.Metric) {
	r := inFleet.current.Load()
	if r == nil {
		return
	}
	s := r.hub.Snapshot()
	metrics <- prometheus.MustNewConstMetric(fleetMembersDesc, prometheus.GaugeValue, float64(len(s.Members)), s.Name)
	metrics <- gauge(fleetAloneDesc, s.Alone, s.Name)
	for _, c := range []struct {
		desc      *prometheus.Desc
		count     uint64
		direction string
	}{
		{fleetMessagesDesc, s.Sent, "sent"}, {fleetMessagesDesc, s.Received, "received"},
		{fleetMessagesDesc, s.Skipped, "skipped"}, {fleetMessagesDesc, s.Lost, "lost"},
		{fleetBytesDesc, s.SentBytes, "sent"}, {fleetBytesDesc, s.ReceivedBytes, "received"},
	} {
		metrics <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.count), s.Name, c.direction)
	}
}

// zoneCheck is a check of the rules for a zone. Those in blocks on several ports share it.
type zoneCheck struct{ zone, check string }

// ballots counts the valid votes on endpoints.
type ballots struct{ up, down, differ int }

// collectVotes writes how the replicas vote on the endpoints of rules.
func collectVotes(metrics chan<- prometheus.Metric) {
	byCheck := make(map[zoneCheck]ballots)
	for _, l := range runningLives() {
		for _, z := range l.zones {
			if z.hub == nil {
				continue
			}
			for _, s := range z.subscriptions {
				byCheck[zoneCheck{z.zone, s.Name()}] = ballotsOn(s)
			}
		}
	}
	byZone := make(map[string]ballots)
	for at, b := range byCheck {
		sum := byZone[at.zone]
		byZone[at.zone] = ballots{sum.up + b.up, sum.down + b.down, sum.differ + b.differ}
	}
	for zone, b := range byZone {
		metrics <- prometheus.MustNewConstMetric(fleetVotesDesc, prometheus.GaugeValue, float64(b.up), zone, health.Up.String())
		metrics <- prometheus.MustNewConstMetric(fleetVotesDesc, prometheus.GaugeValue, float64(b.down), zone, health.Down.String())
		metrics <- prometheus.MustNewConstMetric(fleetDisagreementsDesc, prometheus.GaugeValue, float64(b.differ), zone)
	}
}

// ballotsOn counts the votes on the endpoints of a rule's check.
func ballotsOn(s subscription) (b ballots) {
	for e := range s.Endpoints() {
		votes, ok := s.Tally(e.At)
		if !ok {
			continue
		}
		up, down := votes.Votes()
		b.up, b.down = b.up+up, b.down+down
		if votes.Differ() {
			b.differ++
		}
	}
	return b
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The names of all series begin with these.
const (
	namespace = "coredns"
	subsystem = "balance"
)

var (
	probesTotal      = counter("probes_total", "Counter of probes, by result: success, failure, error (local error), or inconclusive (the endpoint would not say).", "zone", "check", "result")
	probeDuration    = histogram("probe_duration_seconds", "Histogram of the time that a probe took.", "zone", "check")
	probesRefused    = counter("probes_refused_total", "Counter of lookups of addresses that are not probed, by reason.", "zone", "reason")
	probesLate       = counter("probes_late_total", "Counter of probes that began later than they were due by more than a tenth of the interval.", "zone", "check")
	transitionsTotal = counter("transitions_total", "Counter of new verdicts.", "zone", "to")
	loadReports      = counter("load_reports_total", "Counter of results of checks with load_weights, by their load report: valid, invalid or missing.", "zone", "result")
	hintsTotal       = counter("hints_total", "Counter of held connections that the endpoint ended.", "zone")
	holdErrors       = counter("hold_errors_total", "Counter of connections to hold that could not be opened because of a local error.", "zone")
	endpointsDesc    = desc("endpoints", "Endpoints that are probed, by verdict.", "zone", "state")
	endpointUpDesc   = desc("endpoint_up", "1 for an endpoint that is up, 0 for one that is down; absent until the first verdict.", "zone", "endpoint")
	heldDesc         = desc("held_connections", "Idle connections that are held to endpoints.", "zone")
	suppressedDesc   = desc("suppressed", "Endpoints that are up and that the option damp keeps out of answers because they flap.", "zone")
	allFailingDesc   = desc("all_endpoints_failing", "1 if the last probe of every endpoint of a check failed: the fault may be local.", "zone")
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		Buckets: prometheus.ExponentialBuckets(0.00025, 4, 8), // to 4 s
	}, labels)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
}

var _ prometheus.Collector = (*Registry)(nil)

// Describe implements prometheus.Collector.
func (r *Registry) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{endpointsDesc, endpointUpDesc, heldDesc, suppressedDesc, allFailingDesc} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. The series of endpoints are made when they are scraped,
// so that they disappear with their endpoints.
func (r *Registry) Collect(metrics chan<- prometheus.Metric) {
	zones := make(map[string]*zoneEndpoints)
	r.each(func(s *Subscription) {
		if zones[s.sub.Zone] == nil {
			zones[s.sub.Zone] = &zoneEndpoints{verdicts: make(map[string]Verdict), held: make(map[string]bool), suppressed: make(map[string]bool)}
		}
		zones[s.sub.Zone].add(s)
	})
	for zone, endpoints := range zones {
		endpoints.collect(zone, metrics)
	}
}

// zoneEndpoints is what is known about the endpoints of a zone.
type zoneEndpoints struct {
	verdicts   map[string]Verdict // by name
	allFailing bool               // every endpoint of a check fails
	held       map[string]bool    // names of endpoints with a held connection
	suppressed map[string]bool    // names of endpoints that are to stay out because they flap
	damps      bool               // a check has a half-life
	holds      bool               // a check has the option hold
}

// add adds the endpoints of a subscription. Another subscription may hold the same endpoints: while
// a reload replaces a rule, or if two checks have the same name.
func (z *zoneEndpoints) add(s *Subscription) {
	known, failing, check := 0, 0, s.Name()
	for e := range s.Endpoints() {
		known++
		name, v := e.Name()+" "+check, e.Verdict
		if e.Held {
			z.held[name] = true
		}
		if e.Failing {
			failing++
		}
		if !e.Reuse.IsZero() {
			z.suppressed[name] = true
		}
		if before, again := z.verdicts[name]; again {
			v = v.And(before)
		}
		z.verdicts[name] = v
	}
	z.damps = z.damps || s.pool.check.HalfLife > 0
	z.holds = z.holds || s.pool.check.holds()
	z.allFailing = z.allFailing || AllFail(known, failing)
}

func (z *zoneEndpoints) collect(zone string, metrics chan<- prometheus.Metric) {
	var count [len(verdictNames)]int
	for name, v := range z.verdicts {
		count[v]++
		if v != Unknown {
			metrics <- gauge(endpointUpDesc, one(v == Up), zone, name)
		}
	}
	for v, n := range count {
		metrics <- gauge(endpointsDesc, n, zone, verdictNames[v])
	}
	metrics <- gauge(allFailingDesc, one(z.allFailing), zone)
	if z.damps {
		metrics <- gauge(suppressedDesc, len(z.suppressed), zone)
	}
	if z.holds {
		metrics <- gauge(heldDesc, len(z.held), zone)
	}
}

func gauge(desc *prometheus.Desc, value int, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
}

func one(on bool) int {
	if on {
		return 1
	}
	return 0
}

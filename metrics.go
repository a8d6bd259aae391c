// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"sync"
	"sync/atomic"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// tally is a counter that several cores increase at once, each in a place of its own: a cache line
// that cores share would cost more than the rest of an answer. Safe for concurrent use.
type tally [tallyPlaces]struct {
	n atomic.Uint64
	_ [cacheLine - 8]byte
}

const (
	tallyPlaces = 8
	cacheLine   = 64 // bytes
)

func (t *tally) add(place uint8, n int) { t[place%tallyPlaces].n.Add(uint64(n)) }

func (t *tally) value() (sum float64) {
	for i := range t {
		sum += float64(t[i].n.Load())
	}
	return sum
}

// counters are the counters of a rule for one server and view. Safe for concurrent use.
type counters struct {
	labels    counterLabels
	responses [len(outcomeNames)]tally
	removed   [len(reasonNames)]tally
}

type counterLabels struct{ server, zone, view string }

// count counts an answer.
func (c *counters) count(place uint8, o outcome) { c.responses[o].add(place, 1) }

// countRemoved counts the records removed from one of its sections.
func (c *counters) countRemoved(place uint8, removed *removals) {
	for why, n := range removed {
		if n > 0 {
			c.removed[why].add(place, int(n))
		}
	}
}

var (
	responsesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "responses_total"),
		"Counter of answers that a rule handled, by result.",
		[]string{"server", "zone", "view", "result"}, nil)
	removedRecordsDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "removed_records_total"),
		"Counter of records removed from answers, by reason.",
		[]string{"server", "zone", "view", "reason"}, nil)
)

var overridesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "overrides"),
	"Overrides in force: up, down or drain.", []string{"zone", "override"}, nil)

var expressionFailures = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: pluginName,
	Name:      "prefer_expression_failures_total",
	Help:      "Counter of expressions of prefer ... when that failed for a query, and counted as false.",
}, []string{"zone"})

var fileReloadFailures = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: pluginName,
	Name:      "file_reload_failures_total",
	Help:      "Counter of times that a file was found bad, or a weight file missing, while the server ran.",
}, []string{"zone", "file"})

var overridesLifted = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: pluginName,
	Name:      "overrides_lifted_total",
	Help:      "Counter of overrides that ended because their file was deleted or emptied.",
}, []string{"zone", "file"})

var ruleInfoDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "rule_info"),
	"1 for each rule. If observe is true it changes no answer, and its other series say what would happen.",
	[]string{"zone", "policy", "observe"}, nil)

var fileLastSuccessDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "file_last_success_timestamp_seconds"),
	"Unix time when a file was last read and found good.",
	[]string{"zone", "file"}, nil)

var tlsNotAfterDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "tls_not_after_timestamp_seconds"),
	"When the certificate of a health check expires, or the first of its issuers.", []string{"zone", "file"}, nil)

var fileGoodDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "file_good"),
	"1 if the file was good when last read, 0 if it was bad or a missing weight file: its last good content is in force.",
	[]string{"zone", "file"}, nil)

var fileMissingDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "file_missing"),
	"1 if the file was missing when last read. A missing overrides file is good and counts as an empty one.",
	[]string{"zone", "file"}, nil)

// counterBook holds the counters of all rules that the process has ever served, because a reload
// must not reset a counter. It is a prometheus.Collector. Safe for concurrent use.
type counterBook struct{ byLabels sync.Map }

var allCounters = &counterBook{}

func init() { prometheus.MustRegister(allCounters) }

// of returns the counters for some labels. They belong to the Corefile, so there are few.
func (b *counterBook) of(labels counterLabels) *counters {
	c, _ := b.byLabels.LoadOrStore(labels, &counters{labels: labels})
	return c.(*counters)
}

// Describe implements prometheus.Collector.
func (b *counterBook) Describe(descs chan<- *prometheus.Desc) {
	descs <- responsesDesc
	descs <- removedRecordsDesc
}

// Collect implements prometheus.Collector.
func (b *counterBook) Collect(metrics chan<- prometheus.Metric) {
	b.byLabels.Range(func(_, value any) bool {
		c := value.(*counters)
		l := c.labels
		for o, name := range outcomeNames {
			metrics <- prometheus.MustNewConstMetric(responsesDesc, prometheus.CounterValue, c.responses[o].value(), l.server, l.zone, l.view, name)
		}
		for why, name := range reasonNames {
			metrics <- prometheus.MustNewConstMetric(removedRecordsDesc, prometheus.CounterValue, c.removed[why].value(), l.server, l.zone, l.view, name)
		}
		return true
	})
}

var (
	rampingDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "ramping"),
		"Members in a slow start: they came back or joined, and have a part of their weight.", []string{"zone"}, nil)
	failbackWaitingDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "failback_waiting"),
		"RRsets for which a later tier goes on serving although an earlier one could, as the option failback says.", []string{"zone"}, nil)
)

var (
	localityNodesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "locality_nodes"),
		"Nodes that localities come from.", []string{"zone"}, nil)
	localityReachedDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "locality_api_server_reached"),
		"1 if the API server that localities come from answered when it was last asked, else 0: then the last state stays in force.",
		[]string{"zone"}, nil)
)

// The fleet of the process, and the votes on the endpoints of a rule.
var (
	fleetMembersDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "fleet_members"),
		"Live replicas of the fleet, this one included.", []string{"fleet"}, nil)
	fleetAloneDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "fleet_alone"),
		"1 if the replica sees fewer than half of the replicas of a minute ago, and goes by its own verdicts.", []string{"fleet"}, nil)
	fleetMessagesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "fleet_messages_total"),
		"Messages about votes, without those about membership. Of these, some are skipped because they are not understood, and some lost because they cannot be sent or too many wait.", []string{"fleet", "direction"}, nil)
	fleetBytesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "fleet_bytes_total"),
		"Bytes of messages about votes, before encryption.", []string{"fleet", "direction"}, nil)
	fleetVotesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "fleet_votes"),
		"Valid votes on the endpoints of a rule.", []string{"zone", "verdict"}, nil)
	fleetDisagreementsDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "fleet_disagreements"),
		"Endpoints of a rule whose valid votes differ.", []string{"zone"}, nil)
)

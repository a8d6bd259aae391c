// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"sync"
	"sync/atomic"

	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what became of an answer. Where several apply the highest is counted.
type outcome int

const (
	passed   outcome = iota // went out as it came up
	ordered                 // its records were put in order
	sealed                  // so were they, and some would have been removed but for a signature
	filtered                // some of them were removed
)

var outcomeNames = [...]string{passed: "passed", ordered: "ordered", sealed: "sealed", filtered: "filtered"}

// tally is a counter that several cores increase at once: each in a place of its own, for a place
// that cores share costs them more than the rest of an answer. Safe for concurrent use.
type tally [tallyPlaces]struct {
	n atomic.Uint64
	_ [cacheLine - 8]byte
}

const (
	tallyPlaces = 8
	cacheLine   = 64 // bytes, where we run
)

func (t *tally) add(place uint8, n int) { t[place%tallyPlaces].n.Add(uint64(n)) } //nolint:gosec // n is a count

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
	limit     tally // records removed because of the option answers
}

type counterLabels struct{ server, zone, view string }

// count counts an answer and the records removed from it.
func (c *counters) count(place uint8, o outcome, removed int) {
	c.responses[o].add(place, 1)
	if removed > 0 {
		c.limit.add(place, removed)
	}
}

var (
	responsesDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "responses_total"),
		"Counter of answers that went through a rule, by what became of them.",
		[]string{"server", "zone", "view", "result"}, nil)
	removedRecordsDesc = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, "removed_records_total"),
		"Counter of records that were removed from answers, by reason.",
		[]string{"server", "zone", "view", "reason"}, nil)
)

// counterBook holds the counters of the process, of all rules that ever served: a counter must
// not go back when a Corefile is reloaded. It is a prometheus.Collector. Safe for concurrent use.
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
		metrics <- prometheus.MustNewConstMetric(removedRecordsDesc, prometheus.CounterValue, c.limit.value(), l.server, l.zone, l.view, "limit")
		return true
	})
}

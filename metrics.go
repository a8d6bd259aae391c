// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
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

var (
	responsesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "responses_total",
		Help:      "Counter of answers that went through a rule, by what became of them.",
	}, []string{"server", "zone", "view", "result"})

	removedRecordsTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "removed_records_total",
		Help:      "Counter of records that were removed from answers, by reason.",
	}, []string{"server", "zone", "view", "reason"})
)

// counters are a rule's counters for one server and view. They are found once and kept, for
// finding them takes a lock. Immutable.
type counters struct {
	server, view string

	responses [len(outcomeNames)]prometheus.Counter
	limit     prometheus.Counter // records removed because of the option answers
}

// countersOf returns the rule's counters for a server and a view. Servers and views are those of
// the Corefile, and few.
func (z *zoneRule) countersOf(server, view string) *counters {
	for {
		known := z.counters.Load()
		if known != nil {
			for _, c := range *known {
				if c.server == server && c.view == view {
					return c
				}
			}
		}
		c := newCounters(server, z.zone, view)
		var all []*counters
		if known != nil {
			all = slices.Clone(*known)
		}
		all = append(all, c)
		if z.counters.CompareAndSwap(known, &all) {
			return c
		}
	}
}

func newCounters(server, zone, view string) *counters {
	c := &counters{server: server, view: view, limit: removedRecordsTotal.WithLabelValues(server, zone, view, "limit")}
	for o, name := range outcomeNames {
		c.responses[o] = responsesTotal.WithLabelValues(server, zone, view, name)
	}
	return c
}

// count counts an answer and the records removed from it.
func (c *counters) count(o outcome, removed int) {
	c.responses[o].Inc()
	if removed > 0 {
		c.limit.Add(float64(removed))
	}
}

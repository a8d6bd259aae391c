// SPDX-License-Identifier: Apache-2.0

package health

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are the counters of a check in a zone. Safe for concurrent use.
type counters struct {
	passed, failed            prometheus.Counter // probes
	localErrors, inconclusive prometheus.Counter // probes without a result
	late                      prometheus.Counter // probes that began late
	duration                  prometheus.Observer
	full                      prometheus.Counter // endpoints beyond max_endpoints
	outside                   prometheus.Counter // addresses that the rule does not allow
	hints                     prometheus.Counter // held connections that their peers ended
	holdErrors                prometheus.Counter // connections that could not be opened

	transitions [len(verdictNames)]prometheus.Counter // by the new verdict
}

func countersOf(zone, check string) counters {
	c := counters{
		passed:       probesTotal.WithLabelValues(zone, check, "success"),
		failed:       probesTotal.WithLabelValues(zone, check, "failure"),
		localErrors:  probesTotal.WithLabelValues(zone, check, "error"),
		inconclusive: probesTotal.WithLabelValues(zone, check, "inconclusive"),
		late:         probesLate.WithLabelValues(zone, check),
		duration:     probeDuration.WithLabelValues(zone, check),
		full:         probesRefused.WithLabelValues(zone, "table_full"),
		outside:      probesRefused.WithLabelValues(zone, "not_allowed"),
		hints:        hintsTotal.WithLabelValues(zone), holdErrors: holdErrors.WithLabelValues(zone),
	}
	for _, v := range []Verdict{Up, Down} {
		c.transitions[v] = transitionsTotal.WithLabelValues(zone, v.String())
	}
	return c
}

// countTransition counts a new verdict. A verdict that was only dropped does not count.
func (c *counters) countTransition(v Verdict) {
	if v != Unknown {
		c.transitions[v].Inc()
	}
}

// countDiscarded counts a probe without a result.
func (c *counters) countDiscarded(evasive bool) {
	if evasive {
		c.inconclusive.Inc()
		return
	}
	c.localErrors.Inc()
}

// count counts a probe.
func (c *counters) count(passed bool, took time.Duration) {
	if passed {
		c.passed.Inc()
	} else {
		c.failed.Inc()
	}
	c.duration.Observe(took.Seconds())
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

var localityAnswers = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace,
	Subsystem: pluginName,
	Name:      "locality_answers_total",
	Help:      "Counter of answers of rules with prefer locality, by the locality of the client and of the member that leads.",
}, []string{"zone", "client", "lead"})

// localityCounts counts whose members lead for whose clients. There are at most as many counts as
// pairs of known localities. Safe for concurrent use.
type localityCounts struct {
	byPair atomic.Pointer[map[localityPair]*localityCount] // copied to add one
}

type localityPair struct{ client, lead locality.Locality }

// localityCount is one count, kept twice: the one for Prometheus outlives the rule, the one for the
// page does not.
type localityCount struct {
	total   prometheus.Counter
	answers atomic.Uint64
}

// count counts an answer.
func (c *localityCounts) count(zone string, pair localityPair) {
	one := c.known()[pair]
	if one == nil {
		one = c.add(zone, pair)
	}
	one.total.Inc()
	one.answers.Add(1)
}

// known returns the counts so far. The caller must not change them.
func (c *localityCounts) known() map[localityPair]*localityCount {
	if known := c.byPair.Load(); known != nil {
		return *known
	}
	return nil
}

// add returns the count of a pair, a new one if there is none.
func (c *localityCounts) add(zone string, pair localityPair) *localityCount {
	for {
		before := c.byPair.Load()
		known := maps.Clone(c.known())
		if one := known[pair]; one != nil {
			return one
		}
		if known == nil {
			known = make(map[localityPair]*localityCount)
		}
		known[pair] = &localityCount{total: localityAnswers.WithLabelValues(zone, placeName(pair.client), placeName(pair.lead))}
		if c.byPair.CompareAndSwap(before, &known) {
			return known[pair]
		}
	}
}

// placeName returns the name of a locality, "unknown" for the unknown place.
func placeName(l locality.Locality) string {
	if !l.Known() {
		return "unknown"
	}
	return l.String()
}

// shown returns what the page shows of the counts, the clients' localities by name.
func (c *localityCounts) shown() []statuspage.Locality {
	byClient := make(map[locality.Locality]*statuspage.Locality)
	for pair, one := range c.known() {
		n := int(one.answers.Load())
		client := byClient[pair.client]
		if client == nil {
			client = &statuspage.Locality{Name: placeName(pair.client)}
			byClient[pair.client] = client
		}
		client.Answers += n
		client.Leads = append(client.Leads, statuspage.LocalityLeads{Name: placeName(pair.lead), Answers: n})
	}
	all := []statuspage.Locality{}
	for _, client := range byClient {
		slices.SortFunc(client.Leads, func(a, b statuspage.LocalityLeads) int {
			return cmp.Or(cmp.Compare(b.Answers, a.Answers), cmp.Compare(a.Name, b.Name))
		})
		all = append(all, *client)
	}
	slices.SortFunc(all, func(a, b statuspage.Locality) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

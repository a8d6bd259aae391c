// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// localities are the places of a rule's clients and members: those that its lines name, and those of
// the nodes of a Kubernetes cluster. Safe for concurrent use once the server starts.
type localities struct {
	ranges  []locality.Range  // of the lines
	cluster *locality.Cluster // nil without "locality kubernetes"

	nodes *locality.Nodes // while the server runs
	table atomic.Pointer[locality.Table]
}

// of returns the locality of an address.
func (l *localities) of(addr netip.Addr) locality.Locality {
	if l == nil {
		return 0
	}
	if table := l.table.Load(); table != nil {
		return table.Of(addr)
	}
	return 0
}

// longestPrefix returns how many bits of a client's address, of 32 or 128, its locality depends on.
func (l *localities) longestPrefix(bits int) int {
	if table := l.table.Load(); table != nil {
		return table.LongestPrefix(bits)
	}
	return 0
}

// ready reports whether the nodes of the cluster were read, if the rule goes by them.
func (l *localities) ready() bool { return l == nil || l.nodes == nil || l.nodes.Synced() }

// start makes the table, and makes it anew whenever nodes change; then it calls changed.
func (l *localities) start(changed func()) (err error) {
	if l == nil {
		return nil
	}
	table := locality.Table{}.With(l.ranges)
	l.table.Store(&table)
	if l.cluster == nil {
		return nil
	}
	started := make(chan struct{})
	defer close(started)
	l.nodes, err = locality.Follow(*l.cluster, log, func() {
		<-started
		table := l.nodes.Table().With(l.ranges)
		l.table.Store(&table)
		changed()
	})
	if err != nil {
		return fmt.Errorf("locality %w", err)
	}
	if l.nodes.Synced() { // another rule follows them, or the server before this one does
		table := l.nodes.Table().With(l.ranges)
		l.table.Store(&table)
	}
	return nil
}

// stop ends what start began.
func (l *localities) stop() {
	if l != nil && l.nodes != nil {
		l.nodes.Leave()
	}
}

// localityOption is a locality line.
type localityOption struct {
	name    string
	ranges  []netip.Prefix
	cluster *locality.Cluster
}

// parseLocality reads "locality NAME CIDR..." and "locality kubernetes [KUBECONFIG [CONTEXT]]".
func parseLocality(args []string) (o localityOption, err error) {
	if len(args) > 0 && args[0] == "kubernetes" {
		if len(args) > 3 {
			return o, wrongCount(args)
		}
		o.cluster = new(locality.Cluster)
		for i, into := range []*string{&o.cluster.Kubeconfig, &o.cluster.Context} {
			if i+1 < len(args) {
				*into = args[i+1]
			}
		}
		return o, nil
	}
	if len(args) < 2 {
		return o, wrongCount(args)
	}
	o.name = args[0]
	if _, err := cidr.ParseTargets(o.name); err == nil {
		return o, fmt.Errorf("found %q where a name is wanted: want a name of the place before its CIDRs, such as zone-a", o.name)
	}
	o.ranges, err = parsePrefixes(args[1:])
	return o, err
}

// inPlace describes the place of a choice, if it goes by one.
func (c choice) inPlace() string {
	if !c.place.Known() {
		return ""
	}
	return fmt.Sprintf(" locality, in %s", c.place)
}

// near is the option prefer locality. Immutable.
type near struct {
	only  bool // members of other localities are left out if there are enough
	spill bool
}

// keepNear leaves only the members of a locality in the answer, if at least min_healthy and at least
// half of its members in the serving tier can answer. It reports whether it does.
func (c *classification) keepNear(standings []standing, place locality.Locality, q quorum) bool {
	tier, total := standings[c.answering[0]].tier, 0
	for _, s := range standings {
		if s.tier == tier && s.place == place {
			total++
		}
	}
	var kept []uint16
	var far []exclusion
	for _, m := range c.answering {
		if standings[m].place == place {
			kept = append(kept, m)
		} else {
			far = append(far, exclusion{m, notNear})
		}
	}
	if len(kept) == 0 || len(kept) < q.of(total) || 2*len(kept) < total {
		return false
	}
	c.degraded = c.allDown || c.failedOver || slices.ContainsFunc(c.excluded, func(x exclusion) bool {
		s := standings[x.member]
		return x.why == wasDown && s.tier == tier && s.place == place
	})
	c.answering, c.excluded = kept, slices.Concat(far, c.excluded)
	return true
}

// prefers returns the choice that a plan follows. It is the client's own, except that "only" has the
// whole set answer if too few near members can.
func (r *rule) prefers(own choice, standings []standing, c *classification) choice {
	if own.line == noPreference || r.prefer[own.line].near == nil || !r.prefer[own.line].near.only || own.spilled || len(c.answering) == 0 {
		return own
	}
	if !c.keepNear(standings, own.place, r.minHealthy) {
		return choice{line: noPreference}
	}
	return own
}

// spills reports whether the rule has "prefer locality spill".
func (r *rule) spills() bool {
	return slices.ContainsFunc(r.prefer, func(p preference) bool { return p.near != nil && p.near.spill })
}

// shownNodes returns what the page shows of the cluster that localities come from, nil if there is none.
func (l *localities) shownNodes() *statuspage.Nodes {
	if l.nodes == nil {
		return nil
	}
	return &statuspage.Nodes{Cluster: l.cluster.String(), Synced: l.nodes.Synced(), Count: l.nodes.Len(), Problem: l.nodes.Problem()}
}

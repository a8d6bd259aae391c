// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// localities are the places of a rule's clients and members: those that its lines name, and those
// of the nodes of a Kubernetes cluster. Safe for concurrent use once the server starts.
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

// add adds a locality line, whose path may be relative to a directory.
func (l *localities) add(o localityOption, root string) error {
	if o.cluster != nil {
		if l.cluster != nil {
			return errors.New("kubernetes: given twice: want one cluster for a stanza")
		}
		l.cluster = o.cluster
		if path := &l.cluster.Kubeconfig; *path != "" {
			*path = pathIn(root, *path)
		}
		return nil
	}
	place := locality.Named(o.name)
	if !place.Known() {
		return fmt.Errorf("too many names: want at most %d in a process", locality.MaxLocalities)
	}
	for _, prefix := range o.ranges {
		if i := slices.IndexFunc(l.ranges, func(r locality.Range) bool { return r.Prefix == prefix }); i >= 0 {
			return fmt.Errorf("%q is in %s already: want it in one locality", cidr.Word(prefix), l.ranges[i].Locality)
		}
		l.ranges = append(l.ranges, locality.Range{Prefix: prefix, Locality: place})
	}
	return nil
}

// shownNodes returns what the page shows of the cluster that localities come from, nil if there is
// none.
func (l *localities) shownNodes() *statuspage.Nodes {
	if l.nodes == nil {
		return nil
	}
	return &statuspage.Nodes{Cluster: l.cluster.String(), Synced: l.nodes.Synced(), Count: l.nodes.Len(), Problem: l.nodes.Problem()}
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-f1518d44/balance/tools/internal/fakes"
)

const (
	origin     = "bench."
	ttlSeconds = 300
)

// Work is what is asked for: names with so many addresses each.
type Work struct {
	Name      string
	About     string
	Names     int
	Addresses int // of each name
}

var works = []Work{
	{Name: "3", About: "one name with 3 addresses", Names: 1, Addresses: 3},
	{Name: "8", About: "one name with 8 addresses", Names: 1, Addresses: 8},
	{Name: "64", About: "one name with 64 addresses", Names: 1, Addresses: 64},
	{Name: "names", About: "10,000 names with 3 addresses", Names: 10_000, Addresses: 3},
}

// fewer returns the works with fewer names, for a quick run.
func fewer() []Work {
	few := slices.Clone(works)
	for i := range few {
		few[i].Names = min(few[i].Names, 500)
	}
	return few
}

func (w Work) many() bool { return w.Names > 1 }

// zoneName is a name that a server has addresses of.
type zoneName struct {
	label string
	addrs []netip.Addr
}

func (n zoneName) fqdn() string { return n.label + "." + origin }

// weight is that of the i-th address of a name.
func weight(i int) int { return 3 - i%3 }

// names returns what the work asks for. Many names share as many addresses: each is in three of
// them.
func (w Work) names() []zoneName {
	names := make([]zoneName, w.Names)
	for i := range names {
		names[i].label = "w" + w.Name
		if w.many() {
			names[i].label = fmt.Sprintf("n%d", i)
		}
		for k := range w.Addresses {
			names[i].addrs = append(names[i].addrs, fakes.Address((i+k)%max(w.Names, w.Addresses)))
		}
	}
	return names
}

// inZone returns the works whose names a zone has: those that ask for one name, all if full.
func inZone(works []Work, full bool) []Work {
	return slices.DeleteFunc(slices.Clone(works), func(w Work) bool { return w.many() && !full })
}

// zone returns the names of works.
func zone(works []Work) []zoneName {
	var names []zoneName
	for _, w := range works {
		names = append(names, w.names()...)
	}
	return names
}

// header begins every zone file.
const header = "$ORIGIN " + origin + "\n$TTL 300\n" +
	"@ IN SOA ns hostmaster 1 7200 3600 1209600 300\n@ IN NS ns\nns IN A 127.0.0.1\n"

// zoneFile returns a zone file, with the records of a name as record says.
func zoneFile(names []zoneName, record func(zoneName) string) string {
	var b strings.Builder
	b.WriteString(header)
	for _, n := range names {
		b.WriteString(record(n))
	}
	return b.String()
}

// plainRecords are the addresses of a name.
func plainRecords(n zoneName) string {
	var b strings.Builder
	for _, a := range n.addrs {
		fmt.Fprintf(&b, "%s IN A %s\n", n.label, a)
	}
	return b.String()
}

// weightFile returns the weights as loadbalance and balance read them.
func weightFile(names []zoneName) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString(n.fqdn() + "\n")
		for i, a := range n.addrs {
			fmt.Fprintf(&b, "%s %d\n", a, weight(i))
		}
	}
	return b.String()
}

// queryFile returns the questions of a work as dnsperf reads them.
func (w Work) queryFile() string {
	var b strings.Builder
	for _, n := range w.names() {
		b.WriteString(n.fqdn() + " A\n")
	}
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

// Package zonedata finds the addresses and services of names in zones whose records are all known.
package zonedata

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/names"
)

// Data is the records of zones. Names are spelled as names.Spell spells them. Not safe for
// concurrent use.
type Data struct {
	zones   []string            // whose records are all known
	addrs   map[string][]Record // by owner
	aliases map[string]string   // targets of CNAME records, by owner
	opaque  map[string]bool     // owners of NS or DNAME records: what lies below is elsewhere
	exists  map[string]bool     // names with records, and those above them
	targets map[string][]string // of SRV records, by owner
}

// Record is an A or AAAA record.
type Record struct {
	Addr netip.Addr
	TTL  uint32
}

// New returns no data.
func New() *Data {
	return &Data{addrs: map[string][]Record{}, aliases: map[string]string{}, opaque: map[string]bool{}, exists: map[string]bool{}, targets: map[string][]string{}}
}

// AddZone says that all records of a zone are, or will be, among the data.
func (d *Data) AddZone(zone string) { d.zones = append(d.zones, names.Spell(zone)) }

// Add adds a record of a zone.
func (d *Data) Add(zone string, rr dns.RR) {
	zone, owner := names.Spell(zone), names.Spell(rr.Header().Name)
	if !names.InZone(owner, zone) {
		return
	}
	for name, end := owner, false; !end && len(name) >= len(zone); name, end = parent(name) {
		d.exists[name] = true
	}
	switch rr := rr.(type) {
	case *dns.A:
		d.addAddress(owner, rr.A, rr.Hdr.Ttl)
	case *dns.AAAA:
		d.addAddress(owner, rr.AAAA, rr.Hdr.Ttl)
	case *dns.CNAME:
		d.aliases[owner] = names.Spell(rr.Target)
	case *dns.SRV:
		d.targets[owner] = append(d.targets[owner], names.Spell(rr.Target))
	case *dns.NS:
		if owner != zone {
			d.opaque[owner] = true
		}
	case *dns.DNAME:
		d.opaque[owner] = true
	}
}

func (d *Data) addAddress(owner string, ip []byte, ttl uint32) {
	if addr, ok := netip.AddrFromSlice(ip); ok {
		d.addrs[owner] = append(d.addrs[owner], Record{addr.Unmap(), ttl})
	}
}

// parent returns the name above another, and whether there is none.
func parent(name string) (above string, end bool) {
	if name == "." {
		return "", true
	}
	off, end := dns.NextLabel(name, 0)
	if end {
		return ".", false
	}
	return name[off:], false
}

// Holds reports whether all records of a name are known.
func (d *Data) Holds(name string) bool {
	return slices.ContainsFunc(d.zones, func(zone string) bool { return names.InZone(name, zone) }) && !d.isElsewhere(name)
}

func (d *Data) isElsewhere(name string) bool {
	for above, end := parent(name); !end; above, end = parent(above) {
		if d.opaque[above] {
			return true
		}
	}
	return d.opaque[name] && len(d.addrs[name]) == 0
}

// Services returns the owners of SRV records, in order.
func (d *Data) Services() []string { return slices.Sorted(maps.Keys(d.targets)) }

// Targets returns the names that the SRV records of a name, which is no alias, lead to.
func (d *Data) Targets(name string) []string { return d.targets[d.source(names.Spell(name))] }

// Names returns the names that have addresses or an alias, in order. Wildcards are among them.
func (d *Data) Names() []string {
	all := slices.Collect(maps.Keys(d.addrs))
	all = slices.AppendSeq(all, maps.Keys(d.aliases))
	slices.Sort(all)
	return slices.Compact(all)
}

// maxAliases bounds how many CNAME records are followed.
const maxAliases = 16

// Find returns the addresses of a name, and their owner: the name itself or, if it is an alias, the
// name at the end of the chain. It also reports whether all of them are known.
func (d *Data) Find(name string) (owner string, records []Record, known bool) {
	owner = names.Spell(name)
	for range maxAliases {
		if !d.Holds(owner) {
			return owner, nil, false
		}
		source := d.source(owner)
		target, isAlias := d.aliases[source]
		if !isAlias {
			return owner, d.addrs[source], true
		}
		owner = target
	}
	return owner, nil, true
}

// source returns the name whose records answer for another: itself or a wildcard (RFC 4592).
func (d *Data) source(name string) string {
	if d.exists[name] {
		return name
	}
	for above, end := parent(name); !end; above, end = parent(above) {
		if d.exists[above] {
			return "*." + strings.TrimPrefix(above, ".")
		}
	}
	return name
}

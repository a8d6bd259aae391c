// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// What a replica of a fleet asks of the rules that run.

// resolveForFleet returns the addresses of a name that other replicas are behind: as this server
// itself answers if it has a zone for it, which it may only after a while, else as this host's
// resolver does.
func resolveForFleet(ctx context.Context, name string) ([]netip.Addr, error) {
	if z := ruleNear(dns.Fqdn(name)); z != nil {
		if addrs, known := z.addressesOf(ctx, dns.Fqdn(name)); known {
			if len(addrs) == 0 {
				return nil, errors.New("this server has no address for it")
			}
			return addrs, nil
		}
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// ruleNear returns a rule of the server block whose zone is the longest that a name lies in, nil if
// there is none.
func ruleNear(name string) (near *zoneRule) {
	longest := ""
	for _, l := range runningLives() {
		zone := plugin.Zones(l.blockZones).Matches(name)
		if zone == "" || len(zone) <= len(longest) {
			continue
		}
		for _, z := range l.zones {
			near, longest = z, zone
			break
		}
	}
	return near
}

// addressesOf returns the addresses that the plugins below have for a name, and whether they know:
// a failure says nothing.
func (z *zoneRule) addressesOf(ctx context.Context, name string) (addrs []netip.Addr, known bool) {
	known = true
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m := z.lookup(ctx, name, qtype)
		known = known && m != nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError)
		if m == nil {
			continue
		}
		for _, rr := range m.Answer {
			if memberHeader(rr) != nil {
				addrs = append(addrs, memberOf(rr).addr.Unmap())
			}
		}
	}
	return addrs, known || len(addrs) > 0
}

// localityOfAddress returns the locality that the first stanza with localities knows for an
// address, which may be none.
func localityOfAddress(addr netip.Addr) string {
	for _, l := range runningLives() {
		for _, r := range l.rules {
			if place := r.localities.of(addr); place.Known() {
				return place.String()
			}
		}
	}
	return ""
}

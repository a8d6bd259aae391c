// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"slices"
)

// guarded are ranges in which nothing is probed unless an allow entry lies inside the range itself: whoever can write a
// record must not be able to aim probes at this host or its link (RFC 6890). A translator must not do it either, so the
// IPv4 ranges are here in their IPv6 spellings too.
var guarded = withTranslations([]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64 (RFC 8215): the place of the IPv4 address in it is not known
	netip.MustParsePrefix("2001::/32"),      // Teredo (RFC 4380), which hides an IPv4 address
})

// translations are the IPv6 ranges that hold IPv4 addresses: NAT64 (RFC 6052), SIIT (RFC 2765), 6to4 (RFC 3056), and
// the IPv4-compatible ones of RFC 4291. The IPv4 address begins after the prefix.
var translations = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("::ffff:0:0:0/96"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("::/96"),
}

// withTranslations returns ranges, and the IPv6 spellings of the IPv4 ones.
func withTranslations(ranges []netip.Prefix) []netip.Prefix {
	all := slices.Clone(ranges)
	for _, r := range ranges {
		if !r.Addr().Is4() {
			continue
		}
		v4 := r.Addr().As4()
		for _, t := range translations {
			v6 := t.Addr().As16()
			copy(v6[t.Bits()/8:], v4[:])
			all = append(all, netip.PrefixFrom(netip.AddrFrom16(v6), t.Bits()+r.Bits()))
		}
	}
	return all
}

// MayProbe reports whether an address may be probed. One of IPv4 is that also if a record spells it as IPv6.
func MayProbe(allow []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, entry := range allow {
		if entry.Contains(addr) && !isGuarded(addr, entry) {
			return true
		}
	}
	return false
}

// isGuarded reports whether an address lies in a guarded range, and the entry that holds it does not lie inside that range.
func isGuarded(addr netip.Addr, entry netip.Prefix) bool {
	return slices.ContainsFunc(guarded, func(r netip.Prefix) bool { return r.Bits() > entry.Bits() && r.Contains(addr) })
}

// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"slices"
)

// guarded are ranges that nothing in them is probed in unless an allow entry lies inside the range
// itself: whoever can write a record must not aim our probes at this host or its link (RFC 6890),
// nor have a translator do it: the ranges of IPv4 stand there in their IPv6 spellings too.
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
	netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64 of one's own (RFC 8215): where in it the IPv4 address stands is not known
	netip.MustParsePrefix("2001::/32"),      // Teredo (RFC 4380), which hides one
})

// translations are where IPv6 has IPv4 addresses in it: NAT64 (RFC 6052), SIIT (RFC 2765),
// 6to4 (RFC 3056), and the IPv4-compatible ones of RFC 4291. The length is where the address begins.
var translations = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("::ffff:0:0:0/96"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("::/96"),
}

// withTranslations adds to ranges the IPv6 spellings of those of IPv4.
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

// isGuarded tells whether an address lies in a guarded range that an entry, which holds it, does not lie inside.
func isGuarded(addr netip.Addr, entry netip.Prefix) bool {
	return slices.ContainsFunc(guarded, func(r netip.Prefix) bool { return r.Bits() > entry.Bits() && r.Contains(addr) })
}

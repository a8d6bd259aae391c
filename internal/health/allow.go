// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"slices"
)

// guarded are ranges in which an address is probed only if an allow entry lies inside the range
// itself. Otherwise whoever can write a record could aim probes at this host or its link (RFC
// 6890). The IPv6 spellings of the IPv4 ranges are guarded too, because a translator would reach
// the same hosts.
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
	netip.MustParsePrefix("64:ff9b:1::/48"), // local NAT64 (RFC 8215), whose layout is not known
	netip.MustParsePrefix("2001::/32"),      // Teredo (RFC 4380), which obfuscates the IPv4 address
})

// translations are the IPv6 prefixes that can precede an IPv4 address inside an IPv6 address: NAT64
// (RFC 6052), SIIT (RFC 2765), 6to4 (RFC 3056) and IPv4-compatible (RFC 4291).
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

// MayProbe reports whether an address may be probed. An IPv4-mapped address is judged as IPv4.
func MayProbe(allow []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, entry := range allow {
		if entry.Contains(addr) && !isGuarded(addr, entry) {
			return true
		}
	}
	return false
}

// isGuarded reports whether addr lies in a guarded range that is narrower than entry, which
// contains addr.
func isGuarded(addr netip.Addr, entry netip.Prefix) bool {
	return slices.ContainsFunc(guarded, func(r netip.Prefix) bool { return r.Bits() > entry.Bits() && r.Contains(addr) })
}

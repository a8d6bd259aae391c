// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"
)

// guarded are ranges that nothing in them is probed in unless an allow entry lies inside the range
// itself: whoever can write a record must not aim our probes at this host or its link (RFC 6890).
var guarded = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// mayProbe tells whether an address, which is unmapped, may be probed.
func mayProbe(allow []netip.Prefix, addr netip.Addr) bool {
	for _, entry := range allow {
		if entry.Contains(addr) && (!isGuarded(addr) || liesInGuarded(entry)) {
			return true
		}
	}
	return false
}

func isGuarded(addr netip.Addr) bool {
	return slices.ContainsFunc(guarded, func(r netip.Prefix) bool { return r.Contains(addr) })
}

// liesInGuarded tells whether an entry lies inside a guarded range.
func liesInGuarded(entry netip.Prefix) bool {
	return slices.ContainsFunc(guarded, func(r netip.Prefix) bool { return r.Bits() <= entry.Bits() && r.Contains(entry.Addr()) })
}

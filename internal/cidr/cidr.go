// SPDX-License-Identifier: Apache-2.0

// Package cidr reads addresses and CIDRs as operators write them.
package cidr

import (
	"fmt"
	"net/netip"
	"strings"
)

// Parse reads a CIDR, or an address for the CIDR that holds it alone. One with bits set behind its
// length, with a zone, or of an IPv4 address in IPv6 spelling is an error, which says what was
// meant.
func Parse(arg string) (netip.Prefix, error) {
	p, err := ParseUnmasked(arg)
	if err == nil && p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("bad CIDR %q: it has bits set behind its length; did you mean %q?", arg, p.Masked())
	}
	return p, err
}

// ParseUnmasked is Parse, but takes a CIDR with bits set behind its length, and keeps them.
func ParseUnmasked(arg string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(WithoutBrackets(arg)); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(arg)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("bad address or CIDR %q: want one such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32", arg)
	}
	return p, nil
}

// WithoutBrackets returns what stands in the brackets around an IPv6 address, as in a URL. Other
// words are returned as they are.
func WithoutBrackets(word string) string {
	if inside, ok := strings.CutPrefix(word, "["); ok && strings.HasSuffix(inside, "]") && strings.Contains(inside, ":") {
		return strings.TrimSuffix(inside, "]")
	}
	return word
}

// ParseTargets is Parse, but takes an IPv4 address in IPv6 spelling for that address, as
// loadbalance does.
func ParseTargets(word string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(word); err == nil && addr.Is4In6() && addr.Zone() == "" {
		word = addr.Unmap().String()
	}
	return Parse(word)
}

// Word returns a prefix as it is written: an address if it holds only one.
func Word(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

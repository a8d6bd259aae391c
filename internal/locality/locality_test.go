// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"net/netip"
	"testing"
)

func ranges(t testing.TB, pairs ...string) (all []Range) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, Range{netip.MustParsePrefix(pairs[i]), Named(pairs[i+1])})
	}
	return all
}

func TestTable(t *testing.T) {
	cluster := Table{}.With(ranges(t, "10.0.0.0/16", "a", "10.1.0.0/16", "b", "2001:db8::/48", "a"))
	table := cluster.With(ranges(t, "10.0.7.0/24", "c", "10.1.0.0/16", "d"))
	for addr, want := range map[string]string{
		"10.0.1.1": "a", "10.0.7.1": "c", "::ffff:10.0.7.1": "c", "10.1.2.3": "d", "2001:db8::1": "a", "2001:db9::1": "", "192.0.2.1": "",
	} {
		if got := table.Of(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s is in %q, want %q", addr, got, want)
		}
	}
	if got := cluster.Of(netip.MustParseAddr("10.0.7.1")).String(); got != "a" {
		t.Errorf("the first table changed with the second: 10.0.7.1 is in %q, want a", got)
	}
	if got := fmt.Sprint(table.Names()); got != "[a b c d]" {
		t.Errorf("names %s, want [a b c d]", got)
	}
	if prefix, ok := table.PrefixOf(netip.MustParseAddr("10.0.7.9")); !ok || prefix.String() != "10.0.7.0/24" {
		t.Errorf("10.0.7.9 falls under %v, %v, want 10.0.7.0/24", prefix, ok)
	}
	if v4, v6 := table.LongestPrefix(32), table.LongestPrefix(128); v4 != 24 || v6 != 48 {
		t.Errorf("longest prefixes %d and %d, want 24 and 48", v4, v6)
	}
	if (Table{}).Of(netip.MustParseAddr("10.0.0.1")).Known() || (Table{}).Of(netip.Addr{}).Known() || table.Of(netip.Addr{}).Known() {
		t.Error("an address without a locality has one")
	}
}

func BenchmarkOf(b *testing.B) {
	var all []Range
	for i := range 5000 {
		all = append(all, Range{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), Named(fmt.Sprintf("zone-%d", i%3))})
	}
	table := Table{}.With(all)
	addr := netip.MustParseAddr("10.7.33.9")
	for b.Loop() {
		if !table.Of(addr).Known() {
			b.Fatal("no locality")
		}
	}
}

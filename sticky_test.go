// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// The hash is a contract: no release may send clients elsewhere.
func TestStickyVectors(t *testing.T) {
	keys := []struct {
		client, qname string
		want          uint64
	}{
		{"192.0.2.1", "www.example.org.", 0xbd2df77a74c7347e},
		{"192.0.2.254", "WWW.example.org.", 0xbd2df77a74c7347e},
		{"198.51.100.1", "www.example.org.", 0x87249db009dbb300},
		{"2001:db8:0:aa00::1", "www.example.org.", 0xc15aef4e5e1f0253},
	}
	for _, tc := range keys {
		if got := clientKey(netip.MustParseAddr(tc.client), defaultPrefixLengths, tc.qname); got != tc.want {
			t.Errorf("key of %s and %s is %#x, want %#x", tc.client, tc.qname, got, tc.want)
		}
	}
	orders := []struct {
		members []string
		weights []uint16
		client  uint64
		want    []uint16
	}{
		{[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []uint16{1, 1, 1}, 1, []uint16{0, 2, 1}},
		{[]string{"2001:db8::1", "2001:db8::2", "2001:db8::3"}, []uint16{1, 1, 1}, 1, []uint16{0, 2, 1}},
		{[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []uint16{1, 1, 1}, 2, []uint16{2, 0, 1}},
		{[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []uint16{9, 1, 90}, 3, []uint16{2, 0, 1}},
		{[]string{"192.0.2.1", "198.51.100.1", "203.0.113.1"}, []uint16{1, 1, 1}, 4, []uint16{2, 1, 0}},
	}
	for _, tc := range orders {
		if got := stickyOrder(addrMembers(tc.members...), tc.weights, tc.client); !slices.Equal(got, tc.want) {
			t.Errorf("%v with weights %v and client key %d: %v, want %v", tc.members, tc.weights, tc.client, got, tc.want)
		}
	}
}

func addrMembers(addrs ...string) (members []member) {
	for _, a := range addrs {
		members = append(members, member{addr: netip.MustParseAddr(a)})
	}
	return members
}

func stickyOrder(members []member, weights []uint16, client uint64) []uint16 {
	idx := make([]uint16, len(members))
	sticky(contest{members, weights, len(members)}).Order(client, idx)
	return idx
}

// prefixes10k are the keys of 10,000 client prefixes.
func prefixes10k() (keys []uint64) {
	addr := netip.MustParseAddr("10.0.0.0").As4()
	for i := range 10_000 {
		addr[1], addr[2] = byte(i>>8), byte(i)
		keys = append(keys, clientKey(netip.AddrFrom4(addr), defaultPrefixLengths, "www.example.org."))
	}
	return keys
}

// A member that goes moves its own clients only, and they are back when it returns.
func TestStickyMovesOnlyTheClientsOfTheMemberThatGoes(t *testing.T) {
	for _, m := range []int{2, 3, 5, 10, 50} {
		all, weights := membersOf(m), equalWeights(m)
		gone := m / 2
		left := slices.Delete(slices.Clone(all), gone, gone+1)
		moved := 0
		for _, key := range prefixes10k() {
			before, after := stickyOrder(all, weights, key), stickyOrder(left, weights[1:], key)
			host := all[before[0]]
			if host == all[gone] {
				moved++
				host = all[before[1]] // the next in its order takes the client over
			}
			if left[after[0]] != host {
				t.Fatalf("%d members: a client of another member moved", m)
			}
		}
		if share := float64(moved) / 10_000; share > 1/float64(m)+0.02 || share < 1/float64(m)-0.02 {
			t.Errorf("%d members: %.3f of the clients moved, want about %.3f", m, share, 1/float64(m))
		}
	}
}

// Where the members lie in several networks, too, a member that goes moves its own clients only.
// Only where it shares its number with another are up to half as many again moved.
func TestStickyInSeveralNetworks(t *testing.T) {
	tests := []struct {
		members []string // the last one goes
		most    float64  // of the clients that were not its own
	}{
		{[]string{"192.0.2.1", "192.0.2.2", "198.51.100.3"}, 0},
		{[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "198.51.100.5"}, 0},
		{[]string{"10.0.1.7", "10.0.2.7", "10.0.3.7"}, 0},
		{[]string{"2001:db8::8", "2001:db8::9", "2001:db8::10", "2001:db8::11", "2001:db8::a"}, 0},
		{[]string{"2001:db8::1", "2001:db8:1::2", "2001:db8:2::ffff"}, 0},
		{[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "198.51.100.1"}, 0.5 / 5},
	}
	for _, tc := range tests {
		all, weights := addrMembers(tc.members...), equalWeights(len(tc.members))
		left, innocent := all[:len(all)-1], 0
		for _, key := range prefixes10k() {
			before, after := stickyOrder(all, weights, key), stickyOrder(left, weights[1:], key)
			if int(before[0]) < len(left) && after[0] != before[0] {
				innocent++
			}
		}
		if share := float64(innocent) / 10_000; share > tc.most+0.01 || tc.most == 0 && innocent > 0 {
			t.Errorf("%v: %.4f of the clients of others moved, want at most %.2f", tc.members, share, tc.most)
		}
	}
}

// Members that share a number get the clients that their weights give them.
func TestStickySharesOfOneNumber(t *testing.T) {
	members, weights, count := addrMembers("192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.1"), []uint16{1, 3, 2, 4}, make([]float64, 4)
	for _, key := range prefixes10k() {
		order := stickyOrder(members, weights, key)
		count[order[0]] += 1.0 / 10_000
		slices.Sort(order)
		if !inOrder(order) {
			t.Fatalf("%v is no permutation", order)
		}
	}
	for i, w := range weights {
		if want := float64(w) / 10; count[i] < want-0.02 || count[i] > want+0.02 {
			t.Errorf("%v with weight %d gets %.3f of the clients, want %.3f", members[i].addr, w, count[i], want)
		}
	}
}

// Shares follow the weights. The standard deviation of a share of 10,000 is 0.5 % at most.
func TestStickyShares(t *testing.T) {
	for _, weights := range [][]uint16{{1, 3}, {1, 1, 1}, {65535, 1}, {5, 3, 2}, {1, 2, 3, 4, 5, 6, 7, 8}} {
		count, sum := make([]int, len(weights)), 0
		for _, w := range weights {
			sum += int(w)
		}
		for _, key := range prefixes10k() {
			count[stickyOrder(membersOf(len(weights)), weights, key)[0]]++
		}
		for i, w := range weights {
			got, want := float64(count[i])/10_000, float64(w)/float64(sum)
			if got < want-0.02 || got > want+0.02 {
				t.Errorf("weights %v: member %d leads %.3f of the clients, want %.3f", weights, i, got, want)
			}
		}
	}
}

// A and AAAA of one client meet on one host where the hosts share their numbers.
func TestStickyPairs(t *testing.T) {
	tests := []struct {
		name   string
		a      string
		aaaa   string // with the numbers
		numA   []int
		numQ   []string
		paired bool
	}{
		{"plain", "192.0.2.%d", "2001:db8::%s", []int{1, 2, 3}, []string{"1", "2", "3"}, true},
		{"decimal digits", "192.0.2.%d", "2001:db8::%s", []int{9, 10, 11, 200}, []string{"9", "10", "11", "200"}, true},
		{"hexadecimal digits", "192.0.2.%d", "2001:db8::%s", []int{9, 10, 11, 16}, []string{"9", "a", "b", "10"}, false},
		{"several networks", "10.0.%d.7", "2001:db8:%s::7", []int{1, 2, 3}, []string{"1", "2", "3"}, false},
		{"other numbers", "192.0.2.%d", "2001:db8::%s", []int{1, 2, 3}, []string{"101", "102", "103"}, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var a, aaaa []string
			for i := range tc.numA {
				a, aaaa = append(a, fmt.Sprintf(tc.a, tc.numA[i])), append(aaaa, fmt.Sprintf(tc.aaaa, tc.numQ[i]))
			}
			same := 0
			for _, key := range prefixes10k() {
				if stickyOrder(addrMembers(a...), equalWeights(len(a)), key)[0] == stickyOrder(addrMembers(aaaa...), equalWeights(len(a)), key)[0] {
					same++
				}
			}
			if (same == 10_000) != tc.paired {
				t.Errorf("%d of 10,000 clients meet on one host, want all: %v", same, tc.paired)
			}
		})
	}
}

// Members that are down do not change how the others are told apart.
func TestStickyWithVerdicts(t *testing.T) {
	m := message(t, "www.h. A", "www.h. A 10.0.0.1\n www.h. A 10.0.0.2\n www.h. A 10.0.0.3\n www.h. A 10.9.9.9")
	all, some := judged(t, "policy sticky", echo), judged(t, "policy sticky", echo, "10.9.9.9")
	lead := func(out *dns.Msg) string { return out.Answer[0].(*dns.A).A.String() }
	for i := range 256 {
		client := fmt.Sprintf("192.0.%d.1", i)
		before, after := lead(askFrom(t, all, m, client)), lead(askFrom(t, some, m, client))
		if before != after && before != "10.9.9.9" {
			t.Fatalf("client %s moved from %s to %s when 10.9.9.9 died", client, before, after)
		}
	}
}

// One client asks over and over, from two processes: one host, whatever order the upstream has; its
// neighbours in the prefix have the same one, others have others.
func TestStickyEndures(t *testing.T) {
	one, other := newHandler(t, "balance {\npolicy sticky\n}", echo), newHandler(t, "balance {\npolicy sticky 16 48\n}", echo)
	leads := map[string]map[string]bool{}
	for i := range 100 {
		m := addressesMsg(8)
		m.Answer = slices.Concat(m.Answer[i%8:], m.Answer[:i%8])
		for _, client := range []string{"192.0.2.1", "192.0.2.200"} {
			led := ask4(t, one, m, client)
			if leads["one"] == nil {
				leads["one"], leads["other"] = map[string]bool{}, map[string]bool{}
			}
			leads["one"][led] = true
		}
		leads["other"][ask4(t, other, m, fmt.Sprintf("192.0.%d.1", i))] = true
	}
	if len(leads["one"]) != 1 || len(leads["other"]) != 1 {
		t.Errorf("a client in one /24 was led by %v, one in a /16 by %v; want one each", leads["one"], leads["other"])
	}
	spread := map[string]bool{}
	for i := range 100 {
		spread[ask4(t, one, addressesMsg(8), fmt.Sprintf("10.0.%d.1", i))] = true
	}
	if len(spread) != 8 {
		t.Errorf("100 clients were led by %d of 8 members", len(spread))
	}
}

func ask4(t *testing.T, h plugin.Handler, m *dns.Msg, client string) string {
	t.Helper()
	return askFrom(t, h, m, client).Answer[0].(*dns.A).A.String()
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

var threeSorted = []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}

// block returns a server block of example.org that listens on 127.0.0.1, with some lines.
func block(lines ...string) string { return blockOf("example.org:0", lines...) }

func blockOf(zones string, lines ...string) string {
	return zones + " {\n    bind 127.0.0.1\n    " + strings.Join(lines, "\n    ") + "\n}\n"
}

// upstreams are chains that give the three addresses of www.example.org, each in its own way.
var upstreams = []struct {
	name  string
	chain func(t *testing.T) string
}{
	{"file", func(t *testing.T) string { return "file " + zone(t, "example.org.", threeAs) }},
	{"cached file", func(t *testing.T) string { return "cache\n    file " + zone(t, "example.org.", threeAs) }},
	{"shuffling", shuffling},
	{"cached shuffling", func(t *testing.T) string { return "cache\n    " + shuffling(t) }},
	{"hosts", func(*testing.T) string { return "hosts {\n" + threeHosts("www.example.org") + "}" }},
}

// threeHosts are the three addresses as the hosts plugin reads them, in an order of its own.
func threeHosts(name string) string {
	return fmt.Sprintf("192.0.2.3 %[1]s\n192.0.2.1 %[1]s\n192.0.2.2 %[1]s\n", name)
}

// shuffling starts a server that shuffles and returns how to get there. Its ports for UDP and TCP
// differ, hence prefer_udp.
func shuffling(t *testing.T) string {
	return "forward . " + start(t, block("loadbalance", "file "+zone(t, "example.org.", threeAs))).udp() + " {\n prefer_udp\n }"
}

func TestEachMemberLeadsEquallyOften(t *testing.T) {
	for _, up := range upstreams {
		t.Run(up.name, func(t *testing.T) {
			s := start(t, block("balance", up.chain(t)))
			clients := []*testserver.Client{dial(t, "udp", s.udp(), ""), dial(t, "tcp", s.tcp(), "")}
			lead, order := leads{}, []string(nil)
			for i := range 3000 {
				reply := clients[i%len(clients)].Ask(query("www.example.org.", dns.TypeA))
				if got := members(reply, dns.TypeA); !isRotation(got, threeSorted) {
					t.Fatalf("answer %d is %v, want a rotation of %v", i, got, threeSorted)
				}
				lead.add(reply, dns.TypeA)
				order = append(order, members(reply, dns.TypeA)[0])
			}
			lead.exactly(t, 3, 1000)
			follows(t, threeSorted, order)
		})
	}
}

func TestEachMemberLeadsEquallyOftenToConcurrentClients(t *testing.T) {
	for _, up := range upstreams {
		t.Run(up.name, func(t *testing.T) {
			s := start(t, block("balance", up.chain(t)))
			inParallel(t, s, 8, 375, query("www.example.org.", dns.TypeA)).even(t, 3, 1)
		})
	}
}

// inParallel has so many clients ask so many times each, half of them over TCP, and counts who led.
func inParallel(t *testing.T, s *server, clients, times int, q *dns.Msg) leads {
	t.Helper()
	all := make([]leads, clients)
	var wg sync.WaitGroup
	for i := range clients {
		c := dial(t, "udp", s.udp(), "")
		if i%2 == 1 {
			c = dial(t, "tcp", s.tcp(), "")
		}
		all[i] = leads{}
		wg.Go(func() {
			for range times {
				reply, err := c.TryAsk(q.Copy())
				if err != nil {
					t.Error(err)
					return
				}
				all[i].add(reply, q.Question[0].Qtype)
			}
		})
	}
	wg.Wait()
	return sum(all)
}

// A client that asks for both families in turn, as dual-stack clients do, must see every address
// of both lead. One counter for both would show it only every other one.
func TestFamiliesTakeTurnsApart(t *testing.T) {
	s := start(t, block("balance", "file "+zone(t, "example.org.",
		"www IN A 192.0.2.1\nwww IN A 192.0.2.2\nwww IN AAAA 2001:db8::1\nwww IN AAAA 2001:db8::2\n")))
	c := dial(t, "udp", s.udp(), "")
	four, six := leads{}, leads{}
	for range 100 {
		four.add(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
		six.add(c.Ask(query("www.example.org.", dns.TypeAAAA)), dns.TypeAAAA)
	}
	four.exactly(t, 2, 50)
	six.exactly(t, 2, 50)
}

func TestNamesAreEqualWithoutRegardToCase(t *testing.T) {
	s := start(t, block("balance", "file "+zone(t, "example.org.", threeAs)))
	c := dial(t, "udp", s.udp(), "")
	var order []string
	for _, name := range []string{"www.example.org.", "WWW.example.org.", "www.EXAMPLE.org.", "wWw.eXaMpLe.OrG."} {
		reply := c.Ask(query(name, dns.TypeA))
		if reply.Question[0].Name != name {
			t.Errorf("question comes back as %q, want %q", reply.Question[0].Name, name)
		}
		order = append(order, members(reply, dns.TypeA)[0])
	}
	follows(t, threeSorted, order)
}

// Names that a wildcard answers are RRsets of their own.
func TestWildcardNamesTakeTurnsApart(t *testing.T) {
	s := start(t, block("balance", "file "+zone(t, "example.org.", "*.w IN A 192.0.2.1\n*.w IN A 192.0.2.2\n")))
	c := dial(t, "udp", s.udp(), "")
	one, two := leads{}, leads{}
	for range 50 {
		one.add(c.Ask(query("one.w.example.org.", dns.TypeA)), dns.TypeA)
		two.add(c.Ask(query("two.w.example.org.", dns.TypeA)), dns.TypeA)
	}
	one.exactly(t, 2, 25)
	two.exactly(t, 2, 25)
}

func TestMXAndSRVRotateWithinTheirRank(t *testing.T) {
	s := start(t, block("balance", "file "+zone(t, "example.org.",
		"@ IN MX 10 mail-a\n@ IN MX 10 mail-b\n@ IN MX 20 backup\n"+
			"_sip._tcp IN SRV 1 0 5060 mail-a\n_sip._tcp IN SRV 1 0 5060 mail-b\n_sip._tcp IN SRV 2 0 5060 backup\n"+
			"mail-a IN A 192.0.2.1\nmail-a IN A 192.0.2.2\nmail-b IN A 192.0.2.3\nbackup IN A 192.0.2.4\n")))
	tests := []struct {
		name   string
		qtype  uint16
		backup string
	}{
		{"example.org.", dns.TypeMX, "20 backup.example.org."},
		{"_sip._tcp.example.org.", dns.TypeSRV, "2 0 5060 backup.example.org."},
	}
	c := dial(t, "udp", s.udp(), "")
	for _, tc := range tests {
		lead, glue := leads{}, leads{}
		for range 100 {
			reply := c.Ask(query(tc.name, tc.qtype))
			lead.add(reply, tc.qtype)
			glue[dataOf(reply.Extra, dns.TypeA)[0]]++
			if got := members(reply, tc.qtype); len(got) != 3 || got[2] != tc.backup {
				t.Fatalf("%s: answer is %v, want three with the backup last", tc.name, got)
			}
		}
		lead.exactly(t, 2, 50)
		if len(glue) != 2 || glue["192.0.2.1"] != 50 {
			t.Errorf("%s: glue leads with %v, want 192.0.2.1 and 192.0.2.2 50 times each", tc.name, glue)
		}
	}
}

func TestRandomLeadsWithEveryMember(t *testing.T) {
	s := start(t, block("balance {\n policy random\n }", "file "+zone(t, "example.org.", threeAs)))
	c := dial(t, "udp", s.udp(), "")
	lead := leads{}
	for range 600 {
		reply := c.Ask(query("www.example.org.", dns.TypeA))
		lead.add(reply, dns.TypeA)
		if got := members(reply, dns.TypeA); len(got) != 3 {
			t.Fatalf("answer is %v, want three", got)
		}
	}
	// 200 each are expected; 100 lie more than 8 standard deviations off.
	for _, who := range threeSorted {
		if lead[who] < 100 {
			t.Errorf("leads are %v, want about 200 each", lead)
		}
	}
}

func TestLongestZoneDecides(t *testing.T) {
	db := zone(t, "example.org.", threeAs+"a.sub IN A 192.0.2.1\na.sub IN A 192.0.2.2\na.sub IN A 192.0.2.3\n"+
		"b.sub IN A 192.0.2.1\nb.sub IN A 192.0.2.2\nb.sub IN A 192.0.2.3\n")
	s := start(t, block("balance {\n answers 3\n }", "balance sub.example.org {\n answers 2\n }",
		"balance a.sub.example.org {\n answers 1\n }", "file "+db))
	for name, want := range map[string]int{"www.example.org.": 3, "b.sub.example.org.": 2, "a.sub.example.org.": 1} {
		if got := members(ask(t, s.udp(), name, dns.TypeA), dns.TypeA); len(got) != want {
			t.Errorf("%s: answer is %v, want %d", name, got, want)
		}
	}
}

func TestZonesOutsideTheStanzaAreLeftAlone(t *testing.T) {
	s := start(t, block("balance sub.example.org {\n answers 1\n }", "file "+zone(t, "example.org.", threeAs)))
	for range 5 {
		if got := fmt.Sprint(members(ask(t, s.udp(), "www.example.org.", dns.TypeA), dns.TypeA)); got != fmt.Sprint(threeSorted) {
			t.Errorf("answer is %s, want %v as the file has it", got, threeSorted)
		}
	}
}

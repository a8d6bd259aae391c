// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

func TestOneStateOverAllListeners(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	tests := []struct {
		name, corefile string
		sockets        int
	}{
		{"bind", "example.org:0 {\nbind 127.0.0.1 127.0.0.2 127.0.0.3\nbalance\n" + db + "\n}", 3},
		{"multisocket", block("multisocket 4", "balance", db), 4},
		{"ports", blockOf("example.org:"+freePort(t)+" example.org:"+freePort(t), "balance example.org", db+" example.org"), 2},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, tc.corefile)
			var clients []*testserver.Client
			for i := range s.udps() {
				clients = append(clients, dial(t, "udp", s.udps()[i], ""), dial(t, "tcp", s.tcps()[i], ""))
			}
			if len(clients) != 2*tc.sockets {
				t.Fatalf("%d listeners, want %d", len(clients)/2, tc.sockets)
			}
			var order []string
			for i := range 60 {
				reply := clients[i%len(clients)].Ask(query("www.example.org.", dns.TypeA))
				order = append(order, members(reply, dns.TypeA)[0])
			}
			follows(t, threeSorted, order)
		})
	}
}

// Two members and two clients that ask in turn: one state for both blocks would show each client
// the same lead for ever.
func TestBlocksOfAZoneTakeTurnsApart(t *testing.T) {
	two := zone(t, "example.org.", as("www", "192.0.2.1", "192.0.2.2"))
	view := func(name, expr string) string {
		return block("view "+name+" {\n expr "+expr+"\n }", "balance", "file "+two)
	}
	viewed := view("near", `client_ip() == '127.0.0.2'`) + view("far", `client_ip() == '127.0.0.3'`)
	bound := fmt.Sprintf("example.org:0 {\nbind 127.0.0.2\nbalance\nfile %[1]s\n}\nexample.org:0 {\nbind 127.0.0.3\nbalance\nfile %[1]s\n}\n", two)
	for name, corefile := range map[string]string{"view": viewed, "bind": bound} {
		t.Run(name, func(t *testing.T) {
			s := start(t, corefile)
			near := dial(t, "udp", s.udps()[0], "127.0.0.2")
			far := dial(t, "udp", s.udps()[len(s.udps())-1], "127.0.0.3")
			nearLeads, farLeads := leads{}, leads{}
			for range 50 {
				nearLeads.add(near.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
				farLeads.add(far.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
			}
			nearLeads.exactly(t, 2, 25)
			farLeads.exactly(t, 2, 25)
		})
	}
}

func TestSeveralZonesInABlock(t *testing.T) {
	two := as("www", "192.0.2.1", "192.0.2.2")
	zones := []string{"example.org", "example.net", "sub.example.org"}
	lines := []string{"balance"}
	for _, z := range zones {
		lines = append(lines, "file "+zone(t, z+".", two)+" "+z)
	}
	s := start(t, blockOf(strings.Join(zones, ":0 ")+":0", lines...))
	c := dial(t, "udp", s.udp(), "")
	lead := map[string]leads{}
	for range 20 {
		for _, z := range zones {
			if lead[z] == nil {
				lead[z] = leads{}
			}
			lead[z].add(c.Ask(query("www."+z+".", dns.TypeA)), dns.TypeA)
		}
	}
	for _, z := range zones {
		lead[z].exactly(t, 2, 10)
	}
}

func TestReverseZones(t *testing.T) {
	s := start(t, blockOf("192.0.2.0/24:0", "balance", "file "+zone(t, "2.0.192.in-addr.arpa.", threeAs)))
	c := dial(t, "udp", s.udp(), "")
	lead := leads{}
	for range 30 {
		lead.add(c.Ask(query("www.2.0.192.in-addr.arpa.", dns.TypeA)), dns.TypeA)
	}
	lead.exactly(t, 3, 10)
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// as returns A records of one owner.
func as(owner string, addrs ...string) string {
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "%s IN A %s\n", owner, a)
	}
	return b.String()
}

func TestPreferredMembersComeFirst(t *testing.T) {
	db := "file " + zone(t, "example.org.", as("www", "10.9.10.1", "10.9.20.1", "10.9.20.2", "10.9.30.1", "10.9.30.2", "10.9.30.3"))
	prefer := "prefer 10.9.20.0/24 10.9.30.0/24"
	tests := []struct {
		name, stanza, from string
		want               []string // networks, in the order of the answer
	}{
		{"everybody", prefer, "127.0.0.1", []string{"10.9.20", "10.9.30", "10.9.10"}},
		{"client inside", prefer + " from 127.0.0.2", "127.0.0.2", []string{"10.9.20", "10.9.30", "10.9.10"}},
		{"first line that fits", prefer + " from 127.0.0.2\nprefer 10.9.10.0/24", "127.0.0.2", []string{"10.9.20", "10.9.30", "10.9.10"}},
		{"second line", prefer + " from 127.0.0.2\nprefer 10.9.10.0/24 10.9.30.0/24", "127.0.0.3", []string{"10.9.10", "10.9.30", "10.9.20"}},
		{"random inside", "policy random\n" + prefer, "127.0.0.1", []string{"10.9.20", "10.9.30", "10.9.10"}},
	}
	for _, tc := range tests {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(tc.name+" "+network, func(t *testing.T) {
				s := start(t, block("balance {\n"+tc.stanza+"\n}", db))
				addr := s.udp()
				if network == "tcp" {
					addr = s.tcp()
				}
				c := dial(t, network, addr, tc.from)
				for range 20 {
					got := members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
					if n := networks(got); len(got) != 6 || !slices.Equal(n, tc.want) {
						t.Fatalf("answer is %v, want the networks in the order %v", got, tc.want)
					}
				}
			})
		}
	}
}

// networks returns the /24s of addresses, neighbours once.
func networks(addrs []string) []string {
	var n []string
	for _, a := range addrs {
		n = append(n, a[:strings.LastIndexByte(a, '.')])
	}
	return slices.Compact(n)
}

func TestPreferredMembersLeadEqually(t *testing.T) {
	s := start(t, block("balance {\n prefer 10.9.20.0/24 from 127.0.0.2\n answers 1\n}",
		"file "+zone(t, "example.org.", as("www", "10.9.20.1", "10.9.20.2", "10.9.30.1", "10.9.30.2", "10.9.30.3"))))
	near, far := dial(t, "udp", s.udp(), "127.0.0.2"), dial(t, "udp", s.udp(), "127.0.0.1")
	nearLeads, farLeads := leads{}, leads{}
	for range 100 {
		nearLeads.add(near.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
		farLeads.add(far.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
	}
	nearLeads.exactly(t, 2, 50)
	farLeads.exactly(t, 5, 20)
}

func TestAnswersOne(t *testing.T) {
	s := start(t, block("balance {\n answers 1\n }", "cache", "file "+zone(t, "example.org.", threeAs)))
	clients := []*testserver.Client{dial(t, "udp", s.udp(), ""), dial(t, "tcp", s.tcp(), "")}
	lead := leads{}
	for i := range 3000 {
		reply := clients[i%2].Ask(query("www.example.org.", dns.TypeA))
		if got := members(reply, dns.TypeA); len(got) != 1 {
			t.Fatalf("answer is %v, want one", got)
		}
		lead.add(reply, dns.TypeA)
	}
	lead.exactly(t, 3, 1000)
}

func TestAnswersMoreThanThereAre(t *testing.T) {
	s := start(t, block("balance {\n answers 5\n }", "file "+zone(t, "example.org.", threeAs)))
	c := dial(t, "udp", s.udp(), "")
	for range 6 {
		if got := members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA); !isRotation(got, threeSorted) {
			t.Errorf("answer is %v, want a rotation of %v", got, threeSorted)
		}
	}
}

func TestAnswersEightOfTen(t *testing.T) {
	var addrs []string
	for i := range 10 {
		addrs = append(addrs, fmt.Sprintf("192.0.2.%d", i+1))
	}
	s := start(t, block("balance {\n answers 8\n }", "file "+zone(t, "example.org.", as("www", addrs...))))
	c := dial(t, "udp", s.udp(), "")
	lead, seen, sets := leads{}, map[string]int{}, map[string]bool{}
	for range 100 {
		reply := c.Ask(query("www.example.org.", dns.TypeA))
		lead.add(reply, dns.TypeA)
		got := members(reply, dns.TypeA)
		slices.Sort(got)
		if len(slices.Compact(got)) != 8 {
			t.Fatalf("answer is %v, want eight different ones", got)
		}
		sets[strings.Join(got, " ")] = true
		for _, a := range got {
			seen[a]++
		}
	}
	lead.exactly(t, 10, 10)
	if len(sets) < 2 {
		t.Errorf("the same eight every time: %v", sets)
	}
	for _, a := range addrs {
		if seen[a] != 80 {
			t.Errorf("%s appears %d times in 100 answers, want 80: %v", a, seen[a], seen)
		}
	}
}

// Other types than A and AAAA are never cut.
func TestAnswersLeavesMXAlone(t *testing.T) {
	s := start(t, block("balance {\n answers 1\n }", "file "+zone(t, "example.org.", "@ IN MX 10 a\n@ IN MX 10 b\n@ IN MX 10 c\n")))
	if got := members(ask(t, s.udp(), "example.org.", dns.TypeMX), dns.TypeMX); len(got) != 3 {
		t.Errorf("answer is %v, want three", got)
	}
}

func TestTTL(t *testing.T) {
	records := "long 300 IN A 192.0.2.1\nlong 300 IN A 192.0.2.2\nshort 3 IN A 192.0.2.1\nshort 3 IN A 192.0.2.2\nonly 300 IN A 192.0.2.1\n"
	tests := []struct {
		stanza string
		want   map[string]uint32
	}{
		{"ttl 30", map[string]uint32{"long": 30, "short": 3, "only": 300}},
		{"ttl 0", map[string]uint32{"long": 0, "short": 0, "only": 300}},
		{"ttl keep", map[string]uint32{"long": 300, "short": 3, "only": 300}},
		{"policy round_robin", map[string]uint32{"long": 300, "short": 3, "only": 300}},
	}
	for _, tc := range tests {
		s := start(t, block("balance {\n "+tc.stanza+"\n }", "file "+zone(t, "example.org.", records)))
		for name, want := range tc.want {
			for _, rr := range ask(t, s.udp(), name+".example.org.", dns.TypeA).Answer {
				if rr.Header().Ttl != want {
					t.Errorf("%s: %s has TTL %d, want %d", tc.stanza, name, rr.Header().Ttl, want)
				}
			}
		}
	}
}

// What file hands out is its zone and what cache hands out is its store: were either written to,
// the answers of another rule over the same records would show it.
func TestBorrowedRecordsStayAsTheyAre(t *testing.T) {
	zones := "file " + zone(t, "example.org.", threeAs+"six IN AAAA 2001:db8::1\nsix IN AAAA 2001:db8::2\nalias IN CNAME www\n")
	for _, below := range []string{zones, "cache {\n disable denial\n }\n" + zones} {
		// The rule for quiet names changes nothing that shows: its answers are what lies below.
		s := start(t, block("balance example.org {\n ttl 5\n answers 2\n }", "rewrite name exact bare.alias.example.org www.example.org",
			"balance bare.alias.example.org {\n ttl keep\n }", below))
		inParallel(t, s, 8, 50, query("www.example.org.", dns.TypeA))
		inParallel(t, s, 8, 20, query("alias.example.org.", dns.TypeA))
		reply := ask(t, s.udp(), "bare.alias.example.org.", dns.TypeA)
		if got := members(reply, dns.TypeA); !isRotation(got, threeSorted) {
			t.Errorf("answer is %v, want a rotation of %v", got, threeSorted)
		}
		for _, rr := range reply.Answer {
			if rr.Header().Ttl <= 5 {
				t.Errorf("TTL below is %d, lowered by the rule above", rr.Header().Ttl)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// shape says what stands where in a section: the type and, for what is not a member, the record.
func shape(rrs []dns.RR) []string {
	var s []string
	for _, rr := range rrs {
		switch rr := rr.(type) {
		case *dns.CNAME:
			s = append(s, "CNAME "+rr.Hdr.Name+" "+rr.Target)
		case *dns.DNAME:
			s = append(s, "DNAME "+rr.Hdr.Name+" "+rr.Target)
		default:
			s = append(s, dns.TypeToString[rr.Header().Rrtype]+" "+rr.Header().Name)
		}
	}
	return s
}

func TestChainsKeepTheirPlace(t *testing.T) {
	db := zone(t, "example.org.", "a IN CNAME b\nb IN CNAME c\nc IN CNAME d\nd IN CNAME www\n"+threeAs+
		"old IN DNAME new\nhost.new IN A 192.0.2.1\nhost.new IN A 192.0.2.2\nhost.new IN A 192.0.2.3\n")
	tests := []struct {
		name string
		want []string
	}{
		{"a.example.org.", []string{"CNAME a.example.org. b.example.org.", "CNAME b.example.org. c.example.org.",
			"CNAME c.example.org. d.example.org.", "CNAME d.example.org. www.example.org.",
			"A www.example.org.", "A www.example.org.", "A www.example.org."}},
		{"host.old.example.org.", []string{"DNAME old.example.org. new.example.org.",
			"CNAME host.old.example.org. host.new.example.org.",
			"A host.new.example.org.", "A host.new.example.org.", "A host.new.example.org."}},
	}
	s := start(t, block("balance", "file "+db))
	c := dial(t, "udp", s.udp(), "")
	for _, tc := range tests {
		lead := leads{}
		for range 30 {
			reply := c.Ask(query(tc.name, dns.TypeA))
			if got := shape(reply.Answer); !slices.Equal(got, tc.want) {
				t.Fatalf("%s: answer is %q, want %q", tc.name, got, tc.want)
			}
			lead.add(reply, dns.TypeA)
		}
		lead.exactly(t, 3, 10)
	}
}

// Forward hands on what another server says, in the order in which it says it.
func TestChainsThatComeLateGoAhead(t *testing.T) {
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{
			rr(t, "www.example.org. 60 IN A 192.0.2.1"), rr(t, "www.example.org. 60 IN A 192.0.2.2"),
			rr(t, "b.example.org. 60 IN CNAME www.example.org."), rr(t, "a.example.org. 60 IN CNAME b.example.org."),
			rr(t, "a.example.org. 60 IN TXT unasked"),
		}
		w.WriteMsg(m)
	})
	s := start(t, block("balance", "forward . "+up))
	c := dial(t, "udp", s.udp(), "")
	want := []string{"CNAME a.example.org. b.example.org.", "CNAME b.example.org. www.example.org.",
		"A www.example.org.", "A www.example.org.", "TXT a.example.org."}
	lead := leads{}
	for range 20 {
		reply := c.Ask(query("a.example.org.", dns.TypeA))
		if got := shape(reply.Answer); !slices.Equal(got, want) {
			t.Fatalf("answer is %q, want %q", got, want)
		}
		lead.add(reply, dns.TypeA)
	}
	lead.exactly(t, 2, 10)
}

// Where file follows a CNAME out of its zone, the query comes to the server anew. Were that a turn
// too, one of two members would lead for ever: the alias where one rule holds both names, the name
// behind it where it has a rule of its own and both are asked for.
func TestNestedLookupsTakeOneTurn(t *testing.T) {
	inside := "file " + zone(t, "example.net.", as("www", "192.0.2.1", "192.0.2.2"))
	aliases := "file " + zone(t, "example.org.", "alias IN CNAME www.example.net.\nalias2 IN CNAME alias\n")
	tests := []struct {
		name     string
		corefile string
	}{
		{"another block", block("balance", aliases) + blockOf("example.net:0", "balance", inside)},
		{"the same block", blockOf("example.org:0 example.net:0", "balance", aliases+" example.org", inside+" example.net")},
		{"the same rule", blockOf(".:0", "balance", aliases+" example.org", inside+" example.net")},
		{"cached", block("balance", "cache", aliases) + blockOf("example.net:0", "balance", "cache", inside)},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, "udp", start(t, tc.corefile).udp(), "")
			for _, name := range []string{"alias.example.org.", "alias2.example.org."} {
				lead := leads{}
				for range 60 {
					lead.add(c.Ask(query(name, dns.TypeA)), dns.TypeA)
				}
				lead.exactly(t, 2, 30)
			}
			if tc.name == "the same rule" {
				return // both names are one RRset there
			}
			direct := leads{}
			for range 60 {
				c.Ask(query("alias.example.org.", dns.TypeA))
				direct.add(c.Ask(query("www.example.net.", dns.TypeA)), dns.TypeA)
			}
			direct.exactly(t, 2, 30)
		})
	}
}

func TestTranslatedFamiliesTakeTurns(t *testing.T) {
	tests := []struct {
		name, line, records string
		qtype               uint16
	}{
		{"dns64", "dns64 {\n allow_ipv4\n }", threeAs, dns.TypeAAAA},
		{"siit", "siit", "www IN AAAA 64:ff9b::c000:201\nwww IN AAAA 64:ff9b::c000:202\nwww IN AAAA 64:ff9b::c000:203\n", dns.TypeA},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, block(tc.line, "balance", "file "+zone(t, "example.org.", tc.records)))
			c := dial(t, "udp", s.udp(), "")
			lead := leads{}
			for range 60 {
				reply := c.Ask(query("www.example.org.", tc.qtype))
				if got := len(members(reply, tc.qtype)); got != 3 {
					t.Fatalf("%d members, want 3: %v", got, reply)
				}
				lead.add(reply, tc.qtype)
			}
			lead.exactly(t, 3, 20)
		})
	}
}

func TestNamesChangedBelowTakeTurns(t *testing.T) {
	file := "file " + zone(t, "example.org.", threeAs)
	tests := []struct {
		name  string
		lines []string
		ask   string
		want  []string
	}{
		{"rewrite name", []string{"rewrite name exact alias.example.org www.example.org answer auto", file},
			"alias.example.org.", []string{"A alias.example.org."}},
		{"rewrite continue", []string{"rewrite continue name exact alias.example.org other.example.org answer auto",
			"rewrite continue name exact other.example.org www.example.org answer auto", file},
			"alias.example.org.", []string{"A alias.example.org."}},
		{"rewrite without answer", []string{`rewrite name regex alias\.example\.org www.example.org`, file},
			"alias.example.org.", []string{"A www.example.org."}},
		{"rewrite regex", []string{`rewrite stop {
			name regex (.*)\.alias\.example\.org {1}.example.org
			answer name (.*)\.example\.org {1}.alias.example.org
		}`, file}, "www.alias.example.org.", []string{"A www.alias.example.org."}},
		// erratic's own search path is a.example.org, b.example.org and the root. Over file itself
		// autopath would write its CNAMEs into the zone.
		{"autopath", []string{"autopath @erratic", "hosts {\n" + threeHosts("www.b.example.org") + "}", "erratic {\n drop 0\n }"},
			"www.a.example.org.", []string{"CNAME www.a.example.org. www.b.example.org.", "A www.b.example.org."}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, "udp", start(t, block(append([]string{"balance"}, tc.lines...)...)).udp(), "")
			lead := leads{}
			for range 60 {
				reply := c.Ask(query(tc.ask, dns.TypeA))
				if got := slices.Compact(shape(reply.Answer)); !slices.Equal(got, tc.want) {
					t.Fatalf("answer is %q, want %q", got, tc.want)
				}
				if q := reply.Question[0].Name; q != tc.ask {
					t.Fatalf("question is %s, want %s", q, tc.ask)
				}
				lead.add(reply, dns.TypeA)
			}
			lead.exactly(t, 3, 20)
		})
	}
}

// A rule is found by the name that the client asked for, whatever is asked below.
func TestRuleIsThatOfTheClientsQuestion(t *testing.T) {
	s := start(t, block("balance {\n answers 2\n }", "balance alias.example.org {\n answers 1\n }",
		"rewrite name exact alias.example.org www.example.org answer auto", "file "+zone(t, "example.org.", threeAs)))
	for name, want := range map[string]int{"alias.example.org.": 1, "www.example.org.": 2} {
		if got := members(ask(t, s.udp(), name, dns.TypeA), dns.TypeA); len(got) != want {
			t.Errorf("%s: answer is %v, want %d", name, got, want)
		}
	}
}

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

// southOf returns a block of south.test whose name pool has a farm's addresses and a check.
func southOf(t *testing.T, f *farm, options ...string) string {
	t.Helper()
	stanza := rule(append(options, f.check("tcp", "", "watch pool.south.test"))...)
	return blockOf("south.test:0", stanza, "file "+zone(t, "south.test.", f.as("pool")+f.aaaas("pool")))
}

func recordsOf(reply *dns.Msg, qtype uint16) (rrs []dns.RR) {
	for _, rr := range reply.Answer {
		if rr.Header().Rrtype == qtype {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}

// settled waits until a name has some members, and fails if any other answer comes after that.
func settled(t *testing.T, c *testserver.Client, name string, qtype uint16, ttl uint32, want ...string) {
	t.Helper()
	is := func(reply *dns.Msg) bool {
		got := members(reply, qtype)
		slices.Sort(got)
		return slices.Equal(got, want) && onlyTTL(recordsOf(reply, qtype), ttl)
	}
	var last *dns.Msg
	defer func() {
		if t.Failed() {
			t.Logf("the last reply was %v", last)
		}
	}()
	eventually(t, fmt.Sprintf("%s has %v with TTL %d", name, want, ttl), func() bool {
		last = c.Ask(query(name, qtype))
		return is(last)
	})
	for range 20 {
		if last = c.Ask(query(name, qtype)); !is(last) {
			t.Fatalf("reply is %v, want %v with TTL %d", last, want, ttl)
		}
	}
}

// A name that leads into another block has no dead member either, however it leads there. The TTL
// is the lower one of both rules.
func TestAliasesIntoAnotherBlockHoldNoDead(t *testing.T) {
	mapped := func(addrs ...string) (all []string) {
		for _, a := range addrs {
			all = append(all, "::ffff:"+a)
		}
		return all
	}
	tests := []struct {
		name  string
		block string // of north.test
		qtype uint16
		ttl   uint32
		six   bool
	}{
		{"one alias", "balance", dns.TypeA, 5, false},
		{"AAAA", "balance", dns.TypeAAAA, 5, true},
		{"a lower TTL outside", rule("ttl 60 3"), dns.TypeA, 3, false},
		{"a higher TTL outside", rule("ttl 60 50"), dns.TypeA, 5, false},
		{"another policy", rule("policy random"), dns.TypeA, 5, false},
		{"a check outside", rule(healthCheck("tcp", "PORT", "", quick)), dns.TypeA, 5, false},
		{"a cache between", "balance\ncache", dns.TypeA, 5, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFarm(t, 3, listening)
			db := "file " + zone(t, "north.test.", "www IN CNAME pool.south.test.\n")
			s := start(t, blockOf("north.test:0", strings.ReplaceAll(tc.block, "PORT", f.port), db)+southOf(t, f))
			c := dial(t, "udp", s.udp(), "")
			f.kill(2)
			want := f.addrs[:2]
			if tc.six {
				want = mapped(want...)
			}
			settled(t, c, "www.north.test.", tc.qtype, tc.ttl, want...)
		})
	}
}

func TestAliasesOverManyBlocksHoldNoDead(t *testing.T) {
	f := newFarm(t, 3, listening)
	first := blockOf("first.test:0", "balance", "file "+zone(t, "first.test.", "www IN CNAME www.second.test.\n"))
	second := blockOf("second.test:0", "file "+zone(t, "second.test.", "www IN CNAME www.third.test.\n"))
	third := blockOf("third.test:0", "balance", "file "+zone(t, "third.test.", "www IN CNAME alias\nalias IN CNAME pool.south.test.\n"))
	s := start(t, first+second+third+southOf(t, f))
	f.kill(0)
	settled(t, dial(t, "udp", s.udp(), ""), "www.first.test.", dns.TypeA, 5, f.addrs[1:]...)
}

// What leads elsewhere without an alias is no way around a check.
func TestOtherWaysIntoAnotherBlockHoldNoDead(t *testing.T) {
	for name, tc := range map[string]struct {
		plugin string // of north.test
		qtype  uint16
		want   []string
	}{
		"rewrite":       {"rewrite name www.north.test to.north.test", dns.TypeA, []string{"127.1.0.1", "127.1.0.2"}},
		"rewrite cname": {"rewrite cname exact pool.north.test. pool.south.test.", dns.TypeA, []string{"127.1.0.1", "127.1.0.2"}},
		"dns64":         {"dns64 {\n allow_ipv4\n }", dns.TypeAAAA, []string{"64:ff9b::7f01:1", "64:ff9b::7f01:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, 3, listening)
			north := zone(t, "north.test.", "to IN CNAME pool.south.test.\nwww IN CNAME to\n")
			if name == "rewrite cname" {
				north = zone(t, "north.test.", "www IN CNAME pool\n")
			}
			south := blockOf("south.test:0", rule(f.check("tcp", "", "watch pool.south.test")), "file "+zone(t, "south.test.", f.as("pool")))
			s := start(t, blockOf("north.test:0", "balance", tc.plugin, "file "+north)+south)
			f.kill(2)
			settled(t, dial(t, "udp", s.udp(), ""), "www.north.test.", tc.qtype, 5, tc.want...)
		})
	}
}

// One client query is one turn: each live member leads equally, behind an alias and without it.
func TestAliasesIntoAnotherBlockTakeTurns(t *testing.T) {
	f := newFarm(t, 3, listening)
	s := start(t, blockOf("north.test:0", "balance", "file "+zone(t, "north.test.", "www IN CNAME pool.south.test.\n"))+southOf(t, f))
	c := dial(t, "udp", s.udp(), "")
	f.kill(2)
	settled(t, c, "www.north.test.", dns.TypeA, 5, f.addrs[:2]...)
	settled(t, c, "pool.south.test.", dns.TypeA, 5, f.addrs[:2]...)
	outer, inner := leads{}, leads{}
	for range 300 {
		outer.add(c.Ask(query("www.north.test.", dns.TypeA)), dns.TypeA)
		inner.add(c.Ask(query("pool.south.test.", dns.TypeA)), dns.TypeA)
	}
	outer.exactly(t, 2, 150)
	inner.exactly(t, 2, 150)
}

// If all members of the inner rule are down, its all_down decides.
func TestAliasesIntoAnotherBlockThatIsAllDown(t *testing.T) {
	for lines, want := range map[string][]string{
		"all_down open": {"127.1.0.1", "127.1.0.2"}, "all_down nodata": nil, "all_down fallback 192.0.2.250": {"192.0.2.250"},
	} {
		t.Run(lines, func(t *testing.T) {
			f := deadFarm(t, 2, listening)
			s := start(t, blockOf("north.test:0", "balance", "file "+zone(t, "north.test.", "www IN CNAME pool.south.test.\n"))+southOf(t, f, lines))
			c := dial(t, "udp", s.udp(), "")
			var reply *dns.Msg
			defer func() {
				if t.Failed() {
					t.Logf("the last reply was %v", reply)
				}
			}()
			eventually(t, fmt.Sprintf("the answer is %v", want), func() bool {
				reply = c.Ask(query("www.north.test.", dns.TypeA))
				got := members(reply, dns.TypeA)
				slices.Sort(got)
				return reply.Rcode == dns.RcodeSuccess && slices.Equal(got, want) && onlyTTL(recordsOf(reply, dns.TypeA), 5)
			})
		})
	}
}

// A check on a name does not hold for the target of its alias, which resolvers may ask for. That is
// said.
func TestTargetWithoutTheCheckIsSaid(t *testing.T) {
	f := newFarm(t, 2, listening)
	log := capture(t, func() {
		s := start(t, block("balance", strings.Replace(rule(f.check("tcp", "")), "balance", "balance front.example.org", 1),
			"file "+zone(t, "example.org.", "front IN CNAME app\n"+f.as("app"))))
		c := dial(t, "udp", s.udp(), "")
		for range 10 {
			c.Ask(query("front.example.org.", dns.TypeA))
			c.Ask(query("app.example.org.", dns.TypeA))
		}
		s.stop()
	})
	var said []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "app.example.org") && strings.Contains(line, "front.example.org") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "[WARNING]") {
		t.Errorf("lines are %q, want one warning that names both", said)
	}
}

// services are SRV and MX records whose targets are two of the farm.
func services(f *farm) string {
	return "_http._tcp IN SRV 0 0 80 db1\n_http._tcp IN SRV 0 0 80 db2\n@ IN MX 10 db1\n@ IN MX 10 db2\n" + f.as("db1", 0) + f.as("db2", 1)
}

// A dead target leaves its SRV and MX records, with and without its address beside them.
func TestDeadTargetsLeaveServices(t *testing.T) {
	for name, beside := range map[string]string{"glue": "", "no glue": "minimal\n"} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, 2, listening)
			check := f.check("tcp", "", "watch db1.example.org db2.example.org")
			s := start(t, block(rule(check), beside+"file "+zone(t, "example.org.", services(f))))
			c := dial(t, "udp", s.udp(), "")
			settled(t, c, "_http._tcp.example.org.", dns.TypeSRV, 30, "0 0 80 db1.example.org.", "0 0 80 db2.example.org.")
			f.kill(1)
			settled(t, c, "_http._tcp.example.org.", dns.TypeSRV, 5, "0 0 80 db1.example.org.")
			settled(t, c, "example.org.", dns.TypeMX, 5, "10 db1.example.org.")
			reply := c.Ask(query("_http._tcp.example.org.", dns.TypeSRV))
			if got := dataOf(reply.Extra, dns.TypeA); slices.Contains(got, f.addrs[1]) {
				t.Errorf("the additional section has %q, want no dead address", got)
			}
			f.revive(1)
			settled(t, c, "_http._tcp.example.org.", dns.TypeSRV, 30, "0 0 80 db1.example.org.", "0 0 80 db2.example.org.")
		})
	}
}

// Answers to A and AAAA teach what SRV goes by.
func TestTargetsAreLearnedFromAnswers(t *testing.T) {
	f := newFarm(t, 2, listening)
	s := start(t, block(rule(f.check("tcp", "")), "minimal\nfile "+zone(t, "example.org.", services(f)+f.as("both"))))
	c := dial(t, "udp", s.udp(), "")
	f.kill(1)
	settled(t, c, "both.example.org.", dns.TypeA, 5, f.addrs[0])
	c.Ask(query("db1.example.org.", dns.TypeA))
	c.Ask(query("db2.example.org.", dns.TypeA))
	settled(t, c, "_http._tcp.example.org.", dns.TypeSRV, 5, "0 0 80 db1.example.org.")
}

// With all targets dead, SRV and MX answer as all_down says, as the targets' own names do.
func TestServicesThatAreAllDown(t *testing.T) {
	both := []string{"0 0 80 db1.example.org.", "0 0 80 db2.example.org."}
	for lines, want := range map[string]struct {
		rcode   int
		members []string
	}{
		"all_down open":                 {dns.RcodeSuccess, both},
		"all_down nodata":               {dns.RcodeSuccess, nil},
		"all_down servfail":             {dns.RcodeServerFailure, nil},
		"all_down fallback 192.0.2.250": {dns.RcodeSuccess, both},
	} {
		for _, beside := range []string{"", "minimal\n"} {
			t.Run(lines+" "+beside, func(t *testing.T) {
				f := deadFarm(t, 2, listening)
				check := f.check("tcp", "", "watch db1.example.org db2.example.org")
				s := start(t, block(rule(lines, check), beside+"file "+zone(t, "example.org.", services(f))))
				c := dial(t, "udp", s.udp(), "")
				for name, qtype := range map[string]uint16{"_http._tcp.example.org.": dns.TypeSRV, "example.org.": dns.TypeMX} {
					eventually(t, "the reply that all_down wants", func() bool {
						reply := c.Ask(query(name, qtype))
						if reply.Rcode != want.rcode || len(members(reply, qtype)) != len(want.members) || !onlyTTL(reply.Answer, 5) {
							return false
						}
						negative := len(want.members) == 0 && want.rcode == dns.RcodeSuccess
						return !negative || len(dataOf(reply.Ns, dns.TypeSOA)) == 1 && reply.Ns[0].Header().Ttl <= 5
					})
				}
			})
		}
	}
}

// Until a member has its first verdict, nobody shall cache the answer for long.
func TestAnswersBeforeTheFirstVerdictAreShort(t *testing.T) {
	f := newFarm(t, 2, listening)
	s := start(t, block(rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www"))))
	c := dial(t, "udp", s.udp(), "")
	if reply := c.Ask(query("www.example.org.", dns.TypeA)); !onlyTTL(reply.Answer, 5) {
		t.Errorf("the first answer is %v, want TTLs of 5", reply.Answer)
	}
	settled(t, c, "www.example.org.", dns.TypeA, 30, f.addrs...)
}

// An address that is never probed does not keep TTLs low.
func TestAddressesThatAreNotProbedKeepTheTTL(t *testing.T) {
	f := newFarm(t, 1, listening)
	s := start(t, block(rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")+"www IN A 192.0.2.1\n")))
	settled(t, dial(t, "udp", s.udp(), ""), "www.example.org.", dns.TypeA, 30, f.addrs[0], "192.0.2.1")
}

// A failover to the second tier has the low TTL, and is logged and counted. Dead members of a later
// tier degrade nothing.
func TestFailoverIsDegradedAndSaid(t *testing.T) {
	const failedOver = `coredns_balance_responses_total{result="failed_over"`
	f := newFarm(t, 3, listening)
	var counted float64
	log := capture(t, func() {
		k := startChecked(t, rule("tier 127.1.0.1 127.1.0.2", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(3, 0)
		f.kill(2)
		k.verdicts(2, 1)
		k.answers(30, f.addrs[:2]...)
		f.revive(2)
		k.verdicts(3, 0)
		f.kill(0)
		f.kill(1)
		k.verdicts(1, 2)
		settled(t, k.c, "www.example.org.", dns.TypeA, 5, f.addrs[2])
		for series, n := range counts(t, k.metrics) {
			if strings.HasPrefix(series, failedOver) {
				counted += n
			}
		}
		f.revive(0)
		k.answers(5, f.addrs[0])
		f.revive(1)
		k.answers(30, f.addrs[:2]...)
		k.stop()
	})
	if counted == 0 {
		t.Error("no answer is counted as failed_over")
	}
	var said []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "tier") {
			said = append(said, line)
		}
	}
	if len(said) != 2 || !strings.Contains(said[0], "[WARNING]") || !strings.Contains(said[0], "www.example.org. A") {
		t.Errorf("lines are %q, want a warning of the failover and a line of the failback", said)
	}
}

// Addresses beside a single SRV or MX record are treated as those beside many.
func TestAddressesBesideASingleRecord(t *testing.T) {
	three := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
	db := zone(t, "example.org.", "_one._tcp IN SRV 0 0 80 www\nmail IN MX 10 www\n"+threeAs)
	tests := []struct {
		name  string
		qtype uint16
	}{{"_one._tcp.example.org.", dns.TypeSRV}, {"mail.example.org.", dns.TypeMX}}
	for _, tc := range tests {
		s := start(t, block(rule("answers 1", "ttl 5"), "file "+db))
		c := dial(t, "udp", s.udp(), "")
		var led []string
		for range 9 {
			reply := c.Ask(query(tc.name, tc.qtype))
			got := dataOf(reply.Extra, dns.TypeA)
			if len(got) != 1 || !onlyTTL(reply.Extra[:1], 5) {
				t.Fatalf("%s: the additional section is %v, want one address with TTL 5", tc.name, reply.Extra)
			}
			led = append(led, got[0])
		}
		follows(t, three, led)
		s.stop()
	}
}

// Addresses of name servers take turns, in apex answers and in referrals.
func TestAddressesOfNameServersTakeTurns(t *testing.T) {
	servers := "ns IN A 192.0.2.54\nns IN A 192.0.2.55\nsub IN NS ns.sub\nns.sub IN A 192.0.2.56\nns.sub IN A 192.0.2.57\n"
	s := start(t, block("balance", "file "+zone(t, "example.org.", servers)))
	c := dial(t, "udp", s.udp(), "")
	for name, members := range map[string]int{"example.org.": 3, "www.sub.example.org.": 2} {
		lead := leads{}
		for range 30 {
			lead[dataOf(c.Ask(query(name, dns.TypeNS)).Extra, dns.TypeA)[0]]++
		}
		lead.exactly(t, members, 30/members)
	}
}

// "answers fit" puts as many members into a reply as a client's buffer takes, and cuts none over
// TCP.
func TestAnswersThatFit(t *testing.T) {
	var lines strings.Builder
	for i := range 60 {
		fmt.Fprintf(&lines, "www IN A 192.0.2.%d\n", i+1)
	}
	last := "www"
	for i := range 9 {
		alias := fmt.Sprintf("%s-%d", strings.Repeat("long-", 5), i)
		fmt.Fprintf(&lines, "%s IN CNAME %s\n", alias, last)
		last = alias
	}
	records := lines.String()
	s := start(t, block(rule("answers fit"), "file "+zone(t, "example.org.", records)))
	udp, tcp := dial(t, "udp", s.udp(), ""), dial(t, "tcp", s.tcp(), "")
	for _, tc := range []struct {
		name     string
		size     uint16 // of EDNS, 0 for none
		min, max int
	}{
		{"www.example.org.", 0, 27, 29},
		{"www.example.org.", 1232, 60, 60},
		{"www.example.org.", 600, 31, 34},
		{last + ".example.org.", 0, 1, 8},
	} {
		lead := leads{}
		for range 120 {
			q := query(tc.name, dns.TypeA)
			if tc.size > 0 {
				q.SetEdns0(tc.size, false)
			}
			reply := udp.Ask(q)
			if n := len(members(reply, dns.TypeA)); reply.Truncated || n < tc.min || n > tc.max {
				t.Fatalf("%s at %d: %d members, truncated %v, want %d to %d", tc.name, tc.size, n, reply.Truncated, tc.min, tc.max)
			}
			reply.Compress = true
			size, one := max(512, int(tc.size)), 16 // octets
			if n := reply.Len(); n > size || n+one <= size && tc.max < 60 {
				t.Errorf("%s at %d: %d octets, want as many as fit", tc.name, tc.size, n)
			}
			lead.add(reply, dns.TypeA)
		}
		lead.exactly(t, 60, 2)
		if n := len(members(tcp.Ask(query(tc.name, dns.TypeA)), dns.TypeA)); n != 60 {
			t.Errorf("%s: %d members over TCP, want 60", tc.name, n)
		}
	}
}

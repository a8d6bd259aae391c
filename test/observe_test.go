// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// Whatever would become of an answer, what goes out is what came, to the byte: order, TTL, AD and
// the client subnet option.
func TestObserveChangesNothing(t *testing.T) {
	f := newFarm(t, 3, listening)
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.AuthenticatedData = true
		if r.Question[0].Qtype == dns.TypeA {
			for _, a := range f.addrs {
				m.Answer = append(m.Answer, rr(t, r.Question[0].Name+" 300 IN A "+a))
			}
			m.Answer = append(m.Answer, rr(t, r.Question[0].Name+" 300 IN HTTPS 1 . alpn=h2 ipv4hint="+strings.Join(f.addrs, ",")))
		}
		w.WriteMsg(m)
	})
	without := start(t, block("forward . "+up))
	k := startChecked(t, rule("observe", "all_down servfail", "answers 2", "prefer "+f.addrs[2]+" from 198.51.100.0/24", "ecs 127.0.0.1", f.check("tcp", "")),
		"forward . "+up)
	same := func(when string) {
		t.Helper()
		q := query("www.example.org.", dns.TypeA)
		q.AuthenticatedData = true
		q.SetEdns0(1232, true)
		q.IsEdns0().Option = append(q.IsEdns0().Option,
			&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.ParseIP("198.51.100.0").To4()})
		for range 4 {
			want, got := exchange(t, without.tcp(), q), exchange(t, k.tcp(), q)
			if !slices.EqualFunc(want, got, bytes.Equal) {
				t.Fatalf("%s: differs from what comes without balance:\n%s", when, cmp.Diff(unpacked(t, want), unpacked(t, got)))
			}
		}
	}
	k.verdicts(3, 0)
	same("all up")
	f.kill(1)
	k.verdicts(2, 1)
	filtered, down := k.grown(responses("example.org.", "", "filtered")), k.grown(removed("example.org.", "", "down"))
	same("one down")
	if n := k.grown(responses("example.org.", "", "filtered")) - filtered; n != 8 {
		t.Errorf("%v answers counted as filtered, want the 8 that would have been, two an exchange", n)
	}
	if n := k.grown(removed("example.org.", "", "down")) - down; n != 16 {
		t.Errorf("%v records counted as removed, want the 8 members and 8 hints that would have been", n)
	}
	f.kill(0)
	f.kill(2)
	k.verdicts(0, 3)
	same("all down")
	if n := counts(t, k.metrics)[`coredns_balance_rule_info{observe="true",policy="round_robin",zone="example.org."}`]; n != 1 {
		t.Errorf("rule_info is %v, want 1", n)
	}
}

// Turns are taken while the rule observes: the members that would have led have had their lead.
func TestObserveTakesTurns(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	s := start(t, block("balance", db))
	c := dial(t, "udp", s.udp(), "")
	lead := func() int {
		return slices.Index(threeSorted, members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
	}
	before := lead()
	for _, lines := range [][]string{{"balance {\n observe\n }", db}, {"balance", db}} {
		if err := s.restart(block(lines...)); err != nil {
			t.Fatal(err)
		}
		if lines[0] != "balance" {
			lead()
		}
	}
	if got := lead(); got != (before+2)%3 {
		t.Errorf("member %d leads, want %d: the one before it had its lead unseen", got, (before+2)%3)
	}
}

// The log says that nothing happens, and what would.
func TestObserveIsSaid(t *testing.T) {
	steadily(t, 100*time.Millisecond, func() string { return observeIsSaid(t) })
}

func observeIsSaid(t *testing.T) (wrong string) {
	f := newFarm(t, 2, listening)
	log := capture(t, func() {
		k := startChecked(t, rule("observe", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(2, 0)
		f.kill(1)
		k.verdicts(1, 1)
		f.revive(1)
		k.verdicts(2, 0)
		k.answers(300, f.addrs...)
		k.stop()
	})
	for _, part := range []string{
		"example.org.: observe: answers go out as they came; what would become of them is counted and logged\n",
		"; observe: would leave the answers of example.org.\n",
		"; observe: would be back in the answers of example.org.\n",
	} {
		if strings.Count(log, part) != 1 {
			wrong = fmt.Sprintf("log has not one line with %q: %s", part, log)
		}
	}
	return wrong
}

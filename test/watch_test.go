// SPDX-License-Identifier: Apache-2.0

package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Watched names must not be asked for before the plugins below have started: cache is still being
// written to (which the race detector sees), hosts has not read its file.
func TestWatchWaitsForThePluginsBelow(t *testing.T) {
	f := newFarm(t, 2, silent)
	stanza := rule(healthCheck("http", f.port, "/", "watch www.example.org", "interval 1h", "timeout 30m"))
	hosts := file(t, "hosts", f.addrs[0]+" www.example.org\n"+f.addrs[1]+" www.example.org\n")
	early := 0
	for range 20 {
		addr := "127.0.0.1:" + freePort(t)
		began := time.Now()
		s := start(t, block("ready "+addr, stanza, "cache", "hosts "+hosts))
		if code, _ := get(t, "http://"+addr+"/ready"); code == http.StatusOK && time.Since(began) < 5*time.Second { // then it is anyway
			early++
		}
		s.stop()
	}
	if early > 0 {
		t.Errorf("ready without verdicts %d times of 20", early)
	}
}

// A watched name may be an alias for one in another block, which file asks the server for: it can
// as soon as a client has asked the server anything.
func TestWatchFollowsAliasesOutOfTheZone(t *testing.T) {
	f := newFarm(t, 2, listening)
	f.kill(1)
	k := startChecked(t, rule(f.check("tcp", "", "watch alias.example.org")), "file "+zone(t, "example.org.", "alias IN CNAME www.example.net.\n")+
		"\n}\n"+"example.net:0 {\nbind 127.0.0.1\nfile "+zone(t, "example.net.", f.as("www")))
	k.c.Ask(query("nothing.example.org.", dns.TypeTXT))
	eventually(t, "verdicts on both", func() bool { return len(k.seriesOf("coredns_balance_endpoint_up")) == 2 })
}

// An answer that is too long for UDP is asked for again over TCP.
func TestWatchOfALongAnswer(t *testing.T) {
	f := newFarm(t, 2, listening)
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Truncated = w.LocalAddr().Network() == "udp"
		if r.Question[0].Qtype == dns.TypeA && !m.Truncated {
			for _, a := range f.addrs {
				m.Answer = append(m.Answer, rr(t, "www.example.org. 60 IN A "+a))
			}
		}
		w.WriteMsg(m)
	})
	k := startChecked(t, rule(f.check("tcp", "", "watch www.example.org")), "forward . "+up)
	eventually(t, "verdicts on both", func() bool { return len(k.seriesOf("coredns_balance_endpoint_up")) == 2 })
}

// Of an address that one check may not probe, there will never be a verdict to wait for.
func TestReadyDoesNotWaitForWhatIsNotProbed(t *testing.T) {
	f := newFarm(t, 2, listening)
	addr := "127.0.0.1:" + freePort(t)
	k := startChecked(t, "ready "+addr, rule(f.check("tcp", "", "watch www.example.org"),
		"health_check tcp "+f.port+" {\n allow 127.1.0.2\n timeout 200ms\n interval 310ms\n}"), "file "+zone(t, "example.org.", f.as("www")))
	eventually(t, "verdicts on all that is probed", func() bool {
		now := counts(t, k.metrics)
		return now[endpoints("up")] == 2 && now[endpoints("unknown")] == 0
	})
	rounds := 0
	eventually(t, "ready", func() bool {
		rounds++ // a hundredth of a second or more each
		code, _ := get(t, "http://"+addr+"/ready")
		return code == http.StatusOK
	})
	if rounds > 100 {
		t.Errorf("ready after %d rounds with all verdicts known", rounds)
	}
}

// Where an only record is replaced when it is down, resolvers must not keep it for longer than
// others.
func TestTTLOfOnlyRecords(t *testing.T) {
	f := newFarm(t, 1, listening)
	for _, mode := range []string{"nodata", "servfail", "fallback 192.0.2.250"} {
		k := startChecked(t, rule("all_down "+mode, f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(1, 0)
		if reply := k.ask(dns.TypeA); !onlyTTL(reply.Answer, 30) {
			t.Errorf("all_down %s: answer is %v, want a TTL of 30", mode, reply.Answer)
		}
		k.stop()
	}
}

// The option answers holds for fallback addresses, too.
func TestAnswersOfFallback(t *testing.T) {
	f := deadFarm(t, 2, listening)
	k := startChecked(t, rule("answers 1", "all_down fallback 192.0.2.250 192.0.2.251", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(0, 2)
	lead := leads{}
	for range 4 {
		reply := k.ask(dns.TypeA)
		if got := members(reply, dns.TypeA); len(got) != 1 {
			t.Fatalf("answer is %v, want one", got)
		}
		lead.add(reply, dns.TypeA)
	}
	lead.exactly(t, 2, 2)
}

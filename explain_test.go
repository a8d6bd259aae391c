// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// why asks a handler, whose rule names the option status, why a client gets what it gets.
func why(t *testing.T, h plugin.Handler, name string, qtype uint16, client string) statuspage.WhyAnswer {
	t.Helper()
	for _, z := range h.(*Balance).rules.byZone {
		z.watcher.next.CompareAndSwap(nil, &h.(*Balance).Next)
	}
	answers := explain(context.Background(), []*life{lifeOf(h)}, statuspage.Question{Name: name, Type: qtype, Client: netip.MustParseAddr(client)}).Answers
	if len(answers) != 1 {
		t.Fatalf("%d answers, want 1", len(answers))
	}
	return answers[0]
}

func TestWhy(t *testing.T) {
	defer inUse.forget()
	const owner = "why.example.org."
	set := message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2\n"+owner+" 60 IN A 192.0.2.3")
	h := newHandler(t, "balance {\nstatus\npolicy weighted\nweight 192.0.2.2 5\nprefer 192.0.2.3 from 10.0.0.0/8\nanswers 2\nttl 30\n}", answering(set))
	got := why(t, h, owner, dns.TypeA, "10.1.2.3")
	if len(got.Answer) != 2 || !strings.HasSuffix(got.Answer[0], "\t30\tIN\tA\t192.0.2.3") || got.Result != "filtered" || got.Rule != "Testfile:1" {
		t.Errorf("answer %q, result %s, rule %s: want 192.0.2.3 first of two with TTL 30, filtered, Testfile:1", got.Answer, got.Result, got.Rule)
	}
	if len(got.RRsets) != 1 {
		t.Fatalf("%d RRsets, want 1", len(got.RRsets))
	}
	wantSteps := []string{
		"the client 10.1.2.3 comes under prefer, Testfile:5",
		"order: policy weighted (Testfile:3), at the next turn of this replica",
		"answers 2 (Testfile:6): 2 of 3 members",
		"TTL 30 instead of 60: ttl (Testfile:7)",
	}
	if steps := got.RRsets[0].Steps; !slices.Equal(steps, wantSteps) {
		t.Errorf("steps\n%s\nwant\n%s", strings.Join(steps, "\n"), strings.Join(wantSteps, "\n"))
	}
	members := got.RRsets[0].Members
	if first, last := members[0], members[2]; first.Member != "192.0.2.3" || first.Place != 1 || last.Place != 0 || last.State != "limit" {
		t.Errorf("members %+v: want 192.0.2.3 in the first place, and the last left out by limit", members)
	}
}

// Whoever asks why changes nothing: no turn is taken, no endpoint is probed for it, nothing is
// counted.
func TestWhyLeavesNoTrace(t *testing.T) {
	defer inUse.forget()
	const owner = "trace.example.org."
	set := message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2\n"+owner+" 60 IN A 192.0.2.3")
	h := judged(t, "status", answering(set))
	served := h.(*Balance).rules.only
	v := served.subscriptions[0].(*verdicts)
	for range 3 {
		foretold := why(t, h, owner, dns.TypeA, "127.0.0.1").Answer
		if len(v.seen) > 0 {
			t.Fatalf("endpoints %v are registered for probing", v.seen)
		}
		if served.counters.Load() != nil {
			t.Fatal("an answer was counted")
		}
		if again := why(t, h, owner, dns.TypeA, "127.0.0.1").Answer; len(again) != len(foretold) {
			t.Fatalf("answers %q and %q", foretold, again)
		}
	}
	ask(t, h, new(dns.Msg).SetQuestion(owner, dns.TypeA))
	for range 5 {
		foretold := why(t, h, owner, dns.TypeA, "127.0.0.1").Answer
		why(t, h, owner, dns.TypeA, "127.0.0.1")
		if got := texts(ask(t, h, new(dns.Msg).SetQuestion(owner, dns.TypeA)).Answer); !slices.Equal(got, foretold) {
			t.Fatalf("the answer is %q, and was foretold as %q", got, foretold)
		}
	}
}

// Before a client has asked, no plugin below can follow an alias into another server block: whoever
// asks why is told.
func TestWhyBeforeTheFirstClient(t *testing.T) {
	defer inUse.forget()
	h := newHandler(t, "balance {\nstatus\n}", plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
		m := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		m.Answer = records(t, "www.north. 300 CNAME pool.south.")
		return dns.RcodeSuccess, w.WriteMsg(m)
	}))
	if got := why(t, h, "www.north.", dns.TypeA, "127.0.0.1").Problem; !strings.Contains(got, "no client has asked yet") {
		t.Errorf("problem %q, want that no client has asked yet", got)
	}
}

func TestWhyOfTheDead(t *testing.T) {
	defer inUse.forget()
	const owner = "dead.example.org."
	set := message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2")
	h := judged(t, "status\nall_down nodata", answering(set))
	ask(t, h, new(dns.Msg).SetQuestion(owner, dns.TypeA))
	v := h.(*Balance).rules.only.subscriptions[0].(*verdicts)
	for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
		v.known[withoutPort(netip.MustParseAddr(addr))] = v.known[withoutPort(netip.MustParseAddr(addr))]
	}
	v.judge("192.0.2.1", "192.0.2.2")
	got := why(t, h, owner, dns.TypeA, "127.0.0.1")
	if len(got.Answer) != 0 || len(got.Authority) != 1 || !strings.Contains(fmt.Sprint(got.RRsets[0].Steps), "all 2 members are down: all_down nodata (") {
		t.Errorf("%+v: want NODATA with an SOA, because of all_down nodata", got)
	}
}

// An old failure is no reason for a member that is up.
func TestWhyOfWhatIsOver(t *testing.T) {
	defer inUse.forget()
	const owner = "over.example.org."
	h := judged(t, "status", answering(message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2")))
	v := h.(*Balance).rules.only.subscriptions[0].(*verdicts)
	up := withoutPort(netip.MustParseAddr("192.0.2.1"))
	v.known[up] = health.Endpoint{At: up, Verdict: health.Up, Since: filewatch.Clock(), Problem: "connection refused"}
	set := why(t, h, owner, dns.TypeA, "127.0.0.1").RRsets[0]
	if said := fmt.Sprint(set.Members); strings.Contains(said, "connection refused") {
		t.Errorf("reasons %s: want none of the failure that is over", said)
	}
}

// A rule of another block, which filters what a CNAME leads to, leaves no trace either, and says
// what it did.
func TestWhyOfAnAlias(t *testing.T) {
	defer inUse.forget()
	const owner = "pool.south.example."
	inner := judged(t, "status", answering(message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2")))
	v := inner.(*Balance).rules.only.subscriptions[0].(*verdicts)
	at := withoutPort(netip.MustParseAddr("192.0.2.2"))
	v.known[at] = health.Endpoint{At: at, Verdict: health.Down}
	outer := newHandler(t, "balance {\nstatus\n}", inner)
	counted := func() (n float64) {
		if known := inner.(*Balance).rules.only.counters.Load(); known != nil {
			for _, c := range *known {
				n += c.responses[filtered].value()
			}
		}
		return n
	}
	why(t, outer, owner, dns.TypeA, "127.0.0.1")
	before := counted()
	got := why(t, outer, owner, dns.TypeA, "127.0.0.1")
	if len(got.Answer) != 1 || !strings.HasSuffix(got.Answer[0], "192.0.2.1") {
		t.Errorf("answer %q, want 192.0.2.1 alone", got.Answer)
	}
	if len(v.seen) > 0 {
		t.Errorf("endpoints %v are registered for probing", v.seen)
	}
	if n := counted() - before; n > 0 {
		t.Errorf("%v answers are counted, want none", n)
	}
	if len(got.RRsets) != 1 || !strings.HasPrefix(got.RRsets[0].Steps[0], "on the way, the rule . (Testfile:1) filters this RRset") {
		t.Errorf("%+v: want the inner rule's RRset with its steps", got.RRsets)
	}
}

// A single record goes out as it came, and the reasons say so, also of one that is down.
func TestWhyOfASingleRecord(t *testing.T) {
	defer inUse.forget()
	const owner = "single.example.org."
	h := judged(t, "status", answering(message(t, owner+" A", owner+" 60 IN A 192.0.2.1")), "192.0.2.1")
	got := why(t, h, owner, dns.TypeA, "127.0.0.1")
	want := []string{
		"the only member is down: the answer fails open, as if all were up (the default of all_down)",
		"a single record is left as it is: TTL 60",
	}
	if len(got.Answer) != 1 || len(got.RRsets) != 1 || !slices.Equal(got.RRsets[0].Steps, want) {
		t.Fatalf("%+v: want the record, with the steps %q", got, want)
	}
	if m := got.RRsets[0].Members[0]; m.Place != 1 || m.State != "answers" {
		t.Errorf("%+v: want it in the first place", m)
	}
}

// Whoever asks why a member is down reads what each replica says of it, however many there are.
func TestWhyNamesVoters(t *testing.T) {
	up, down := fleet.Opinion{Verdict: fleet.Up}, fleet.Opinion{Verdict: fleet.Down}
	voters := []fleet.Voter{
		{Replica: "ns1", Locality: "zone-a", Opinion: down, Assigned: true, Counts: true},
		{Replica: "ns2", Opinion: down, Assigned: true, Counts: true},
		{Replica: "ns3", Assigned: true, Counts: true},
		{Replica: "ns4", Opinion: up, Counts: true},
		{Replica: "ns5", Opinion: up},
	}
	want := "votes: 1 up, 2 down (ns1 in zone-a down; ns2 down; ns3 has not voted; ns4 up, not assigned; ns5 up, which does not count)"
	if got := votesText(1, 2, voters); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
}

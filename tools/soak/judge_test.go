// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// The soak relies on the judge: each of these answers is wrong, and it has to say how.
func TestJudge(t *testing.T) {
	start := time.Now()
	members := someAddrs("192.0.2.1")[:3]
	dead, up := newTimeline(refusing), newTimeline(healthy)
	set := &rrset{name: "www.test.", qtype: dns.TypeA, members: members, ttl: 30, lacking: 5,
		health: map[netip.Addr]*timeline[health]{members[0]: up, members[1]: up, members[2]: dead}}
	forwarded := *set
	forwarded.forwarded = true
	calm := &reality{newTimeline(false), newTimeline(false), newTimeline[*quirk](nil), func() time.Duration { return 0 }}
	broken := &reality{calm.reloading, calm.starved, newTimeline(quirks[0]), calm.busy}
	tests := []struct {
		name    string
		reality *reality
		set     *rrset
		change  func(m *dns.Msg)
		wrong   string
		excused bool
	}{
		{"good", calm, set, func(*dns.Msg) {}, "", false},
		{"another id", calm, set, func(m *dns.Msg) { m.Id++ }, "id is", false},
		{"another question", calm, set, func(m *dns.Msg) { m.Question[0].Name = "www.test." }, "question is", false},
		{"a query", calm, set, func(m *dns.Msg) { m.Response = false }, "no reply", false},
		{"SERVFAIL", calm, set, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, "rcode is SERVFAIL", false},
		{"SERVFAIL of a broken upstream", broken, &forwarded, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, "", true},
		{"SERVFAIL beside a broken upstream", broken, set, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, "rcode is SERVFAIL", false},
		{"truncated", calm, set, func(m *dns.Msg) { m.Truncated = true }, "truncated", false},
		{"empty", calm, set, func(m *dns.Msg) { m.Answer = nil }, "no members", false},
		{"a member is missing", calm, set, func(m *dns.Msg) { m.Answer = m.Answer[:1] }, "192.0.2.2, which is up, is missing", false},
		{"a dead one answers", calm, set, func(m *dns.Msg) { m.Answer = append(m.Answer, answerOf(members[2], 5)) }, "192.0.2.3, which is down, is in", false},
		{"a stranger", calm, set, func(m *dns.Msg) { m.Answer = append(m.Answer, answerOf(netip.MustParseAddr("192.0.2.9"), 5)) }, "is no member", false},
		{"another owner", calm, set, func(m *dns.Msg) { m.Answer[0].Header().Name = "ftp.test." }, "want one of www.test.", false},
		{"high TTL", calm, set, func(m *dns.Msg) { m.Answer = []dns.RR{answerOf(members[0], 31), answerOf(members[1], 31)} }, "TTL is 31, want at most 30", false},
		{"TTL of a full answer", calm, set, func(m *dns.Msg) { m.Answer = []dns.RR{answerOf(members[0], 30), answerOf(members[1], 30)} }, "TTL is 30 while a member is missing", false},
		{"two TTLs", calm, set, func(m *dns.Msg) { m.Answer[1].Header().Ttl = 4 }, "TTLs are 5 and 4", false},
	}
	for _, tc := range tests {
		q := new(dns.Msg).SetQuestion("WWW.test.", dns.TypeA)
		reply := new(dns.Msg).SetReply(q)
		reply.Answer = []dns.RR{answerOf(members[0], 5), answerOf(members[1], 5)}
		reply.Question = slices.Clone(reply.Question)
		tc.change(reply)
		wrong, excused := tc.reality.judge(tc.set, q, reply, start.Add(time.Hour), start.Add(time.Hour))
		if !strings.Contains(wrong, tc.wrong) || (wrong == "") != (tc.wrong == "") || excused != tc.excused {
			t.Errorf("%s: %q, excused %v, want %q, %v", tc.name, wrong, excused, tc.wrong, tc.excused)
		}
	}
}

func answerOf(a netip.Addr, ttl uint32) dns.RR {
	return addressRecord("www.test.", a, ttl)
}

// A member that was up for long must be in the answer, one that was down for long must not. In
// between either is right.
func TestExpectation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		history := newTimeline(healthy)
		at := func(d time.Duration, want expectation) {
			t.Helper()
			<-time.After(d)
			if now := time.Now(); timing.expect(history, now, now, 0) != want {
				t.Errorf("expectation is %d, want %d", timing.expect(history, now, now, 0), want)
			}
		}
		at(0, mustAnswer)
		history.set(refusing)
		at(timing.downWithin(refusing, 0)-time.Millisecond, either)
		at(2*time.Millisecond, mustNot)
		history.set(healthy)
		at(timing.upWithin(0)-time.Millisecond, either)
		at(2*time.Millisecond, mustAnswer)
		history.set(silent)
		at(timing.downWithin(refusing, 0)+time.Millisecond, either)
		at(timing.downWithin(silent, 0)-timing.downWithin(refusing, 0), mustNot)
		history.set(severed)
		at(timing.downWithin(severed, 0)+time.Millisecond, mustNot) // it was silent before
		history.set(healthy)
		at(time.Hour, mustAnswer)
		history.set(severed)
		at(timing.downWithin(severed, 0)-time.Millisecond, either)
		at(2*time.Millisecond, mustNot)
		history.set(murky)
		at(time.Hour, either)
	})
}

// Right and wrong orders of leads: a letter for each member, a stroke between answers.
func TestOrders(t *testing.T) {
	shares := map[netip.Addr]int{addrsOf("a")[0]: 2, addrsOf("b")[0]: 1}
	for answers, order := range map[string]order{
		"abc bca cab abc":               &strict{},
		"abc bca ca ac":                 &strict{}, // b is gone when c is due
		"ac ca ab ba":                   &strict{}, // c is gone, and b new, when a is due
		"abc bca ca abc bca":            &strict{},
		"ab b b ab ba":                  &strict{}, // a returns to the only one
		"ab b ba!":                      &strict{}, // which leads once more
		"ab ba db bd":                   &strict{}, // a is gone when it is due, and d new
		"ab ba bd!":                     &strict{}, // b leads once more
		"abc abc!":                      &strict{}, // twice in a row
		"abc cab!":                      &strict{}, // skipped
		"acb!":                          &strict{}, // no rotation
		"ab ba ab ab ba ab":             &weighted{shares: func() map[netip.Addr]int { return shares }},
		"ab ba ba!":                     &weighted{shares: func() map[netip.Addr]int { return shares }},
		"ab ab ab!":                     &weighted{shares: func() map[netip.Addr]int { return shares }},
		"abc abc abc":                   &faithful{},
		"abc abc bca!":                  &faithful{},
		"ab ba ba ba ab ba ab ab ab ab": &weighted{shares: func() map[netip.Addr]int { return nil }},
	} {
		for i, answer := range strings.Fields(answers) {
			letters, bad := strings.CutSuffix(answer, "!")
			if wrong := order.next(addrsOf(letters)); (wrong != "") != bad {
				t.Errorf("%s: answer %d: %q", answers, i+1, wrong)
			}
		}
	}
}

func addrsOf(letters string) (all []netip.Addr) {
	for _, letter := range letters {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, 2, byte(letter)}))
	}
	return all
}

// One seed, one sequence of faults.
func TestDecks(t *testing.T) {
	sequence := func(seed uint64) (names []string) {
		for _, d := range newDecks(slices.Concat(reloadFaults(), floodFaults()), seed) {
			for range 3 * len(d.faults) {
				names = append(names, fmt.Sprint(d.next().name, d.lots.Uint64()))
			}
		}
		return names
	}
	if !slices.Equal(sequence(1), sequence(1)) || slices.Equal(sequence(1), sequence(2)) {
		t.Error("the sequence does not follow from the seed")
	}
}

// The resources of the server, read from its metrics and stacks.
func TestResources(t *testing.T) {
	r := new(resources)
	profile := "goroutine profile: total 6\n" +
		"3 @ 0x1 0x2\n#\t0x1\tinternal/poll.wait+0x1\tfd.go:1\n#\t0x2\tgithub.com/seed-f1518d44/balance.(*pool).work+0x2\thealth.go:1\n\n" +
		"1 @ 0x3\n#\t0x3\tgithub.com/seed-f1518d44/balance.(*life).start.func1+0x1\tlife.go:1\n\n" +
		"2 @ 0x4\n#\t0x4\tgithub.com/coredns/coredns/plugin/file.(*Zone).Reload.func1+0x1\treload.go:1\n\n" +
		"4 @ 0x5\n#\t0x5\tnet/http.(*Server).Serve+0x1\tserver.go:1\n"
	if err := r.readStacks(strings.NewReader(profile)); err != nil {
		t.Fatal(err)
	}
	metrics := "# HELP x\ncoredns_panics_total 2\ngo_memstats_heap_alloc_bytes 5e+06\n" +
		"coredns_balance_endpoints{state=\"down\",zone=\"a.\"} 1\ncoredns_balance_endpoints{state=\"up\",zone=\"a.\"} 3\n"
	if err := r.readMetrics(strings.NewReader(metrics)); err != nil {
		t.Fatal(err)
	}
	want := resources{Own: 1, Workers: 3, Others: 4, Strays: 2, Heap: 5_000_000, Series: 4, BalanceSeries: 2, Panics: 2, unsettled: 1}
	r.stacks = nil
	if fmt.Sprint(*r) != fmt.Sprint(want) {
		t.Errorf("resources are %+v, want %+v", *r, want)
	}
	if over := r.over((resources{Others: 4}).limits()); len(over) != 3 { // a goroutine of balance, a panic, an endpoint that is down
		t.Errorf("over the limits are %q, want three", over)
	}
}

// The report names what went wrong, and how often.
func TestReport(t *testing.T) {
	c := newCounts()
	c.begin("reload")
	c.query("up.test", "udp", false)
	c.lost("up.test", "udp", "")
	c.end("reload")
	c.query("up.test", "udp", false)
	for range 2 * keptFindings {
		c.violation("a dead member is answered", "192.0.2.1")
	}
	out := new(strings.Builder)
	c.print(io.Writer(out), resources{}, resources{})
	for _, want := range []string{"| reload | 1 | 0.0 | 2 | 1 | 0 |", "| 1: unexplained |", "| a dead member is answered | 10 | 192.0.2.1 |", "3 queries, 1 lost, 1 kinds of violations"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

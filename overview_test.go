// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/statuspage"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// lifeOf returns a life of the rules of a handler.
func lifeOf(h plugin.Handler) *life {
	l := &life{zones: make(map[string]*zoneRule)}
	for zone, served := range h.(*Balance).rules.byZone {
		l.rules = append(l.rules, served.rule)
		l.zones[zone] = served.zoneRule
	}
	return l
}

// shownOf returns what the page shows of an owner's RRset in a section, nil if it does not.
func shownOf(h plugin.Handler, owner string, where section) *statuspage.Name {
	for _, n := range newOverview([]*life{lifeOf(h)}).document().Names {
		if n.Name == owner && n.Section == sectionNames[where] {
			return &n
		}
	}
	return nil
}

// However many names clients ask for, and endpoints there are, the page has no more than it may,
// and says so.
func TestPageIsBounded(t *testing.T) {
	defer inUse.forget()
	const names, each, unnamed = 60, maxShownMembers + 44, maxShownEndpoints + 500
	h := judged(t, "status", echo)
	for i := range names {
		ask(t, h, aSet(fmt.Sprintf("n%d.bounded.", i), 1000*i, each))
	}
	o := newOverview([]*life{lifeOf(h)})
	v := o.rules[0].subscriptions[0].(*verdicts)
	for addr, n := netip.MustParseAddr("10.200.0.0"), 0; n < unnamed; addr, n = addr.Next(), n+1 {
		v.known[withoutPort(addr)] = health.Endpoint{At: withoutPort(addr), Verdict: health.Up}
	}
	doc := o.document()
	members := 0
	for _, n := range doc.Names {
		if members += len(n.Members); len(n.Members) != maxShownMembers || n.MembersOmitted != each-maxShownMembers {
			t.Fatalf("%s has %d members, and %d omitted", n.Name, len(n.Members), n.MembersOmitted)
		}
	}
	if members > maxShownOfAll || len(doc.Names) != maxShownOfAll/maxShownMembers || len(doc.Names)+doc.NamesOmitted != names {
		t.Errorf("%d names with %d members, %d names omitted", len(doc.Names), members, doc.NamesOmitted)
	}
	if len(doc.Endpoints) != maxShownEndpoints || len(doc.Endpoints)+doc.EndpointsOmitted != unnamed {
		t.Errorf("%d endpoints, %d omitted", len(doc.Endpoints), doc.EndpointsOmitted)
	}
}

// A reload that takes prefer lines away takes their RRsets off the page, and no more.
func TestStatusWithoutPreferLine(t *testing.T) {
	defer inUse.forget()
	const owner = "fewer-lines.example.org."
	next := answering(message(t, owner+" A", owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2"))
	query := new(dns.Msg).SetQuestion(owner, dns.TypeA)
	before := newHandler(t, "balance {\nstatus\nprefer 192.0.2.1 from 203.0.113.0/24\nprefer 192.0.2.2\n}", next)
	ask(t, before, query)
	if shown := shownOf(before, owner, inAnswer); shown == nil || *shown.PreferLine != 4 {
		t.Errorf("%+v, want the RRset of line 4", shown)
	}
	after := newHandler(t, "balance {\nstatus\nprefer 192.0.2.1 from 203.0.113.0/24\n}", next)
	if shown := shownOf(after, owner, inAnswer); shown != nil {
		t.Errorf("%+v, want nothing of a line that is gone", shown)
	}
	ask(t, after, query)
	if shown := shownOf(after, owner, inAnswer); shown == nil || shown.Answers != 1 {
		t.Errorf("%+v, want the RRset that was asked for", shown)
	}
}

// What the page says of members holds for the next answer, also if verdicts have changed since the
// last one.
func TestStatusForecast(t *testing.T) {
	defer inUse.forget()
	for i, options := range []string{"policy round_robin", "policy round_robin\nanswers 2", "policy random\nanswers 3", "policy weighted\nweight 10.0.0.2 0"} {
		owner := fmt.Sprintf("o%d.forecast.", i)
		h, m := judged(t, "status\n"+options, echo), setOf(owner, "abcdef")
		v := verdictsOf(h.(*Balance).rules.of(m))
		ask(t, h, m)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			var dead []string
			for _, j := range rng.Perm(6)[:rng.IntN(6)] {
				dead = append(dead, fmt.Sprintf("10.0.0.%d", j+1))
			}
			v.judge(dead...)
			var eligible strings.Builder
			for _, member := range shownOf(h, owner, inAnswer).Members {
				if member.State == "answers" {
					eligible.WriteByte('a' + netip.MustParseAddr(member.Member).As4()[3] - 1)
				}
			}
			got := order(ask(t, h, m))
			if strings.Trim(got, eligible.String()) != "" || !strings.Contains(options, "answers") && len(got) != eligible.Len() {
				t.Fatalf("%s: %s answer, want of %s", options, got, eligible.String())
			}
		}
	}
}

// Hints of a signed record stay as they are, so that the first one leads always.
func TestStatusCountsSignedHints(t *testing.T) {
	defer inUse.forget()
	for name, tc := range map[string]struct {
		options, hints string
		lead           string
	}{
		"up":     {"", "192.0.2.8,192.0.2.7", "192.0.2.8"},
		"down":   {"", "192.0.2.1,192.0.2.7", "192.0.2.1"},
		"nodata": {"all_down nodata", "192.0.2.2,192.0.2.1", "192.0.2.2"},
	} {
		owner := name + ".signed-hints.h."
		h := judged(t, "status\n"+tc.options, echo, "192.0.2.1", "192.0.2.2")
		m := message(t, owner+" HTTPS", owner+" 60 IN HTTPS 1 . ipv4hint="+tc.hints+"\n"+owner+" 60 IN RRSIG HTTPS 8 3 60 20990101000000 20200101000000 1 h. AAAA")
		for range 4 {
			ask(t, h, m)
		}
		shown := shownOf(h, owner, inHints)
		if shown == nil || shown.Answers != 4 {
			t.Fatalf("%s: %+v, want 4 answers", name, shown)
		}
		for _, member := range shown.Members {
			if lead := member.Member == tc.lead; lead != (member.Leads.Count == 4) {
				t.Errorf("%s: %s led %d times, want 4 for %s", name, member.Member, member.Leads.Count, tc.lead)
			}
		}
	}
}

// What all_down says is not for the additional section, whose addresses go out as if all were up.
func TestStatusOfGlueThatIsDown(t *testing.T) {
	defer inUse.forget()
	const owner = "glue-down.h."
	h := judged(t, "status\nall_down fallback 192.0.2.9", echo, "192.0.2.1", "192.0.2.2")
	m := message(t, "mx.h. MX", "mx.h. 60 IN MX 10 "+owner)
	m.Extra = records(t, owner+" 60 IN A 192.0.2.1\n"+owner+" 60 IN A 192.0.2.2")
	if out := ask(t, h, m); len(out.Extra) != 2 {
		t.Fatalf("want both addresses in\n%s", out)
	}
	if shown := shownOf(h, owner, inExtra); shown == nil || shown.Answer != "fail_open" || shown.Members[0].State != "answers" {
		t.Errorf("%+v, want one that fails open", shown)
	}
}

// Of two checks that ask the same of different addresses, each is shown with its own.
func TestStatusOfOneCheckTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		one, other := b.checkOf(), b.checkOf()
		one.allow, other.allow = []netip.Prefix{netip.PrefixFrom(a1, 32)}, []netip.Prefix{netip.PrefixFrom(a2, 32)}
		z := ruleWith("example.org.", one)
		z.checks, z.status = append(z.checks, other), defaultStatus
		z.subscribe()
		defer z.unsubscribe()
		z.verdictOn(withoutPort(a1))
		z.verdictOn(withoutPort(a2))
		wait(time.Minute)
		if v := z.verdictOn(withoutPort(a2)); v != health.Up {
			t.Errorf("%v, want up, because the check that may not probe it has no say", v)
		}
		for i, own := range []netip.Addr{a1, a2} {
			for _, addr := range []netip.Addr{a1, a2} {
				if known, ok := z.subscriptions[i].Peek(withoutPort(addr)); ok != (addr == own) || ok && known.Verdict != health.Up {
					t.Errorf("check %d knows %s as %v, want that each knows what it may probe", i, addr, known.Verdict)
				}
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/locality"
)

// placed returns a handler whose rule knows localities, as it does once the server has started.
func placed(t *testing.T, h plugin.Handler) plugin.Handler {
	t.Helper()
	rule := h.(*Balance).rules.only.rule
	if err := rule.localities.start(func() { rule.epoch.Add(1) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rule.localities.stop)
	return h
}

// addressesFor returns the addresses that a client gets for the A records of a message.
func addressesFor(t *testing.T, h plugin.Handler, m *dns.Msg, client string) (addrs []string) {
	t.Helper()
	for _, rr := range askFrom(t, h, m, client).Answer {
		if a, ok := rr.(*dns.A); ok {
			addrs = append(addrs, a.A.String())
		}
	}
	return addrs
}

const twoZones = "locality a 10.1.0.0/16\n locality b 10.2.0.0/16\n "

// The near members lead in turn, and the others follow.
func TestPreferLocality(t *testing.T) {
	m := message(t, "near.test. A", "near.test. A 10.1.0.1\nnear.test. A 10.1.0.2\nnear.test. A 10.2.0.1")
	h := placed(t, newHandler(t, "balance {\n "+twoZones+"prefer locality\n}", echo))
	leads := map[string]int{}
	for range 20 {
		got := addressesFor(t, h, m, "10.1.9.9")
		leads[got[0]]++
		if len(got) != 3 || got[2] != "10.2.0.1" {
			t.Fatalf("a client in a gets %v, want 10.2.0.1 last of three", got)
		}
	}
	if leads["10.1.0.1"] != 10 || leads["10.1.0.2"] != 10 {
		t.Errorf("leads %v, want 10 for each near member", leads)
	}
	if got := addressesFor(t, h, m, "10.2.9.9"); got[0] != "10.2.0.1" {
		t.Errorf("a client in b gets %v, want 10.2.0.1 first", got)
	}
	leads = map[string]int{}
	for range 30 {
		leads[addressesFor(t, h, m, "192.0.2.1")[0]]++
	}
	if leads["10.1.0.1"] != 10 || leads["10.1.0.2"] != 10 || leads["10.2.0.1"] != 10 {
		t.Errorf("leads for a client of no locality %v, want 10 each", leads)
	}
}

// "only" leaves the far members out while at least half of the near ones can answer.
func TestPreferLocalityOnly(t *testing.T) {
	for _, test := range []struct {
		name, near string // near members, comma separated
		dead       []string
		want       []string // the addresses of an answer, sorted
	}{
		{"all up", "10.1.0.1,10.1.0.2", nil, []string{"10.1.0.1", "10.1.0.2"}},
		{"half are down", "10.1.0.1,10.1.0.2", []string{"10.1.0.1"}, []string{"10.1.0.2"}},
		{"two of three are down", "10.1.0.1,10.1.0.2,10.1.0.3", []string{"10.1.0.1", "10.1.0.2"}, []string{"10.1.0.3", "10.2.0.1"}},
		{"all near are down", "10.1.0.1", []string{"10.1.0.1"}, []string{"10.2.0.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			owner := strings.ReplaceAll(test.name, " ", "-") + ".only.test."
			records := owner + " A " + strings.Join(append([]string{"10.2.0.1"}, strings.Split(test.near, ",")...), "\n"+owner+" A ")
			h := placed(t, judged(t, twoZones+"prefer locality only", echo))
			v := h.(*Balance).rules.only.subscriptions[0].(*verdicts)
			v.judge(test.dead...)
			got := addressesFor(t, h, message(t, owner+" A", records), "10.1.9.9")
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("a client in a gets %v, want %v", got, test.want)
			}
		})
	}
}

// spillTrial asks for the clients of three zones, and of none, in turn. The members of zone i are
// in
// 10.i.0.0/16.
type spillTrial struct {
	t       *testing.T
	h       plugin.Handler
	m       *dns.Msg
	clients map[int]int // of ten answers, by zone; 0: no zone
}

// ask asks a number of rounds and returns whose members led how often, for clients of which zone.
func (s *spillTrial) ask(rounds int) map[[2]int]int {
	s.t.Helper()
	leads := map[[2]int]int{}
	for range rounds {
		for client, n := range s.clients {
			for range n {
				lead := addressesFor(s.t, s.h, s.m, fmt.Sprintf("10.%d.9.9", client))[0]
				leads[[2]int{client, int(netip.MustParseAddr(lead).As4()[1])}]++
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return leads
}

// check fails the test unless each zone's members get their share of the weight within 2 %, and no
// more answers cross zones than must.
func (s *spillTrial) check(what string, weights map[int]float64) {
	s.t.Helper()
	s.ask(6 * int(spillHalfLife/time.Second) * 10) // what was before is forgotten
	const rounds = 2000
	led, crossed, must, known := map[int]float64{}, 0.0, 0.0, 0.0
	for pair, n := range s.ask(rounds) {
		led[pair[1]] += float64(n) / (10 * rounds)
		if pair[0] > 0 && pair[0] != pair[1] {
			crossed += float64(n) / (10 * rounds)
		}
	}
	all := 0.0
	for zone, weight := range weights {
		all, known = all+weight, known+float64(s.clients[zone])/10
	}
	for zone, weight := range weights {
		share := weight / all
		if math.Abs(led[zone]-share) > 0.02*share {
			s.t.Errorf("%s: members of zone %d lead %.3f of the answers, want %.3f", what, zone, led[zone], share)
		}
		must += max(0, float64(s.clients[zone])/10-share*known)
	}
	if math.Abs(crossed-must) > 0.02*must {
		s.t.Errorf("%s: %.3f of the answers cross zones, want %.3f", what, crossed, must)
	}
}

// The numbers: clients 50/30/20, weights 20/40/40. A zone loses all its members, and
// regains them. Clients of no zone get the policy's order, which loads all by weight.
func TestPreferLocalitySpill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := placed(t, judged(t, "locality a 10.1.0.0/16\n locality b 10.2.0.0/16\n locality c 10.3.0.0/16\n "+`policy weighted
			weight 10.1.0.1 20
			weight 10.2.0.1 20
			weight 10.2.0.2 20
			weight 10.3.0.1 40
			prefer locality spill`, echo))
		m := message(t, "spill.test. A", "spill.test. A 10.1.0.1\nspill.test. A 10.2.0.1\nspill.test. A 10.2.0.2\nspill.test. A 10.3.0.1")
		s := &spillTrial{t, h, m, map[int]int{1: 5, 2: 3, 3: 2}}
		v := h.(*Balance).rules.only.subscriptions[0].(*verdicts)
		s.check("all are up", map[int]float64{1: 20, 2: 40, 3: 40})
		v.judge("10.2.0.1", "10.2.0.2")
		s.check("zone 2 has lost its members", map[int]float64{1: 20, 2: 0, 3: 40})
		v.judge("10.2.0.1")
		s.check("zone 2 has half of them", map[int]float64{1: 20, 2: 20, 3: 40})
		v.judge()
		s.check("zone 2 has them back", map[int]float64{1: 20, 2: 40, 3: 40})
		s.clients = map[int]int{0: 4, 1: 3, 2: 2, 3: 1}
		s.check("some clients are of no zone", map[int]float64{1: 20, 2: 40, 3: 40})
	})
}

// Of weights 1 and 3 and as many clients here as there, half of the answers here stay.
func TestPreferLocalitySpill_Exact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := message(t, "half.test. A", "half.test. A 10.1.0.1\nhalf.test. A 10.2.0.1")
		h := placed(t, newHandler(t, "balance {\n "+twoZones+"policy weighted\n weight 10.2.0.1 3\n prefer locality only spill\n}", echo))
		near := 0
		ask := func(n int) {
			for range n {
				got := addressesFor(t, h, m, "10.1.9.9")
				if got[0] == "10.1.0.1" {
					near++
				}
				if kept := got[0] == "10.1.0.1"; kept != (len(got) == 1) {
					t.Fatalf("a client in a gets %v: want the near member alone, or both with the far one first", got)
				}
				if other := addressesFor(t, h, m, "10.2.9.9"); len(other) != 1 || other[0] != "10.2.0.1" {
					t.Fatalf("a client in b gets %v, want 10.2.0.1 alone", other)
				}
			}
		}
		ask(200)
		time.Sleep(2 * spillInterval)
		ask(1) // decides anew
		near = 0
		ask(1000)
		if near != 500 {
			t.Errorf("%d of 1000 answers to clients in a are led by its member, want exactly 500", near)
		}
	})
}

// A zone that loses all its members has its clients led elsewhere at once, and back when they
// return.
func TestPreferLocality_ZoneIsLost(t *testing.T) {
	h := placed(t, judged(t, twoZones+"prefer locality spill", echo))
	v := h.(*Balance).rules.only.subscriptions[0].(*verdicts)
	m := message(t, "lost.test. A", "lost.test. A 10.1.0.1\nlost.test. A 10.2.0.1")
	lead := func() string { return addressesFor(t, h, m, "10.1.9.9")[0] }
	if got := lead(); got != "10.1.0.1" {
		t.Fatalf("lead %s, want 10.1.0.1", got)
	}
	v.judge("10.1.0.1")
	if got := lead(); got != "10.2.0.1" {
		t.Errorf("with its only near member down, a client in a is led to %s, want 10.2.0.1", got)
	}
	v.judge()
	if got := lead(); got != "10.1.0.1" {
		t.Errorf("with its near member back, a client in a is led to %s, want 10.1.0.1", got)
	}
}

// The scope of a reply says how much of a client's address the locality depends on.
func TestPreferLocality_Scope(t *testing.T) {
	h := placed(t, newHandler(t, "balance {\n locality a 10.1.0.0/16\n locality b 10.2.3.0/24\n prefer locality\n ecs 192.0.2.53\n}", echo))
	m := message(t, "scope.test. A", "scope.test. A 10.1.0.1\nscope.test. A 10.2.3.1")
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{10, 2, 3, 0}})
	reply := askFrom(t, h, m, "192.0.2.53")
	if subnet := subnetOf(reply.IsEdns0()); subnet == nil || subnet.SourceScope != 24 {
		t.Errorf("subnet option %v, want a scope of 24", subnet)
	}
	if got := reply.Answer[0].(*dns.A).A.String(); got != "10.2.3.1" {
		t.Errorf("the subnet is led to %s, want 10.2.3.1", got)
	}
}

// Why says that an answer spills, and the page in which locality each member is.
func TestPreferLocality_IsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer inUse.forget()
		m := message(t, "shown.test. A", "shown.test. A 10.1.0.1\nshown.test. A 10.2.0.1")
		h := placed(t, newHandler(t, "balance {\n "+twoZones+"prefer locality spill\n status\n}", answering(m)))
		for range 3 { // the second looks at the counts, and the third follows it
			for range 200 {
				addressesFor(t, h, m, "10.1.9.9")
			}
			time.Sleep(2 * spillInterval)
		}
		spilled := 0
		for range 4 { // of two members one is near: every other answer spills
			rrset := why(t, h, "shown.test.", dns.TypeA, "10.1.9.9").RRsets[0]
			if slices.Contains(rrset.Steps, "spill: members in b lead this answer") {
				spilled++
				if rrset.Members[0].Member != "10.2.0.1" {
					t.Errorf("an answer that spills is led by %s, want 10.2.0.1", rrset.Members[0].Member)
				}
			}
			addressesFor(t, h, m, "10.1.9.9")
		}
		if spilled != 2 {
			t.Errorf("%d of 4 answers are said to spill, want 2", spilled)
		}
	})
}

// What other replicas of the fleet count is added up: a replica that only clients of one locality
// ask spills as the whole fleet has to.
func TestSpillOverTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := locality.Named("spill-a"), locality.Named("spill-b")
		weights := []localWeight{{a, 1}, {b, 1}}
		alone, together := new(spillway), new(spillway)
		together.others.Store(&[]locality.Share{{Locality: b, Answers: 3000}})
		spilled := map[*spillway]int{}
		for range 2000 {
			for _, s := range []*spillway{alone, together} {
				if s.lead(a, weights, time.Now(), new(spillSource)) != a {
					spilled[s]++
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		if spilled[alone] < 500 {
			t.Errorf("%d of 2000 answers spilled, want about half: all clients are in a", spilled[alone])
		}
		if spilled[together] > 0 {
			t.Errorf("%d of 2000 answers spilled, want none: more clients of the fleet are in b", spilled[together])
		}
	})
}

// Replicas find each other's counts by what is counted.
func TestSpillExchange(t *testing.T) {
	a, hub := locality.Named("spill-a"), fleet.New(fleet.Config{Name: "dns", Replica: "r", Log: log})
	s := new(spillway)
	from := &spillSource{hub: hub, zone: "example.org.", owner: "www.example.org."}
	s.exchange(&spillTable{lanes: []spillLane{{place: a, recent: 7}}}, hub, from.topic())
	if others := s.others.Load(); others == nil || len(*others) != 0 {
		t.Errorf("%v, want no answers of others", others)
	}
	if other := (&spillSource{zone: "example.org.", owner: "mail.example.org."}); other.topic() == from.topic() {
		t.Error("two RRsets have one topic")
	}
}

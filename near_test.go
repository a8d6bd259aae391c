// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// nearTrial is a stanza with a prefer line, and a kind of answer that it orders for a client in
// zone 1.
type nearTrial struct {
	kind    string // of the answer
	prefer  string
	policy  string
	answers int
	tiers   bool
	v6      bool
	dead    []int
	origin  string // one of its own: what answers teach outlives a handler
}

// nearMember is a member, or the address of an MX or SRV record's target.
type nearMember struct{ zone, tier, weight, rank int }

// nearMembers are two members in the client's zone and tier 0, and others, one of them a standby.
var nearMembers = []nearMember{{1, 0, 2, 0}, {2, 0, 3, 0}, {1, 0, 1, 1}, {3, 0, 1, 1}, {1, 1, 4, 0}, {2, 1, 1, 1}, {2, 0, 0, 0}}

const nearClient = "10.1.9.9"

// addr returns the address of a member.
func (tr nearTrial) addr(i int) string {
	m := nearMembers[i]
	if tr.v6 {
		return fmt.Sprintf("2001:db8:%d:%d::%d", m.zone, m.tier, i+1)
	}
	return fmt.Sprintf("10.%d.%d.%d", m.zone, m.tier, i+1)
}

func (tr nearTrial) rrtype() string {
	if tr.v6 {
		return "AAAA"
	}
	return "A"
}

// ofTargets reports whether the answer's records lead to the members by a name.
func (tr nearTrial) ofTargets() bool { return strings.HasPrefix(tr.kind, "SRV") || tr.kind == "MX" }

func (tr nearTrial) target(i int) string { return fmt.Sprintf("t%d.%s", i, tr.origin) }

// stanza returns the options of a trial.
func (tr nearTrial) stanza() string {
	lines := []string{"policy " + tr.policy, tr.prefer}
	for zone := 1; zone <= 3 && strings.Contains(tr.prefer, "locality"); zone++ {
		lines = append(lines, fmt.Sprintf("locality zone-%d 10.%d.0.0/16 2001:db8:%d::/48", zone, zone, zone))
	}
	if tr.answers > 0 {
		lines = append(lines, fmt.Sprintf("answers %d", tr.answers))
	}
	if tr.tiers {
		lines = append(lines, "tier 10.1.0.0/24 10.2.0.0/24 10.3.0.0/24 2001:db8:1::/64 2001:db8:2::/64 2001:db8:3::/64")
	}
	for i, m := range nearMembers {
		if tr.weighs() {
			lines = append(lines, fmt.Sprintf("weight %s %d", tr.addr(i), m.weight))
		}
	}
	return strings.Join(lines, "\n")
}

func (tr nearTrial) weighs() bool { return tr.policy == "weighted" || tr.policy == "sticky" }

// standby reports whether a member has the weight 0. MX records have no weights.
func (tr nearTrial) standby(i int) bool {
	return tr.weighs() && nearMembers[i].weight == 0 && tr.kind != "MX"
}

// reference returns the members that answer, group by group, and the weights of the first group.
func (tr nearTrial) reference() (groups [][]int, weights []int) {
	byRank := map[[2]int][]int{} // rank, then 0 for near members and 1 for others
	counted := map[bool]int{}    // near members that are eligible or not, of the tier that serves
	serving := tr.serving()
	for i, m := range nearMembers {
		if tr.ofTargets() {
			if !slices.Contains(tr.dead, i) && !tr.standby(i) {
				key := [2]int{m.rank, min(m.zone-1, 1)}
				byRank[key] = append(byRank[key], i)
			}
			continue
		}
		if m.zone == 1 && (!tr.tiers || m.tier == nearMembers[serving[0]].tier) {
			counted[slices.Contains(serving, i)]++
		}
		if slices.Contains(serving, i) {
			key := [2]int{0, min(m.zone-1, 1)}
			byRank[key] = append(byRank[key], i)
		}
	}
	if strings.Contains(tr.prefer, "only") && !tr.ofTargets() {
		delete(byRank, [2]int{0, 1})
		if counted[true] == 0 || counted[true] < counted[false] {
			byRank[[2]int{0, 0}] = serving
		}
	}
	for _, key := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}} {
		if len(byRank[key]) > 0 {
			groups = append(groups, byRank[key])
		}
	}
	for _, i := range groups[0] {
		weight := 1
		if tr.policy == "weighted" && tr.kind != "MX" {
			weight = max(nearMembers[i].weight, 1)
		}
		weights = append(weights, weight)
	}
	return groups, weights
}

// serving returns the members that can answer, before anything is preferred.
func (tr nearTrial) serving() (all []int) {
	for tier := range 2 {
		for i, m := range nearMembers {
			if !slices.Contains(tr.dead, i) && !tr.standby(i) && (m.tier == tier || !tr.tiers) {
				all = append(all, i)
			}
		}
		if len(all) > 0 {
			return all
		}
	}
	return nil
}

// message returns what comes up.
func (tr nearTrial) message(t *testing.T) *dns.Msg {
	t.Helper()
	var answer, extra, hints []string
	for i, m := range nearMembers {
		glue := fmt.Sprintf("%s 300 %s %s", tr.target(i), tr.rrtype(), tr.addr(i))
		switch tr.kind {
		case "addresses":
			answer = append(answer, fmt.Sprintf("%s 300 %s %s", tr.origin, tr.rrtype(), tr.addr(i)))
		case "hints":
			hints = append(hints, tr.addr(i))
		case "SRV", "SRV without glue":
			answer = append(answer, fmt.Sprintf("%s 300 SRV %d 1 80 %s", tr.origin, m.rank, tr.target(i)))
			extra = append(extra, glue)
		case "MX":
			answer = append(answer, fmt.Sprintf("%s 300 MX %d %s", tr.origin, m.rank, tr.target(i)))
			extra = append(extra, glue)
		}
	}
	qtype := strings.Fields(tr.kind)[0]
	switch tr.kind {
	case "addresses":
		qtype = tr.rrtype()
	case "hints":
		qtype, answer = "HTTPS", []string{tr.origin + " 300 HTTPS 1 . ipv4hint=" + strings.Join(hints, ",")}
		if tr.v6 {
			answer[0] = strings.Replace(answer[0], "ipv4hint", "ipv6hint", 1)
		}
	}
	m := message(t, tr.origin+" "+qtype, strings.Join(answer, "\n"))
	if tr.kind != "SRV without glue" {
		m.Extra = records(t, strings.Join(extra, "\n"))
	}
	return m
}

// learn asks for the addresses of all targets.
func (tr nearTrial) learn(t *testing.T, h plugin.Handler) {
	t.Helper()
	for i := range nearMembers {
		askFrom(t, h, message(t, tr.target(i)+" "+tr.rrtype(), fmt.Sprintf("%s 300 %s %s", tr.target(i), tr.rrtype(), tr.addr(i))), nearClient)
	}
}

// membersOf returns the members of an answer, in their order.
func (tr nearTrial) membersOf(m *dns.Msg) (got []int) {
	add := func(text string) {
		got = append(got, slices.IndexFunc(nearMembers, func(nearMember) bool { return false }))
		for i := range nearMembers {
			if text == tr.target(i) || net.ParseIP(text).Equal(net.ParseIP(tr.addr(i))) {
				got[len(got)-1] = i
			}
		}
	}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			add(rr.A.String())
		case *dns.AAAA:
			add(rr.AAAA.String())
		case *dns.SRV:
			add(rr.Target)
		case *dns.MX:
			add(rr.Mx)
		case *dns.HTTPS:
			for _, kv := range rr.Value {
				for _, addr := range hintOf(kv) {
					add(addr.String())
				}
			}
		}
	}
	return got
}

// check compares some cycles of answers with the reference.
func (tr nearTrial) check(t *testing.T) error {
	var dead []string
	for _, i := range tr.dead {
		dead = append(dead, tr.addr(i))
	}
	h := placed(t, judged(t, tr.stanza(), echo, dead...))
	if tr.kind == "SRV without glue" {
		tr.learn(t, h)
	}
	m := tr.message(t)
	groups, weights := tr.reference()
	cycle := 0
	for _, w := range weights {
		cycle += w
	}
	leads, first := map[int]int{}, ""
	for range 2 * cycle {
		got := tr.membersOf(askFrom(t, h, m, nearClient))
		if err := tr.compare(got, groups); err != nil {
			return err
		}
		if first == "" {
			first = fmt.Sprint(got)
		}
		if tr.policy == "sticky" && first != fmt.Sprint(got) {
			return fmt.Errorf("sticky: %v after %s", got, first)
		}
		leads[got[0]]++
	}
	for at, i := range groups[0] {
		if tr.policy != "sticky" && tr.policy != "random" && leads[i] != 2*weights[at] {
			return fmt.Errorf("leads %v, want %d of member %d", leads, 2*weights[at], i)
		}
	}
	return nil
}

// compare compares the members of an answer with those of the reference.
func (tr nearTrial) compare(got []int, groups [][]int) error {
	want := slices.Concat(groups...)
	limit := len(want)
	if tr.answers > 0 && !tr.ofTargets() {
		limit = min(limit, tr.answers)
	}
	if len(got) != limit {
		return fmt.Errorf("members %v, want %d of %v", got, limit, groups)
	}
	at := 0
	for _, group := range groups {
		part := slices.Clone(got[min(at, limit):min(at+len(group), limit)])
		for k, i := range part {
			if !slices.Contains(group, i) || slices.Contains(part[:k], i) {
				return fmt.Errorf("members %v, want %v in these groups", got, groups)
			}
		}
		at += len(group)
	}
	return nil
}

// What is preferred comes first with every policy, number of answers, tier, weight, family and kind
// of record, whoever is down: all combinations, against a plain reference.
func TestPreferWithEverything(t *testing.T) {
	count := 0
	for _, kind := range []string{"addresses", "hints", "SRV", "SRV without glue", "MX"} {
		for _, prefer := range []string{
			"prefer locality", "prefer locality only", "prefer 10.1.0.0/16 2001:db8:1::/48",
			"prefer 10.1.0.0/16 2001:db8:1::/48 from " + nearClient, "prefer 10.1.0.0/16 2001:db8:1::/48 when type() != 'TXT'",
		} {
			for i := range 4 * 2 * 2 * 2 * 4 {
				pick := func(n int) (at int) {
					at, i = i%n, i/n
					return at
				}
				tr := nearTrial{
					kind: kind, prefer: prefer, policy: []string{"round_robin", "weighted", "random", "sticky"}[pick(4)],
					answers: []int{0, 2}[pick(2)], tiers: pick(2) == 1, v6: pick(2) == 1, dead: [][]int{nil, {0}, {0, 2}, {0, 1, 2, 3, 6}}[pick(4)],
					origin: fmt.Sprintf("trial-%d.near.test.", count),
				}
				if err := tr.check(t); err != nil {
					t.Fatalf("%+v: %v\n%s", tr, err, tr.stanza())
				}
				count++
			}
		}
	}
	t.Logf("%d combinations", count)
}

// Without glue, and without checks, clients teach where the targets are: each asks for the address
// of the target that leads. Until then a target counts as near.
func TestPreferLocality_LearnsTargets(t *testing.T) {
	h := placed(t, newHandler(t, "balance {\n "+twoZones+"prefer locality\n}", echo))
	addrs := map[string]string{"n1.learn.test.": "10.1.0.1", "n2.learn.test.": "10.1.0.2", "f1.learn.test.": "10.2.0.1", "f2.learn.test.": "10.2.0.2"}
	srv := message(t, "learn.test. SRV", `
		learn.test. SRV 0 1 80 n1.learn.test.
		learn.test. SRV 0 1 80 f1.learn.test.
		learn.test. SRV 0 1 80 f2.learn.test.
		learn.test. SRV 0 1 80 n2.learn.test.`)
	leads := map[string]int{}
	for i := range 20 {
		lead := askFrom(t, h, srv, "10.1.9.9").Answer[0].(*dns.SRV).Target
		askFrom(t, h, message(t, lead+" A", lead+" A "+addrs[lead]), "10.1.9.9")
		if i >= 10 {
			leads[lead]++
		}
	}
	if leads["n1.learn.test."] != 5 || leads["n2.learn.test."] != 5 {
		t.Errorf("once the addresses are known, leads are %v, want 5 for each near target", leads)
	}
}

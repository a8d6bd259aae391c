// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// trial is a stanza, an RRset and what is known of its members, for which the plugin's answers are
// compared with those of a slow model written from the documentation.
type trial struct {
	policy     string
	members    []trialMember
	prefer     int // how many of the members, by number, are preferred; 0: no prefer line
	answers    int
	minHealthy string
	allDown    string
	sealed     bool
}

type trialMember struct {
	weight   int
	tier     int // 0 to 2
	down     bool
	override string
}

func (m trialMember) addr(i int) string { return fmt.Sprintf("10.%d.0.%d", m.tier, i+1) }

// randomTrial returns a trial.
func randomTrial(rng *rand.Rand) trial {
	pick := func(words ...string) string { return words[rng.IntN(len(words))] }
	tr := trial{
		policy: pick("round_robin", "weighted", "random", "sticky"), answers: rng.IntN(4), sealed: rng.IntN(8) == 0,
		minHealthy: pick("1", "2", "50%", "100%"), allDown: pick("open", "open", "nodata", "servfail", "fallback 198.51.100.1"),
	}
	for range 1 + rng.IntN(6) {
		tr.members = append(tr.members, trialMember{rng.IntN(5), rng.IntN(3), rng.IntN(3) == 0, pick("", "", "", "up", "down", "drain")})
	}
	tr.prefer = rng.IntN(len(tr.members) + 1)
	return tr
}

// stanza writes the Corefile and the overrides of a trial.
func (tr trial) stanza(overrides string) (stanza, lines string) {
	var b, o strings.Builder
	fmt.Fprintf(&b, "policy %s\nmin_healthy %s\nall_down %s\ntier 10.0.0.0/16\ntier 10.1.0.0/16\noverrides %s 0\n", tr.policy, tr.minHealthy, tr.allDown, overrides)
	if tr.answers > 0 {
		fmt.Fprintf(&b, "answers %d\n", tr.answers)
	}
	var preferred []string
	for i, m := range tr.members {
		if tr.policy == "weighted" || tr.policy == "sticky" {
			fmt.Fprintf(&b, "weight %s %d\n", m.addr(i), m.weight)
		}
		if m.override != "" {
			fmt.Fprintf(&o, "%s %s\n", m.addr(i), m.override)
		}
		if i < tr.prefer {
			preferred = append(preferred, m.addr(i))
		}
	}
	if len(preferred) > 0 {
		// One CIDR is one group; the members of one tier that are preferred share no CIDR but /32,
		// so each is a group of its own.
		fmt.Fprintf(&b, "prefer %s\n", strings.Join(preferred, " "))
	}
	return b.String(), o.String()
}

// expected is what the model says.
type expected struct {
	rcode  int
	groups [][]int // members that answer, in groups, first group first; nil for a denial
	last   []int   // members that come last, where none may be removed
	ttl    uint32
	text   string // the whole answer, where no member is in it
}

// model says what documentation says of a trial.
func (tr trial) model() expected {
	isDown := func(m trialMember) bool { return m.override == "down" || m.down && m.override != "up" }
	standby := func(m trialMember) bool {
		return m.override == "drain" || m.weight == 0 && (tr.policy == "weighted" || tr.policy == "sticky")
	}
	// eligible returns the members of a tier that would answer, given who is down.
	eligible := func(tier int, down func(trialMember) bool) (regular []int) {
		var spare []int
		for i, m := range tr.members {
			switch {
			case m.tier != tier || down(m):
			case standby(m):
				spare = append(spare, i)
			default:
				regular = append(regular, i)
			}
		}
		if len(regular) == 0 {
			return spare
		}
		return regular
	}
	// serve returns the members that answer, given who is down.
	serve := func(down func(trialMember) bool) []int {
		for _, needs := range []func(size int) int{tr.needed, func(int) int { return 1 }} {
			for tier := range 3 {
				size := 0
				for _, m := range tr.members {
					if m.tier == tier {
						size++
					}
				}
				if found := eligible(tier, down); size > 0 && len(found) >= needs(size) {
					return found
				}
			}
		}
		return nil
	}
	e := expected{ttl: 30}
	serving, open := serve(isDown), false
	if len(serving) == 0 {
		if tr.allDown != "open" && !tr.sealed {
			return tr.denied()
		}
		open = true
		serving = serve(func(m trialMember) bool { return m.override == "down" })
		if len(serving) == 0 {
			serving = serve(func(trialMember) bool { return false })
		}
	}
	tier := tr.members[serving[0]].tier
	up := eligible(tier, func(trialMember) bool { return false })
	first := slices.MinFunc(tr.members, func(a, b trialMember) int { return a.tier - b.tier }).tier
	if open || tier != first || slices.ContainsFunc(up, func(i int) bool { return isDown(tr.members[i]) }) {
		e.ttl = 5
	}
	for i := range tr.members {
		if !slices.Contains(serving, i) {
			e.last = append(e.last, i)
		}
	}
	var rest []int
	for _, i := range serving {
		if i < tr.prefer {
			e.groups = append(e.groups, []int{i})
		} else {
			rest = append(rest, i)
		}
	}
	if len(rest) > 0 {
		e.groups = append(e.groups, rest)
	}
	return e
}

func (tr trial) needed(size int) int {
	switch tr.minHealthy {
	case "50%":
		return int(math.Ceil(float64(size) / 2))
	case "100%":
		return size
	case "2":
		return 2
	}
	return 1
}

func (tr trial) denied() expected {
	switch tr.allDown {
	case "servfail":
		return expected{rcode: dns.RcodeServerFailure}
	case "nodata":
		return expected{}
	}
	return expected{text: "198.51.100.1 5"}
}

// check compares as many answers as a cycle has with the model.
func (tr trial) check(t *testing.T) error {
	file := filepath.Join(t.TempDir(), "overrides")
	stanza, lines := tr.stanza(file)
	must(t, os.WriteFile(file, []byte(lines), 0o600))
	var dead []string
	var text strings.Builder
	for i, m := range tr.members {
		fmt.Fprintf(&text, "trial.h. 300 A %s\n", m.addr(i))
		if m.down {
			dead = append(dead, m.addr(i))
		}
	}
	if tr.sealed {
		text.WriteString("trial.h. 300 RRSIG A 8 2 300 20300101000000 20200101000000 1 h. AAAA\n")
	}
	m := message(t, "trial.h. A", text.String())
	if len(tr.members) == 1 && tr.allDown == "open" {
		return nil // left alone
	}
	h := judged(t, stanza, echo, dead...)
	want := tr.model()
	leads := map[int]int{}
	turns := 60 // a multiple of every cycle of round robin
	if len(want.groups) > 0 {
		turns *= tr.cycle(want.groups[0])
	}
	before := ""
	for range turns {
		lead, order, err := tr.compare(ask(t, h, m), want)
		if err != nil {
			return err
		}
		if tr.policy == "sticky" && before != "" && order != before {
			return fmt.Errorf("sticky answered %s, then %s", before, order)
		}
		before = order
		leads[lead]++
	}
	return tr.checkLeads(leads, turns, want)
}

// cycle returns the sum of the weights of a group.
func (tr trial) cycle(group []int) (sum int) {
	for _, i := range group {
		sum += tr.share(i)
	}
	return sum
}

// share returns what a member that answers weighs.
func (tr trial) share(i int) int {
	if tr.policy != "weighted" {
		return 1
	}
	return max(tr.members[i].weight, 1)
}

// compare compares one answer with the model.
func (tr trial) compare(out *dns.Msg, want expected) (lead int, order string, err error) {
	var got []int
	for _, rr := range out.Answer {
		a, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		got = append(got, slices.Index(tr.addrs(), a.A.String()))
		if rr.Header().Ttl != want.ttl && want.text == "" {
			return 0, "", fmt.Errorf("TTL is %d, want %d", rr.Header().Ttl, want.ttl)
		}
	}
	if out.Rcode != want.rcode || want.groups == nil && targets(out) != want.text {
		return 0, "", fmt.Errorf("rcode %d, answer %s; want %d, %q", out.Rcode, targets(out), want.rcode, want.text)
	}
	if want.groups == nil {
		return 0, "", nil
	}
	limit := len(slices.Concat(want.groups...))
	if tr.answers > 0 && !tr.sealed {
		limit = min(limit, tr.answers)
	}
	at := 0
	for _, group := range want.groups {
		part := got[min(at, len(got)):min(at+len(group), len(got), limit)]
		for k, i := range part {
			if !slices.Contains(group, i) || slices.Contains(part[:k], i) {
				return 0, "", fmt.Errorf("answer holds %v, want groups %v", got, want.groups)
			}
		}
		at += len(group)
	}
	rest := want.last
	if !tr.sealed {
		rest = nil
	}
	if tail := slices.Sorted(slices.Values(got[min(limit, len(got)):])); len(got) != limit+len(rest) || !slices.Equal(tail, rest) {
		return 0, "", fmt.Errorf("answer holds %v, want %d of %v, then %v", got, limit, want.groups, rest)
	}
	return got[0], fmt.Sprint(got), nil
}

func (tr trial) addrs() (all []string) {
	for i, m := range tr.members {
		all = append(all, m.addr(i))
	}
	return all
}

// checkLeads compares who led how often with the model.
func (tr trial) checkLeads(leads map[int]int, turns int, want expected) error {
	if want.groups == nil || tr.policy == "random" || tr.policy == "sticky" {
		return nil
	}
	for _, i := range want.groups[0] {
		if exact := turns * tr.share(i) / tr.cycle(want.groups[0]); leads[i] != exact {
			return fmt.Errorf("member %d led %d of %d answers, want %d: %v", i, leads[i], turns, exact, leads)
		}
	}
	return nil
}

// smaller returns trials that are simpler than tr in one way.
func (tr trial) smaller() (all []trial) {
	for i := range tr.members {
		if len(tr.members) > 1 {
			s := tr
			s.members, s.prefer = slices.Delete(slices.Clone(tr.members), i, i+1), min(tr.prefer, len(tr.members)-1)
			all = append(all, s)
		}
		for _, simpler := range []trialMember{
			{1, tr.members[i].tier, tr.members[i].down, tr.members[i].override}, {tr.members[i].weight, 0, tr.members[i].down, tr.members[i].override},
			{tr.members[i].weight, tr.members[i].tier, false, tr.members[i].override}, {tr.members[i].weight, tr.members[i].tier, tr.members[i].down, ""},
		} {
			if simpler != tr.members[i] {
				s := tr
				s.members = slices.Clone(tr.members)
				s.members[i] = simpler
				all = append(all, s)
			}
		}
	}
	for _, simplify := range []func(*trial){
		func(s *trial) { s.prefer = 0 }, func(s *trial) { s.answers = 0 }, func(s *trial) { s.sealed = false },
		func(s *trial) { s.minHealthy = "1" }, func(s *trial) { s.allDown = "open" }, func(s *trial) { s.policy = "round_robin" },
	} {
		s := tr
		simplify(&s)
		if fmt.Sprint(s) != fmt.Sprint(tr) {
			all = append(all, s)
		}
	}
	return all
}

// Every policy with every weight, tier, preference, limit, verdict and override does what the
// documentation says. A failing trial is made as simple as it can be before it is shown.
func TestAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		tr := randomTrial(rng)
		err := tr.check(t)
		if err == nil {
			continue
		}
		for again := true; again; {
			again = false
			for _, s := range tr.smaller() {
				if simpler := s.check(t); simpler != nil {
					tr, err, again = s, simpler, true
					break
				}
			}
		}
		t.Fatalf("%+v: %v", tr, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// An allow that misses a backend switches its check off. That is a warning for each rule, and on
// the page.
func TestAllowThatMissesIsSaid(t *testing.T) {
	j := newJournal(t)
	check := func(port string) string {
		return "health_check tcp " + port + " {\n allow 192.0.2.128/25\n }"
	}
	s := startShown(t, check("80"), strings.Replace(rule(check("81")), "balance", "balance other.example.org", 1),
		"file "+zone(t, "example.org.", threeAs+as("a.other", "192.0.2.1", "192.0.2.2")))
	for range 10 {
		s.c.Ask(query("www.example.org.", dns.TypeA))
		s.c.Ask(query("a.other.example.org.", dns.TypeA))
	}
	j.says("no health_check allows")
	if said := linesWith(j.text(), "no health_check allows"); len(said) != 2 || !strings.Contains(said[0]+said[1], "] plugin/balance: other.example.org.") {
		t.Errorf("lines are %q, want a warning for each of two rules", said)
	}
	if problems := s.document().Problems; len(problems) != 1 || problems[0].Kind != "unchecked" || !strings.Contains(problems[0].Text, "192.0.2.1, 192.0.2.2, 192.0.2.3") {
		t.Errorf("problems are %v, want one that names three addresses", problems)
	}
}

// A check has a say on the addresses that its allow covers, and on no others.
func TestChecksJudgeTheirOwnAddresses(t *testing.T) {
	one, two := newFarm(t, 2, listening), newFarm(t, 2, listening)
	one.kill(1) // of 127.1.0.2, whose check is that of the other port
	two.kill(0)
	check := func(port, allow string) string {
		return fmt.Sprintf("health_check tcp %s {\n allow %s\n %s\n }", port, allow, quick)
	}
	k := startChecked(t, rule(check(one.port, "127.1.0.1"), check(two.port, "127.1.0.2")), "file "+zone(t, "example.org.", one.as("www")))
	k.verdicts(2, 0)
	k.answers(30, one.addrs...)
	two.kill(1)
	k.answers(5, one.addrs[0])
}

// Overrides may say that every member is down. Clients get them nevertheless, and the log says so.
func TestOverridesThatPutEverybodyDown(t *testing.T) {
	j := newJournal(t)
	path := file(t, "overrides", "192.0.2.0/24 down # maintenance\n")
	// A name of its own: what is not new is not said again, and other tests put www down too.
	db := "file " + zone(t, "example.org.", strings.ReplaceAll(threeAs, "www", "everybody"))
	s := start(t, block(rule("overrides "+path), db))
	got := members(ask(t, s.udp(), "everybody.example.org.", dns.TypeA), dns.TypeA)
	slices.Sort(got)
	if !slices.Equal(got, threeSorted) {
		t.Errorf("members are %v, want all", got)
	}
	j.says("all_down")
	s.stop()
	s = start(t, block(rule("overrides "+path, "all_down nodata"), db))
	if reply := ask(t, s.udp(), "everybody.example.org.", dns.TypeA); reply.Rcode != dns.RcodeSuccess || len(reply.Answer) > 0 {
		t.Errorf("reply is %v, want no answer", reply)
	}
}

// Many transitions at once are a line with counts and the first few, so that the line that matters
// is seen.
func TestManyTransitionsAreOneLine(t *testing.T) {
	const n = 200
	f := newFarm(t, n, listening)
	j := newJournal(t)
	k := startChecked(t, rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	settle := func(up, down int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d up and %d down", up, down), func() bool {
			c := dial(t, "tcp", k.tcp(), "") // the server ends connections that are idle
			c.Ask(query("www.example.org.", dns.TypeA))
			c.Close()
			now := counts(t, k.metrics)
			return now[endpoints("up")] == float64(up) && now[endpoints("down")] == float64(down)
		})
	}
	settle(n, 0)
	before := len(linesWith(j.text(), "endpoint"))
	for i := range n {
		f.kill(i)
	}
	settle(0, n)
	j.says("more")
	if all := linesWith(j.text(), "endpoint"); before > 60 || len(all)-before > 60 {
		t.Errorf("%d lines at start and %d at the outage, want some tens at most", before, len(all)-before)
	}
}

// A timeout says how far the probe came: a frozen process accepts connections, a firewall does not.
func TestTimeoutsSayWhetherTheConnectionWasMade(t *testing.T) {
	f := newFarm(t, 3, serving(saying(200, "")))
	f.replace(1, silent)
	f.replace(2, blackHole)
	j := newJournal(t)
	k := startChecked(t, rule(f.check("http", "/")), "file "+zone(t, "example.org.", f.as("www")))
	k.answers(5, f.addrs[0])
	reason := func(i int) string {
		lines := linesWith(j.text(), fmt.Sprintf("endpoint %s http:%s/ is down: ", f.addrs[i], f.port))
		if len(lines) == 0 {
			t.Fatalf("no line about %s", f.addrs[i])
		}
		_, why, _ := strings.Cut(lines[0], "is down: ")
		why, _, _ = strings.Cut(why, " (")
		return why
	}
	if made, not := reason(1), reason(2); made == not || !strings.Contains(made, "250ms") || !strings.Contains(not, "250ms") {
		t.Errorf("they are down because %q and %q, want different reasons", made, not)
	} else {
		t.Logf("%q, %q", made, not)
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/testserver"

	"github.com/miekg/dns"
)

// shown is a server whose rules are on a page.
type shown struct {
	*server
	page string // address
	c    *testserver.Client
}

// startShown starts a block of example.org with a stanza that has the option status, and other
// lines.
func startShown(t *testing.T, stanza string, lines ...string) *shown {
	t.Helper()
	s := &shown{page: "127.0.0.1:" + freePort(t)}
	s.server = start(t, s.block(stanza, lines...))
	s.c = dial(t, "udp", s.udp(), "")
	return s
}

func (s *shown) block(stanza string, lines ...string) string {
	return block(append([]string{"balance {\nstatus " + s.page + "\n" + stanza + "\n}"}, lines...)...)
}

// document returns what the page shows.
func (s *shown) document() (doc statuspage.Document) {
	s.t.Helper()
	status, body := get(s.t, "http://"+s.page+"/v1/status")
	if status != http.StatusOK {
		s.t.Fatalf("%d %s", status, body)
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		s.t.Fatal(err)
	}
	return doc
}

// waitFor waits until the page shows something of the A records of www.example.org.
func (s *shown) waitFor(what string, is func(name statuspage.Name) bool) {
	s.t.Helper()
	var doc statuspage.Document
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%+v", doc)
		}
	}()
	eventually(s.t, what, func() bool {
		doc = s.document()
		for _, name := range doc.Names {
			if name.Name == "www.example.org." && name.Type == "A" && name.Section == "answer" {
				return is(name)
			}
		}
		return false
	})
}

func (s *shown) ask(times int, qtype uint16) leads {
	s.t.Helper()
	lead := leads{}
	for range times {
		lead.add(s.c.Ask(query("www.example.org.", qtype)), qtype)
	}
	return lead
}

// countedAs reports whether the page shows the leads that were seen, and shares that are wanted.
func countedAs(name statuspage.Name, seen leads, wanted map[string]float64) bool {
	total := 0
	for _, n := range seen {
		total += n
	}
	for _, m := range name.Members {
		off := m.Leads.Wanted - wanted[m.Member]
		if m.Leads.Count != seen[m.Member] || m.Leads.Served != float64(m.Leads.Count)/float64(total) || off*off > 1e-9 {
			return false
		}
	}
	return name.Answers == total && len(name.Members) == 3
}

// The leads that are shown are those that clients saw, whatever the policy is; a reload keeps them,
// also one that changes the policy.
func TestStatusCountsLeads(t *testing.T) {
	third := map[string]float64{"192.0.2.1": 1. / 3, "192.0.2.2": 1. / 3, "192.0.2.3": 1. / 3}
	byWeight := map[string]float64{"192.0.2.1": .5, "192.0.2.2": .25, "192.0.2.3": .25}
	weights := "weight 192.0.2.1 2\n"
	tests := map[string]struct {
		stanza string
		wanted map[string]float64
	}{
		"round robin": {"", third},
		"random":      {"policy random", third},
		"weighted":    {"policy weighted\n" + weights, byWeight},
		"sticky":      {"policy sticky\n" + weights, byWeight},
		"answers 1":   {"answers 1", third},
		"preferred":   {"prefer 192.0.2.2", map[string]float64{"192.0.2.2": 1}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			db := "file " + zone(t, "example.org.", threeAs)
			s := startShown(t, tc.stanza, db)
			seen := s.ask(20, dns.TypeA)
			s.waitFor("the leads that were seen", func(name statuspage.Name) bool { return countedAs(name, seen, tc.wanted) })
			if err := s.restart(s.block("", db)); err != nil {
				t.Fatal(err)
			}
			seen = sum([]leads{seen, s.ask(4, dns.TypeA)})
			s.waitFor("the leads before and after the reload", func(name statuspage.Name) bool {
				return tc.wanted["192.0.2.2"] != 1 && countedAs(name, seen, third) || tc.wanted["192.0.2.2"] == 1 // with prefer a set of its own
			})
		})
	}
}

// A member that is down is first, with the reason; it has the leads that it had, and shall have
// none. Nobody has to ask for the page to know.
func TestStatusShowsTheDown(t *testing.T) {
	f := newFarm(t, 3, listening)
	s := startShown(t, f.check("tcp", ""), "file "+zone(t, "example.org.", f.as("www")))
	all := func(verdict string) func(statuspage.Name) bool {
		return func(name statuspage.Name) bool {
			return name.Members[0].Verdict == verdict && name.Members[2].Verdict == verdict && len(name.Members[2].Probes[0].Milliseconds) > 1
		}
	}
	s.ask(3, dns.TypeA)
	s.waitFor("all up", all("up"))
	f.kill(1)
	s.waitFor("the second down", func(name statuspage.Name) bool {
		first, second := name.Members[0], name.Members[1]
		return name.Down == 1 && name.Degraded && name.Answer == "members" && first.Member == f.addrs[1] && first.Verdict == "down" && first.Since != nil &&
			first.State == "down" && first.Leads.Wanted == 0 && first.Leads.Count == 1 && first.Probes[0].Error == "connection refused" &&
			len(first.Probes[0].Failed) > 0 && second.Leads.Wanted == .5 && second.State == "answers"
	})
	f.kill(0)
	f.kill(2)
	s.waitFor("all down", func(name statuspage.Name) bool {
		return name.Down == 3 && name.Answer == "fail_open" && all("down")(name)
	})
	eventually(t, "all endpoints failing", func() bool {
		doc := s.document()
		return len(doc.Problems) == 2 && doc.Problems[0].Kind == "fail_open" && doc.Problems[1].Kind == "all_failing" && doc.Rules[0].Checks[0].AllFailing
	})
}

// Rules without the option are named, and not shown.
func TestStatusShowsOnlyWhatNamesIt(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs+"a.other IN A 192.0.2.1\na.other IN A 192.0.2.2\n")
	s := startShown(t, "", "balance other.example.org", db)
	s.ask(1, dns.TypeA)
	s.c.Ask(query("a.other.example.org.", dns.TypeA))
	s.waitFor("one name", func(statuspage.Name) bool { return true })
	if doc := s.document(); len(doc.Names) != 1 || len(doc.Rules) != 1 || fmt.Sprint(doc.OtherRules) != "[other.example.org.]" {
		t.Errorf("names %v, rules %v and others %v, want one, one and other.example.org.", doc.Names, doc.Rules, doc.OtherRules)
	}
}

// What a stanza has in blocks may be secret.
func TestStatusKeepsSecrets(t *testing.T) {
	f := newFarm(t, 1, serving(saying(200, "")))
	s := startShown(t, f.check("http", "/", `header Authorization "Bearer sesame"`), "file "+zone(t, "example.org.", f.as("www")))
	for _, path := range []string{"/", "/v1/status"} {
		if _, body := get(t, "http://"+s.page+path); strings.Contains(body, "sesame") || !strings.Contains(body, "health_check http") {
			t.Errorf("%s has the secret, or not the line: %s", path, body)
		}
	}
}

// The listener stays while servers come and go, and goes with the last rule that wants it.
func TestStatusOutlivesReloads(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	s := startShown(t, "", db)
	done, failed := make(chan struct{}), make(chan error)
	go func() {
		defer close(failed)
		for {
			select {
			case <-done:
				return
			default:
			}
			if status, _, err := tryGet("http://" + s.page + "/v1/status"); err != nil || status != http.StatusOK {
				failed <- fmt.Errorf("%d %w", status, err)
				return
			}
		}
	}()
	for i := range 20 {
		stanza := fmt.Sprintf("ttl %d", i)
		if i%5 == 4 {
			stanza = "ttl never"
		}
		if err := s.restart(s.block(stanza, db)); (err == nil) != (i%5 != 4) {
			t.Fatal(err)
		}
	}
	close(done)
	if err := <-failed; err != nil {
		t.Errorf("during reloads: %v", err)
	}
	old := s.page
	s.page = "127.0.0.1:" + freePort(t)
	if err := s.restart(s.block("", db)); err != nil {
		t.Fatal(err)
	}
	s.document()
	if conn, err := net.Dial("tcp", old); err == nil {
		conn.Close()
		t.Error("the page is still at its old address")
	}
	if err := s.restart(block("balance", db)); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", s.page); err == nil {
		conn.Close()
		t.Error("the page is still there, and no rule wants it")
	}
}

// An address that is taken is an error at startup, and a reload that wants it leaves all as it is.
func TestStatusAddressIsTaken(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs) + " {\n reload 0\n }" // file leaves what it started where a server does not come up
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := startShown(t, "", db)
	err = s.restart(block("balance {\nstatus "+taken.Addr().String()+"\n}", db))
	if want := "plugin/balance: status: cannot listen on " + taken.Addr().String() + ": address already in use"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	s.document()
	s.ask(1, dns.TypeA)
	err = s.restart(s.block("", db) + blockOf("example.net:0", "balance {\nstatus 127.0.0.1:1\n}", db))
	if err == nil || !strings.Contains(err.Error(), "the page is to be at 127.0.0.1:1 here, and at "+s.page+" at Corefile:") {
		t.Errorf("error %v, want one that tells of two addresses", err)
	}
}

// Rules of several blocks are on one page.
func TestStatusOfSeveralBlocks(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	s := &shown{page: "127.0.0.1:" + freePort(t)}
	s.server = start(t, s.block("", db)+blockOf("example.net:0", "balance {\nstatus "+s.page+"\nobserve\n}", "file "+zone(t, "example.net.", threeAs)))
	doc := s.document()
	if len(doc.Rules) != 2 || doc.Rules[0].Zone != "example.org." || doc.Rules[1].Zone != "example.net." || !doc.Rules[1].Observe || doc.Rules[0].Observe {
		t.Errorf("rules are %+v, want those of both blocks", doc.Rules)
	}
}

// A file that has become bad is said first, with its line.
func TestStatusShowsBadFiles(t *testing.T) {
	overrides := filepath.Join(t.TempDir(), "overrides")
	replace(t, overrides, "192.0.2.1 down until 2099-01-01T00:00:00Z # disk swap\n")
	s := startShown(t, "overrides "+overrides+" 100ms", "file "+zone(t, "example.org.", threeAs))
	s.ask(1, dns.TypeA)
	s.waitFor("the override", func(name statuspage.Name) bool {
		over := name.Members[0].Override
		return name.Members[0].Member == "192.0.2.1" && name.Members[0].Verdict == "down" && over != nil && over.What == "down" && over.Why == "disk swap" &&
			over.Until.Year() == 2099 && over.Where == overrides+":1"
	})
	replace(t, overrides, "192.0.2.1 asleep\n")
	eventually(t, "the problem", func() bool {
		doc := s.document()
		return len(doc.Problems) == 1 && doc.Problems[0].Kind == "file" && strings.HasPrefix(doc.Problems[0].Text, overrides+`:1: unknown override "asleep"`)
	})
	replace(t, overrides, "")
	eventually(t, "no problem", func() bool { return len(s.document().Problems) == 0 })
}

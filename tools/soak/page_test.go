// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// A good document fits the schema, is true and is recent. Each of these changes makes it a bad one,
// and the soak has to say how.
func TestJudgeOfTheDocument(t *testing.T) {
	s, err := readSchema(filepath.Join("..", "..", "docs", "status.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	members := someAddrs("192.0.2.1")[:2]
	set := &rrset{name: "www.test.", qtype: dns.TypeA, members: members, health: map[netip.Addr]*timeline[health]{
		members[0]: newTimeline(refusing), members[1]: newTimeline(healthy)}}
	w := &world{reality: &reality{starved: newTimeline(false), busy: func() time.Duration { return 0 }}, subjects: []*subject{{rrset: set}}}
	now := time.Now()
	for name, tc := range map[string]struct {
		change func(d *statuspage.Document)
		text   [2]string // replaced by the second
		first  bool      // it is the first
		wrong  string
	}{
		"good":                   {wrong: ""},
		"old":                    {change: func(d *statuspage.Document) { d.Time = now.Add(-time.Minute) }, wrong: "it is of"},
		"a dead one up":          {change: func(d *statuspage.Document) { d.Names[0].Members[0].Verdict = "up" }, wrong: `192.0.2.1 is "up", which is not true`},
		"one that is up down":    {change: func(d *statuspage.Document) { d.Names[0].Members[1].Verdict = "down" }, wrong: `192.0.2.2 is "down", which is not true`},
		"one that is not known":  {change: func(d *statuspage.Document) { d.Names[0].Members[1].Verdict = "unknown" }, wrong: `192.0.2.2 is "unknown", which is not true`},
		"not known, at first":    {change: func(d *statuspage.Document) { d.Names[0].Members[1].Verdict = "unknown" }, first: true},
		"a member is missing":    {change: func(d *statuspage.Document) { d.Names[0].Members = d.Names[0].Members[:1] }, wrong: "1 members, want 2"},
		"a rule is missing":      {change: func(d *statuspage.Document) { d.Rules = d.Rules[1:] }, wrong: "rules are of"},
		"cut":                    {text: [2]string{`"other_rules":[]}`, ""}, wrong: "unexpected end"},
		"a field more":           {text: [2]string{`"window_seconds"`, `"more":1,"window_seconds"`}, wrong: "more is not in the schema"},
		"a field less":           {text: [2]string{`"window_seconds":60,`, ""}, wrong: "no window_seconds"},
		"another type":           {text: [2]string{`"window_seconds":60`, `"window_seconds":"60"`}, wrong: "window_seconds: found 60: want integer"},
		"half a number":          {text: [2]string{`"window_seconds":60`, `"window_seconds":60.5`}, wrong: "want integer"},
		"a number below zero":    {text: [2]string{`"window_seconds":60`, `"window_seconds":-1`}, wrong: "want the first to be at most"},
		"another version":        {text: [2]string{`"version":1`, `"version":2`}, wrong: "version: found 2: want 1"},
		"an unknown verdict":     {text: [2]string{`"verdict":"up"`, `"verdict":"fine"`}, wrong: "found fine: want [unknown up down]"},
		"no time":                {text: [2]string{`"time":"20`, `"time":"yesterday 20`}, wrong: "yesterday"},
		"an override that is no": {text: [2]string{`"override":null`, `"override":{}`}, wrong: "override"},
	} {
		d := documentOf(w, now)
		if tc.change != nil {
			tc.change(d)
		}
		body, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), tc.text[0]) {
			t.Fatalf("%s: no %s in %s", name, tc.text[0], body)
		}
		text := strings.Replace(string(body), tc.text[0], tc.text[1], 1)
		ok := head{200, http.Header{"Content-Type": {"application/json"}, "Content-Security-Policy": {"default-src 'none'"}}}
		l := newLooker(w, s)
		if !tc.first {
			l.first = now.Add(-time.Minute)
		}
		wrong := l.documentWrong(ok, []byte(text), now, now)
		if !strings.Contains(wrong, tc.wrong) || (wrong == "") != (tc.wrong == "") {
			t.Errorf("%s: %q, want %q", name, wrong, tc.wrong)
		}
	}
}

// documentOf returns a document as the page has it when the first member is down.
func documentOf(w *world, now time.Time) *statuspage.Document {
	d := &statuspage.Document{Version: 1, Time: now, Window: 60, Problems: []statuspage.Problem{}, Endpoints: []statuspage.Endpoint{}, OtherRules: []string{}}
	for _, zone := range w.shownZones() {
		d.Rules = append(d.Rules, statuspage.Rule{Zone: zone + ".", Policy: "round_robin", Servers: []string{}, Options: []string{}, Checks: []statuspage.Check{}, Files: []statuspage.File{}})
	}
	member := func(addr, verdict string) statuspage.Member {
		return statuspage.Member{Member: addr, Verdict: verdict, State: "answers", Weight: 1, Tier: 1, Probes: []statuspage.Probe{}}
	}
	d.Names = []statuspage.Name{{Name: "www.test.", Type: "A", Section: "answer", Answer: "members", Tier: 1, Members: []statuspage.Member{
		member("192.0.2.1", "down"), member("192.0.2.2", "up")}}}
	return d
}

// A schema that says more than the soak can check is refused.
func TestUnknownKeyword(t *testing.T) {
	if err := known(map[string]any{"properties": map[string]any{"pattern": map[string]any{"pattern": "x"}}}, "schema"); err == nil ||
		err.Error() != `schema properties: unknown keyword "pattern": want one that the soak checks` {
		t.Error(err)
	}
}

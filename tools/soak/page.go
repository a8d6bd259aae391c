// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// statusAddress is the address of the status page.
const statusAddress = "127.0.0.1:9154"

// looker looks at the status page, all the time, as JSON and as the page for people in turns. Owned
// by one goroutine.
type looker struct {
	w      *world
	schema *schema
	first  time.Time // of the documents
	latest time.Time
	client *http.Client
}

// lookEvery is the time between two looks.
const lookEvery = 250 * time.Millisecond

func newLooker(w *world, s *schema) *looker {
	return &looker{w: w, schema: s, client: &http.Client{Transport: &http.Transport{}, Timeout: replyWithin}}
}

// run looks until ctx is done.
func (l *looker) run(ctx context.Context) {
	hushes := int64(0)
	for i := 0; pause(ctx, lookEvery) == nil; i++ {
		l.w.gate.RLock()
		if hushes != l.w.hushes {
			l.client.CloseIdleConnections()
			hushes = l.w.hushes
		}
		if ctx.Err() == nil {
			l.look([]string{statuspage.JSONPath, statuspage.PagePath}[i%2])
		}
		l.w.gate.RUnlock()
	}
	l.client.CloseIdleConnections()
}

// look reads the page once and judges it. The page has to answer during reloads too.
func (l *looker) look(path string) {
	from := time.Now()
	head, body, err := l.get(path)
	to := time.Now()
	if err != nil {
		l.w.lostLook(path, from, to, err)
		return
	}
	l.w.count.query("the status page", path, false)
	judge := l.pageWrong
	if path == statuspage.JSONPath {
		judge = l.documentWrong
	}
	if wrong := judge(head, body, from, to); wrong != "" {
		l.w.violation("the status page is wrong", "%s: %s", path, wrong)
	}
}

// head is the beginning of a response.
type head struct {
	status int
	header http.Header
}

func (l *looker) get(path string) (h head, body []byte, err error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+statusAddress+path, nil)
	if err != nil {
		return h, nil, err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return h, nil, err
	}
	body, err = io.ReadAll(response.Body)
	return head{response.StatusCode, response.Header}, body, errors.Join(err, response.Body.Close())
}

// lostLook counts a request that the page did not answer.
func (w *world) lostLook(path string, from, to time.Time, err error) {
	why := ""
	if w.starvation(from, to) {
		why = "descriptors run out"
	}
	w.count.lost("the status page", path, why)
	if why == "" {
		w.violation("the status page does not answer", "%s: %v", path, err)
	}
}

// headWrong says what is wrong with the head of a response.
func headWrong(h head, contentType string) string {
	switch {
	case h.status != http.StatusOK:
		return fmt.Sprintf("status is %d", h.status)
	case h.header.Get("Content-Type") != contentType:
		return fmt.Sprintf("Content-Type is %q, want %q", h.header.Get("Content-Type"), contentType)
	case !strings.HasPrefix(h.header.Get("Content-Security-Policy"), "default-src 'none'"):
		return "Content-Security-Policy is " + h.header.Get("Content-Security-Policy")
	}
	return ""
}

// pageWrong says what is wrong with the page for people. It must be whole and have every rule.
func (l *looker) pageWrong(h head, body []byte, _, _ time.Time) string {
	if wrong := headWrong(h, "text/html; charset=utf-8"); wrong != "" {
		return wrong
	}
	if !bytes.HasSuffix(bytes.TrimSpace(body), []byte("</html>")) {
		return fmt.Sprintf("%d bytes that do not end as a page does", len(body))
	}
	for _, zone := range l.w.shownZones() {
		if !bytes.Contains(body, []byte(zone)) {
			return "nothing of " + zone
		}
	}
	return ""
}

// documentWrong says what is wrong with the document. It must fit the schema, be recent, and be
// true about rules and members.
func (l *looker) documentWrong(h head, body []byte, from, to time.Time) string {
	if wrong := headWrong(h, "application/json"); wrong != "" {
		return wrong
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err.Error()
	}
	if err := l.schema.check(l.schema.root, value, "the document"); err != nil {
		return err.Error()
	}
	document := new(statuspage.Document)
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.DisallowUnknownFields()
	if err := strict.Decode(document); err != nil {
		return err.Error()
	}
	if l.first.IsZero() {
		l.first = document.Time
	}
	before := l.latest
	l.latest = document.Time
	busy := l.w.busy()
	switch {
	case document.Time.Before(before):
		return fmt.Sprintf("it is of %s, and was of %s before", document.Time, before)
	case document.Time.Before(from.Add(-2*time.Second-busy)) || document.Time.After(to.Add(time.Second)):
		return fmt.Sprintf("it is of %s, asked for from %s to %s", document.Time, from, to)
	}
	return l.contentWrong(document, document.Time, to, busy)
}

// contentWrong says what is not true in a document that was made at some time.
func (l *looker) contentWrong(document *statuspage.Document, from, to time.Time, busy time.Duration) string {
	var zones []string
	for _, rule := range document.Rules {
		zones = append(zones, strings.TrimSuffix(rule.Zone, "."))
	}
	slices.Sort(zones)
	if want := l.w.shownZones(); !slices.Equal(zones, want) {
		return fmt.Sprintf("rules are of %q, want %q", zones, want)
	}
	for _, name := range document.Names {
		set := l.w.setOf(name.Name, name.Type)
		if set == nil || set.targets != nil || name.Section != "answer" {
			continue
		}
		known := from.Sub(l.first) > set.timed().upWithin(busy)
		if wrong := verdictsWrong(set, &name, known, from, to, busy); wrong != "" {
			return fmt.Sprintf("%s %s: %s", name.Name, name.Type, wrong)
		}
	}
	return ""
}

// verdictsWrong says which verdicts of a name's members are wrong. A verdict that was known stays
// known over reloads.
func verdictsWrong(set *rrset, name *statuspage.Name, known bool, from, to time.Time, busy time.Duration) string {
	if len(name.Members) != len(set.members) {
		return fmt.Sprintf("%d members, want %d", len(name.Members), len(set.members))
	}
	for _, a := range set.members {
		i := slices.IndexFunc(name.Members, func(m statuspage.Member) bool { return m.Member == a.String() })
		if i < 0 {
			return fmt.Sprintf("%s is missing", a)
		}
		history := set.health[a]
		if history == nil {
			continue
		}
		verdict := name.Members[i].Verdict
		switch e := set.timed().expect(history, from, to, busy); {
		case known && verdict == "unknown", e == mustAnswer && verdict == "down", e == mustNot && verdict != "down":
			return fmt.Sprintf("%s is %q, which is not true", a, verdict)
		}
	}
	return ""
}

// setOf returns the RRset of a name that is asked for; nil for others.
func (w *world) setOf(name, qtype string) *rrset {
	for _, s := range w.subjects {
		if s.name == dns.CanonicalName(name) && dns.Type(s.qtype).String() == qtype {
			return s.rrset
		}
	}
	return nil
}

// shownZones returns the zones of the rules that the page shows, sorted.
func (w *world) shownZones() []string {
	zones := []string{"pool.up.test", "targets.up.test", "observed.pool.test", "signed.test", "pool.dot.test"}
	for _, f := range w.farms {
		zones = append(zones, f.name+".pool.test")
	}
	slices.Sort(zones)
	return zones
}

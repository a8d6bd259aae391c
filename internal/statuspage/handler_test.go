// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is a document whose texts would do harm as markup.
func sample() *Document {
	moment := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	evil := `<script>alert("1")</script>`
	return &Document{
		Version: Version, Time: moment,
		Problems: []Problem{{Kind: "file", Zone: "example.org.", Text: evil}},
		Rules:    []Rule{{Zone: "example.org.", Options: []string{evil}, Files: []File{{Path: evil, Problem: evil}}}},
		Names: []Name{{Name: evil, Type: "A", Answer: "members", Members: []Member{{
			Member: evil, Verdict: "down", Since: &moment, Override: &Override{What: "down", Why: evil, Where: evil},
			Probes: []Probe{{Check: evil, Error: evil, Note: evil}},
		}}}},
		Endpoints: []Endpoint{{Zone: evil, Address: evil, Probe: Probe{Check: evil, Error: evil}}}, OtherRules: []string{evil},
	}
}

func do(h http.Handler, method, host, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// On a loopback address only names that cannot be turned elsewhere are answered.
func TestHosts(t *testing.T) {
	tests := []struct {
		host             string
		loopback, public int
	}{
		{"127.0.0.1:9154", 200, 200},
		{"127.0.0.1", 200, 200},
		{"localhost:9154", 200, 200},
		{"LOCALHOST", 200, 200},
		{"[::1]:9154", 200, 200},
		{"[::1]", 200, 200},
		{"192.0.2.1:9154", 200, 200},
		{"evil.example:9154", 403, 200},
		{"localhost.evil.example", 403, 200},
		{"127.0.0.1.evil.example:9154", 403, 200},
		{"localhost:evil", 403, 200},
		{"", 403, 200},
	}
	for _, tc := range tests {
		for path := range map[string]bool{PagePath: true, JSONPath: true, "/page.js": true} {
			if got := do(newHandler(sample, nil, true), http.MethodGet, tc.host, path).Code; got != tc.loopback {
				t.Errorf("%s for %q on loopback: %d, want %d", path, tc.host, got, tc.loopback)
			}
			if got := do(newHandler(sample, nil, false), http.MethodGet, tc.host, path).Code; got != tc.public {
				t.Errorf("%s for %q elsewhere: %d, want %d", path, tc.host, got, tc.public)
			}
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	h := newHandler(sample, nil, true)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
		if w := do(h, method, "localhost", JSONPath); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
	for path, want := range map[string]struct {
		code        int
		contentType string
	}{
		"/":            {200, "text/html; charset=utf-8"},
		"/page.css":    {200, "text/css; charset=utf-8"},
		"/page.js":     {200, "text/javascript; charset=utf-8"},
		"/icon.svg":    {200, "image/svg+xml"},
		"/v1/status":   {200, "application/json"},
		"/v2/status":   {404, "text/plain; charset=utf-8"},
		"/favicon.ico": {404, "text/plain; charset=utf-8"},
		"/page.html":   {404, "text/plain; charset=utf-8"},
		"/../go.mod":   {404, "text/plain; charset=utf-8"},
	} {
		w := do(h, http.MethodGet, "localhost", path)
		if w.Code != want.code || w.Header().Get("Content-Type") != want.contentType {
			t.Errorf("%s: %d %s, want %v", path, w.Code, w.Header().Get("Content-Type"), want)
		}
	}
}

// Every reply says what browsers may do with it, whatever it is.
func TestHeaders(t *testing.T) {
	h := newHandler(sample, nil, true)
	replies := []*httptest.ResponseRecorder{
		do(h, "GET", "localhost", "/"), do(h, "GET", "localhost", "/v1/status"), do(h, "GET", "localhost", "/page.js"),
		do(h, "GET", "localhost", "/nothing"), do(h, "POST", "localhost", "/"), do(h, "GET", "evil.example", "/"),
	}
	for i, w := range replies {
		policy := w.Header().Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("reply %d: the policy has no %s: %s", i, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("reply %d: the policy is lax: %s", i, policy)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("reply %d: %s is %q, want %q", i, name, got, want)
			}
		}
	}
}

// The page has nothing inline, which its policy would not let run, and nothing that is not its own;
// what comes from outside is text.
func TestPageIsInert(t *testing.T) {
	body := do(newHandler(sample, nil, true), "GET", "localhost", "/").Body.String()
	for _, bad := range []string{`<script>`, ` style="`, `<style`, ` onclick`, `javascript:`, `"//`, `http:`, `https:`} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %s:\n%s", bad, body)
		}
	}
	if n := strings.Count(body, "&lt;script&gt;alert"); n < 12 {
		t.Errorf("%d texts are escaped, want all:\n%s", n, body)
	}
	for _, asset := range []string{"page.js", "page.css"} {
		content, err := assets.ReadFile("assets/" + asset)
		if err != nil {
			t.Fatal(err)
		}
		if bad := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|@import|url\(`).Find(content); bad != nil {
			t.Errorf("%s has %s", asset, bad)
		}
	}
}

// A document is made once a second at most; one that differs in its time only is the same to who
// has it.
func TestETag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made, answers := 0, 0
		h := newHandler(func() *Document {
			made++
			d := sample()
			d.Time, d.Names[0].Answers = time.Now(), answers
			return d
		}, nil, true)
		first := do(h, "GET", "localhost", JSONPath)
		for range 10 {
			do(h, "GET", "localhost", JSONPath)
			do(h, "GET", "localhost", "/")
		}
		if made != 1 {
			t.Errorf("%d documents were made, want one", made)
		}
		<-time.After(freshFor)
		etag := first.Header().Get("ETag")
		if again := do(h, "GET", "localhost", JSONPath, "If-None-Match", etag); made != 2 || again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("the same later: %d with %d bytes after %d documents, want 304 without any after 2", again.Code, again.Body.Len(), made)
		}
		<-time.After(freshFor)
		answers = 1
		changed := do(h, "GET", "localhost", JSONPath, "If-None-Match", etag)
		var doc Document
		if err := json.Unmarshal(changed.Body.Bytes(), &doc); err != nil || changed.Code != 200 || doc.Names[0].Answers != 1 || !doc.Time.Equal(time.Now()) {
			t.Errorf("another: %d %v %+v, want it with its time", changed.Code, err, doc)
		}
	})
}

// A document that took long to make, or a process that stood still meanwhile, is not taken for a
// new one.
func TestLongMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(func() *Document {
			d := sample()
			d.Time = time.Now()
			<-time.After(3 * freshFor)
			return d
		}, nil, true)
		for range 3 {
			asked := time.Now()
			var doc Document
			if err := json.Unmarshal(do(h, "GET", "localhost", JSONPath).Body.Bytes(), &doc); err != nil || doc.Time.Before(asked.Add(-freshFor)) {
				t.Errorf("asked for at %v it is of %v: %v", asked, doc.Time, err)
			}
		}
	})
}

// However long one takes, those who wait for it share the next.
func TestWaitersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		h := newHandler(func() *Document {
			made++
			<-time.After(3 * freshFor)
			return sample()
		}, nil, true)
		asked := time.Now() // by all, while the first is made
		for want, asked := range []time.Time{asked, asked.Add(freshFor), asked.Add(2 * freshFor), asked.Add(3 * freshFor)} {
			if _, err := h.at(asked); err != nil || made != min(want+1, 2) {
				t.Errorf("%d were made for %d who asked: %v", made, want+1, err)
			}
		}
	})
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 59*time.Minute + 59*time.Second: "59 min", time.Hour: "1 h", 47 * time.Hour: "47 h", 49 * time.Hour: "2 days",
	} {
		moment := now.Add(-d)
		if got := ago(now, &moment); got != want {
			t.Errorf("%v ago is %q, want %q", d, got, want)
		}
	}
	if got := ago(now, nil); got != "" {
		t.Errorf("unknown is %q, want nothing", got)
	}
}

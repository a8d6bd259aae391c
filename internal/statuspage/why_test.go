// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func askWhy(h http.Handler, query string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, WhyPath+"?"+query, nil)
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	return w
}

func TestWhyQuestions(t *testing.T) {
	h := newHandler(sample, func(_ context.Context, q Question) *Why {
		return &Why{Name: q.Name, Type: dns.TypeToString[q.Type], Client: q.Client.String()}
	}, true)
	for _, test := range []struct {
		query string
		code  int
		want  string
	}{
		{"name=www.example.org", 200, "www.example.org. A 127.0.0.1"},
		{"name=www.example.org.&type=aaaa&client=2001:db8::1", 200, "www.example.org. AAAA 2001:db8::1"},
		{"", 400, "found no name, want /v1/why?name=NAME&type=TYPE&client=ADDRESS\n"},
		{"name=a..b", 400, "name: found \"a..b\", want a domain name\n"},
		{"name=a&type=NO", 400, "type: found \"NO\", want an RR type such as A, AAAA or SRV\n"},
		{"name=a&client=fe80::1%25eth0", 400, "client: found \"fe80::1%eth0\", want an IP address\n"},
		{"name=a&name=b", 400, "name: given 2 times, want it once\n"},
		{"name=a&turn=7", 400, "found \"turn\", want name, type and client\n"},
	} {
		w := askWhy(h, test.query)
		got := w.Body.String()
		if why := new(Why); w.Code == http.StatusOK && json.Unmarshal(w.Body.Bytes(), why) == nil {
			got = strings.Join([]string{why.Name, why.Type, why.Client}, " ")
		}
		if w.Code != test.code || got != test.want {
			t.Errorf("%s: %d %q, want %d %q", test.query, w.Code, got, test.code, test.want)
		}
	}
}

// Each question resolves a name through the plugins below, so they are few at once, and few a
// second.
func TestWhyIsLimited(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	h := newHandler(sample, func(context.Context, Question) *Why {
		arrived <- struct{}{}
		<-release
		return &Why{}
	}, true)
	done := make(chan int)
	for range whyInFlight {
		go func() { done <- askWhy(h, "name=a").Code }()
		<-arrived
	}
	if got := askWhy(h, "name=a"); got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") != "1" {
		t.Errorf("%d with Retry-After %q, want 429 with 1", got.Code, got.Header().Get("Retry-After"))
	}
	close(release)
	for range whyInFlight {
		if code := <-done; code != http.StatusOK {
			t.Errorf("a question in flight got %d", code)
		}
	}
	h = newHandler(sample, func(context.Context, Question) *Why { return &Why{} }, true)
	refused := 0
	for range 10 * whyBurst {
		if askWhy(h, "name=a").Code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("%d questions at once were all answered, want at most %d a second", 10*whyBurst, whyRate)
	}
}

// The page has a form, and shows the answer as text, whatever a name holds.
func TestWhyPage(t *testing.T) {
	h := newHandler(sample, func(_ context.Context, q Question) *Why {
		return &Why{Name: q.Name, Type: dns.TypeToString[q.Type], Client: q.Client.String(), Answers: []WhyAnswer{{
			Servers: []string{"dns://:53"}, Zone: "example.org.", Rule: "Corefile:3", Rcode: "NOERROR", Result: "filtered",
			Answer: []string{"www.example.org.\t5\tIN\tA\t192.0.2.1"},
			RRsets: []WhyRRset{{Name: "www.example.org.", Type: "A", Section: "answer", Steps: []string{"1 of 2 members can answer"}, Members: []WhyMember{
				{Member: "192.0.2.1", Place: 1, State: "answers", Reasons: []string{"up for 7s: tcp:80"}},
				{Member: "192.0.2.2", State: "down", Reasons: []string{"down for 3s: tcp:80: connection refused", "weight 5"}},
			}}},
		}}}
	}, true)
	get := func(query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, whyPagePath+query, nil)
		r.Host = "localhost"
		h.ServeHTTP(w, r)
		return w
	}
	if w := get(""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `<form action="/why" method="get">`) {
		t.Errorf("%d %s: want the form", w.Code, w.Body)
	}
	if w := get("?name=a..b"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "want a domain name") {
		t.Errorf("%d %s: want the error beside the form", w.Code, w.Body)
	}
	w := get("?name=%3Cscript%3E.example.org")
	for _, want := range []string{
		";; dns://:53, rule example.org. (Corefile:3)\n;; NOERROR, filtered\nwww.example.org.\t5\tIN\tA\t192.0.2.1\n",
		";;   1 of 2 members can answer\n;;   1     192.0.2.1  up for 7s: tcp:80\n;;   down  192.0.2.2  down for 3s: tcp:80: connection refused; weight 5\n",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, w.Body)
		}
	}
	if strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("a name became markup:\n%s", w.Body)
	}
}

// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"
)

// WhyPath is where Why is served: /v1/why?name=NAME&type=TYPE&client=ADDRESS.
const WhyPath = "/v1/why"

// Question asks what a client would get. Type is an RR type such as A; the zero Client is
// 127.0.0.1.
type Question struct {
	Name   string // fully qualified
	Type   uint16
	Client netip.Addr
}

// Why is the answer that a client would get now, and how it comes about.
type Why struct {
	Version int         `json:"version"`
	Time    time.Time   `json:"time"`
	Host    string      `json:"host"`
	Name    string      `json:"name"`
	Type    string      `json:"type"`
	Client  string      `json:"client"`
	Answers []WhyAnswer `json:"answers"` // one for each server block that has a rule for the name
}

// WhyAnswer is the answer of one server block.
type WhyAnswer struct {
	Servers []string `json:"servers"`
	View    string   `json:"view,omitempty"`
	Zone    string   `json:"zone"` // of the rule
	Rule    string   `json:"rule"` // the file and line of its stanza
	Observe bool     `json:"observe"`

	Rcode      string   `json:"rcode"`
	Answer     []string `json:"answer"` // records in zone file format
	Authority  []string `json:"authority"`
	Additional []string `json:"additional"`
	Result     string   `json:"result"` // as in responses_total; empty if no plugin below answered
	Problem    string   `json:"problem,omitempty"`

	// Those that the rule decides about, in the order of the answer.
	RRsets []WhyRRset `json:"rrsets"`
}

// WhyRRset says how an RRset is arranged. Steps are sentences, in the order of the decisions.
type WhyRRset struct {
	Name    string      `json:"name"`
	Type    string      `json:"type"`
	Section string      `json:"section"` // answer, additional or hints
	Steps   []string    `json:"steps"`
	Members []WhyMember `json:"members"` // those that go out first, in their order
}

// WhyMember says what becomes of a member. State is as in Member.
type WhyMember struct {
	Member  string   `json:"member"`
	Place   int      `json:"place"` // in the answer, the lead being 1; 0: it does not go out
	State   string   `json:"state"`
	Reasons []string `json:"reasons"`
}

// Explainer answers questions. It may be called by several goroutines at once.
type Explainer func(context.Context, Question) *Why

// Limits of questions: each resolves a name through the plugins below.
const (
	whyRate     = 5 // a second
	whyBurst    = 20
	whyInFlight = 4
	whyTimeout  = 5 * time.Second
)

// questions answers questions within their limits. Safe for concurrent use.
type questions struct {
	explain  Explainer
	rate     *rate.Limiter
	inFlight chan struct{} // holds a token for each
}

func newQuestions(explain Explainer) questions {
	return questions{explain, rate.NewLimiter(whyRate, whyBurst), make(chan struct{}, whyInFlight)}
}

// Errors of questions that were not answered.
var (
	errTooMany = fmt.Errorf("too many questions: want at most %d a second, and %d at once", whyRate, whyInFlight)
	errTooLate = fmt.Errorf("no answer from the plugins below within %s", whyTimeout)
)

// ask answers a question. A plugin below that does not heed the context keeps its place in flight.
func (a questions) ask(ctx context.Context, q Question) (*Why, error) {
	if !a.rate.Allow() {
		return nil, errTooMany
	}
	select {
	case a.inFlight <- struct{}{}:
	default:
		return nil, errTooMany
	}
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	answered := make(chan *Why, 1)
	go func() {
		defer func() { <-a.inFlight }()
		answered <- a.explain(ctx, q)
	}()
	select {
	case why := <-answered:
		return why, nil
	case <-ctx.Done():
		return nil, errTooLate
	}
}

// serveWhy answers a question for programs.
func (h *handler) serveWhy(w http.ResponseWriter, r *http.Request) {
	why, code, err := h.answer(r)
	if err != nil {
		refuse(w, code, err)
		return
	}
	content, err := json.Marshal(why)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, "application/json", content)
}

// answer answers the question of a request. The code is that of the error.
func (h *handler) answer(r *http.Request) (why *Why, code int, err error) {
	q, err := parseQuestion(r.URL.Query())
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	switch why, err = h.questions.ask(r.Context(), q); {
	case errors.Is(err, errTooMany):
		return nil, http.StatusTooManyRequests, err
	case err != nil:
		return nil, http.StatusGatewayTimeout, err
	}
	return why, http.StatusOK, nil
}

// refuse answers a request with an error.
func refuse(w http.ResponseWriter, code int, err error) {
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, err.Error(), code)
}

// whyPagePath is where people ask.
const whyPagePath = "/why"

var whyPage = template.Must(template.ParseFS(assets, "assets/why.html"))

// serveWhyPage shows a form and, if it is filled in, the answer.
func (h *handler) serveWhyPage(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	shown := struct{ Name, Type, Client, Problem, Text string }{
		Name: values.Get("name"), Type: cmp.Or(values.Get("type"), "A"), Client: cmp.Or(values.Get("client"), "127.0.0.1"),
	}
	code := http.StatusOK
	if len(values) > 0 {
		var why *Why
		var err error
		if why, code, err = h.answer(r); err != nil {
			shown.Problem = err.Error()
		} else {
			var text strings.Builder
			_ = why.WriteText(&text) // a Builder has no errors
			shown.Text = text.String()
		}
	}
	var b bytes.Buffer
	if err := whyPage.Execute(&b, shown); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // whoever asked is gone if this fails
}

// parseQuestion reads the parameters of a request.
func parseQuestion(values map[string][]string) (q Question, err error) {
	q = Question{Type: dns.TypeA, Client: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	for key, given := range values {
		if len(given) != 1 {
			return q, fmt.Errorf("%s: given %d times, want it once", key, len(given))
		}
		switch value := given[0]; key {
		case "name":
			if _, ok := dns.IsDomainName(value); !ok || value == "" {
				return q, fmt.Errorf("name: found %q, want a domain name", value)
			}
			q.Name = dns.Fqdn(value)
		case "type":
			qtype, ok := dns.StringToType[strings.ToUpper(value)]
			if !ok {
				return q, fmt.Errorf("type: found %q, want an RR type such as A, AAAA or SRV", value)
			}
			q.Type = qtype
		case "client":
			if q.Client, err = netip.ParseAddr(value); err != nil || q.Client.Zone() != "" {
				return q, fmt.Errorf("client: found %q, want an IP address", value)
			}
		default:
			return q, fmt.Errorf("found %q, want name, type and client", key)
		}
	}
	if q.Name == "" {
		return q, fmt.Errorf("found no name, want %s?name=NAME&type=TYPE&client=ADDRESS", WhyPath)
	}
	return q, nil
}

// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

//go:embed assets
var assets embed.FS

// freshFor is how long a document is served before another is made: many who look cost no more than
// one.
const freshFor = time.Second

// Paths of what is served.
const (
	PagePath = "/"
	JSONPath = "/v1/status"
)

// handler serves documents. Safe for concurrent use.
type handler struct {
	source   func() *Document
	loopback bool // only this host can ask, so a name that is not this host's is an attack
	files    map[string]file

	questions questions

	sync.Mutex
	latest *rendered
}

// rendered is a document as it is served.
type rendered struct {
	*Document
	json  []byte
	etag  string // the same for documents that differ in their time only
	begun time.Time
}

// file is one that never changes.
type file struct {
	content     []byte
	contentType string
}

func newHandler(source func() *Document, explain Explainer, loopback bool) *handler {
	h := &handler{source: source, questions: newQuestions(explain), loopback: loopback, files: make(map[string]file)}
	for name, contentType := range map[string]string{
		"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		content, err := assets.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		h.files["/"+name] = file{content, contentType}
	}
	return h
}

// policy lets the page have its own script, style, icon and documents, and nothing else from
// anywhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      policy,
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
	} {
		w.Header().Set(name, value)
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this page is read-only: want GET or HEAD", http.StatusMethodNotAllowed)
	case h.loopback && !namesThisHost(r.Host):
		http.Error(w, fmt.Sprintf("found the host %q: want localhost or an address, for other names may be a trick to read this page (DNS rebinding)", r.Host),
			http.StatusForbidden)
	default:
		h.route(w, r)
	}
}

func (h *handler) route(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case PagePath:
		h.servePage(w)
	case JSONPath:
		h.serveJSON(w, r)
	case WhyPath:
		h.serveWhy(w, r)
	case whyPagePath:
		h.serveWhyPage(w, r)
	default:
		f, ok := h.files[r.URL.Path]
		if !ok {
			http.Error(w, fmt.Sprintf("nothing here: want %s, %s or %s", PagePath, JSONPath, WhyPath), http.StatusNotFound)
			return
		}
		write(w, f.contentType, f.content)
	}
}

// namesThisHost reports whether the Host header of a request is an address or localhost. Any other
// name may belong to an attacker who points it to 127.0.0.1, to read this page with the browser of
// a user of this host (DNS rebinding).
func namesThisHost(host string) bool {
	if _, err := netip.ParseAddrPort(host); err == nil {
		return true
	}
	name, port, found := strings.Cut(host, ":")
	if found && strings.Trim(port, "0123456789") == "" && strings.EqualFold(name, "localhost") || strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil
}

func write(w http.ResponseWriter, contentType string, content []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content) // if this fails, the client has gone
}

// at returns a document for a request that came at a time: one that was begun since then, or at
// most freshFor ago. So requests that wait for a slow document share the next one.
func (h *handler) at(asked time.Time) (*rendered, error) {
	h.Lock()
	defer h.Unlock()
	if h.latest != nil && (!h.latest.begun.Before(asked) || time.Since(h.latest.begun) < freshFor) {
		return h.latest, nil
	}
	begun := time.Now()
	fresh := &rendered{Document: h.source(), begun: begun}
	moment := fresh.Time
	fresh.Time = time.Time{}
	timeless, err := json.Marshal(fresh.Document)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(timeless)
	fresh.etag = `"` + hex.EncodeToString(sum[:16]) + `"`
	fresh.Time = moment
	if fresh.json, err = json.Marshal(fresh.Document); err != nil {
		return nil, err
	}
	h.latest = fresh
	return fresh, nil
}

func (h *handler) serveJSON(w http.ResponseWriter, r *http.Request) {
	latest, err := h.at(time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", latest.etag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == latest.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	write(w, "application/json", latest.json)
}

func (h *handler) servePage(w http.ResponseWriter) {
	latest, err := h.at(time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var b bytes.Buffer
	if err := page.Execute(&b, latest.Document); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, "text/html; charset=utf-8", b.Bytes())
}

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"percent": func(share float64) string { return strconv.FormatFloat(100*share, 'f', 0, 64) + " %" },
	"ago":     ago,
	"count":   text.Count,
	"begins":  strings.HasPrefix,
	"state":   func(state string) string { return states[state] },
}).ParseFS(assets, "assets/page.html"))

// states are what the page says of a member; page.js says the same.
var states = map[string]string{
	"answers": "in turn", "limit": "beyond the limit", "drained": "standby", "tier": "other tier answers", "down": "left out", "damped": "left out: it flaps",
}

// ago says how long before now a moment was, roughly; nothing if it is unknown.
func ago(now time.Time, moment *time.Time) string {
	if moment == nil {
		return ""
	}
	d := now.Sub(*moment)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

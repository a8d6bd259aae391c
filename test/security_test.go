// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// scraped returns all that a scrape says.
func scraped(t *testing.T, addr string) string {
	t.Helper()
	var b strings.Builder
	for series := range counts(t, addr) {
		b.WriteString(series + "\n")
	}
	return b.String()
}

// Names that clients and zone owners choose are in neither the log nor the metrics.
func TestNamesOfClientsAreNowhere(t *testing.T) {
	var k *checked
	var series string
	f := newFarm(t, 1, listening)
	log := capture(t, func() {
		k = startChecked(t, rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")+f.as("*")+f.as("forged-name-www")))
		k.verdicts(1, 0)
		for i := range 200 {
			k.c.Ask(query(fmt.Sprintf(`forged-name-%d\010[ERROR]\027.example.org.`, i), dns.TypeA))
			k.c.Ask(query(fmt.Sprintf(`forged-name-%d.example.org.`, i), dns.TypeMX))
		}
		k.c.Ask(query("forged-name-www.example.org.", dns.TypeA))
		series = scraped(t, k.metrics)
		k.stop()
	})
	if strings.Contains(log, "forged") || strings.Contains(series, "forged") {
		t.Errorf("log:\n%s\nmetrics:\n%s", log, series)
	}
}

// What a backend says is quoted in the log, and short, and in no metric.
func TestWhatBackendsSayIsQuoted(t *testing.T) {
	f := newFarm(t, 2, accepting(func(c net.Conn) {
		c.Write([]byte("\x1b]0;x\x07\r\n[ERROR] forged\r\n" + strings.Repeat("y", 5000)))
	}))
	var series string
	log := capture(t, func() {
		k := startChecked(t, rule(f.check("tcp", "", `receive "never there"`), "all_down open"), "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(0, 2)
		series = scraped(t, k.metrics)
		k.stop()
	})
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "[ERROR] forged") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) || len(line) > 500 {
			t.Errorf("the log has %q", line)
		}
	}
	if strings.Contains(series, "forged") || !strings.Contains(log, `got "\x1b]0;x`) {
		t.Errorf("log:\n%s\nmetrics:\n%s", log, series)
	}
}

// A backend's redirect leads nowhere: neither is its target asked, nor does it count as up.
func TestRedirectsLeadNowhere(t *testing.T) {
	var asked atomic.Int64
	other := deadFarm(t, 1, serving(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	other.revive(0)
	f := newFarm(t, 1, serving(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+net.JoinHostPort(other.addrs[0], other.port)+"/", http.StatusFound)
	}))
	k := startChecked(t, rule(f.check("http", "/"), "all_down open"), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(0, 1)
	if asked.Load() != 0 {
		t.Errorf("the target of a redirect was asked %d times", asked.Load())
	}
}

// What a probe sends is what the Corefile says, whatever name led to the endpoint: the Host header
// is the address.
func TestProbesHoldNoNameOfARecord(t *testing.T) {
	requests := make(chan *http.Request, 100)
	f := newFarm(t, 1, serving(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case requests <- r:
		default:
		}
	}))
	k := startChecked(t, rule(f.check("http", "/healthz")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(1, 0)
	r := <-requests
	if r.Host != net.JoinHostPort(f.addrs[0], f.port) || r.URL.String() != "/healthz" || len(r.Header) != 3 {
		t.Errorf("the request is for %s, %s with %v", r.Host, r.URL, r.Header)
	}
}

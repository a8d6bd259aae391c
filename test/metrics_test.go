// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// get returns what an HTTP server says. It asks again where none comes: servers give up after some
// seconds on a client that is so slow.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	var err error
	for range 5 {
		if status, body, err = tryGet(url); err == nil {
			return status, body
		}
	}
	t.Fatal(err)
	return 0, ""
}

// tryGet asks once, with a connection of its own.
func tryGet(url string) (status int, body string, err error) {
	web := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := web.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// counts reads the plugin's metrics: values by series, as the exposition spells them.
func counts(t testing.TB, addr string) map[string]float64 {
	t.Helper()
	_, body := get(t, "http://"+addr+"/metrics")
	series := map[string]float64{}
	for line := range strings.Lines(body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && strings.HasPrefix(name, "coredns_balance_") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			series[name+"}"] = n
		}
	}
	return series
}

func responses(zone, view, result string) string {
	return fmt.Sprintf("coredns_balance_responses_total{result=%q,server=\"dns://127.0.0.1:0\",view=%q,zone=%q}", result, view, zone)
}

func removed(zone, view, reason string) string {
	return fmt.Sprintf("coredns_balance_removed_records_total{reason=%q,server=\"dns://127.0.0.1:0\",view=%q,zone=%q}", reason, view, zone)
}

func TestMetrics(t *testing.T) {
	_, base := signingKey(t)
	addr := "127.0.0.1:" + freePort(t)
	db := zone(t, "example.org.", threeAs+"www.cut IN A 192.0.2.1\nwww.cut IN A 192.0.2.2\nwww.cut IN A 192.0.2.3\ntxt.cut IN TXT x\n")
	lines := []string{"balance", "balance cut.example.org {\n answers 1\n }", "dnssec {\n key file " + base + "\n }", "file " + db}
	view := "view special {\n expr client_ip() == '127.0.0.9'\n }"
	s := start(t, block(append([]string{"prometheus " + addr, view}, lines...)...)+block(append([]string{"prometheus " + addr}, lines...)...))

	before := counts(t, addr)
	plain, special := dial(t, "udp", s.udp(), ""), dial(t, "udp", s.udp(), "127.0.0.9")
	plain.Ask(query("www.example.org.", dns.TypeA))
	plain.Ask(query("www.example.org.", dns.TypeMX))
	plain.Ask(query("not-a-label.example.org.", dns.TypeA))
	plain.Ask(query("www.cut.example.org.", dns.TypeA))
	plain.Ask(query("www.cut.example.org.", dns.TypeA))
	plain.Ask(query("txt.cut.example.org.", dns.TypeTXT))
	plain.Ask(query("www.cut.example.org.", dns.TypeA).SetEdns0(4096, true))
	special.Ask(query("www.cut.example.org.", dns.TypeA))
	after := counts(t, addr)

	want := map[string]float64{
		responses("example.org.", "", "ordered"):             1,
		responses("example.org.", "", "passed"):              2,
		responses("example.org.", "", "filtered"):            0,
		responses("cut.example.org.", "", "filtered"):        2,
		responses("cut.example.org.", "", "passed"):          1,
		responses("cut.example.org.", "", "sealed"):          1,
		removed("cut.example.org.", "", "limit"):             4,
		removed("example.org.", "", "limit"):                 0,
		responses("cut.example.org.", "special", "filtered"): 1,
		removed("cut.example.org.", "special", "limit"):      2,
	}
	for series, n := range want {
		if got, there := after[series]; !there || got-before[series] != n {
			t.Errorf("%s grew by %v, want %v (there: %v)", series, got-before[series], n, there)
		}
	}
	for series := range after {
		if strings.Contains(series, "not-a-label") || strings.Contains(series, "www.") {
			t.Errorf("%s has a name from a query", series)
		}
	}
}

// Counters go on over a reload.
func TestMetricsOutliveAReload(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	corefile := blockOf("counted.test:0", "prometheus "+addr, "balance", "file "+zone(t, "counted.test.", threeAs))
	s := start(t, corefile)
	c := dial(t, "udp", s.udp(), "")
	series := responses("counted.test.", "", "ordered")
	before := counts(t, addr)[series]
	for i := range 3 {
		c.Ask(query("www.counted.test.", dns.TypeA))
		if got := counts(t, addr)[series] - before; got != float64(i+1) {
			t.Errorf("%v answers counted, want %d", got, i+1)
		}
		if err := s.restart(corefile); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReady(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	start(t, block("ready "+addr, "balance", "file "+zone(t, "example.org.", threeAs)))
	eventually(t, "ready", func() bool {
		code, body := get(t, "http://"+addr+"/ready")
		return code == http.StatusOK && body == "OK"
	})
}

func TestNoWarningsWhereAllIsWell(t *testing.T) {
	log := capture(t, func() {
		start(t, block("balance", "balance sub.example.org", "cache", "file "+zone(t, "example.org.", threeAs))+
			blockOf("example.net:0", "loadbalance", "whoami"))
	})
	if strings.Contains(log, "plugin/balance") {
		t.Errorf("log says %q, want nothing of balance", log)
	}
}

func TestWarningOfAnActiveLoadbalance(t *testing.T) {
	log := capture(t, func() { start(t, block("loadbalance", "balance", "file "+zone(t, "example.org.", threeAs))) })
	want := `[WARNING] plugin/balance: "loadbalance" is active in the same server block and shuffles what "balance" put in order: remove its line`
	if strings.Count(log, want) != 1 {
		t.Errorf("log says %q, want once %q", log, want)
	}
}

func TestWarningOfAWrongPlace(t *testing.T) {
	right := slices.Clone(dnsserver.Directives)
	t.Cleanup(func() { place(t, right) })
	tests := map[string]string{ // by the neighbour that balance is put behind
		"cache":    `"balance" stands below "rewrite"`,
		"errors":   `"balance" stands above "dnstap"`,
		"loopback": "",
		"forward":  `"balance" stands below "rewrite"`,
	}
	for neighbour, want := range tests {
		at := slices.Index(right, neighbour)
		if at < 0 {
			continue
		}
		wrong := slices.DeleteFunc(slices.Clone(right), func(d string) bool { return d == "balance" })
		place(t, slices.Insert(wrong, slices.Index(wrong, neighbour)+1, "balance"))
		log := capture(t, func() { start(t, block("balance", "cache", "whoami")) })
		fix := `put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`
		if !strings.Contains(log, "[WARNING] plugin/balance: "+want) || !strings.Contains(log, fix) {
			t.Errorf("behind %s: log says %q, want %q and the fix", neighbour, log, want)
		}
	}
}

func place(t *testing.T, list []string) {
	t.Helper()
	if err := dnsserver.SetDirectives(list); err != nil {
		t.Fatal(err)
	}
}

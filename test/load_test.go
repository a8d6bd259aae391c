// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// reporting is a web server that says how busy it is.
func reporting(utilisation string) opener {
	return serving(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("endpoint-load-metrics", "TEXT cpu_utilization="+utilisation)
	})
}

// A busy member gets less: whether its web server says that it is, or its agent asks for less. When
// it has recovered, it gets as much as the others again.
func TestLoadWeights(t *testing.T) {
	web, agents := newFarm(t, 3, reporting("0.3")), newFarm(t, 3, greeting("up\n"))
	for _, tc := range []struct {
		name, check    string
		busy, relieved func()
		note           string
	}{
		{
			"agent", agents.check("agent", ""),
			func() { agents.replace(0, greeting("up 20%\n")) }, func() { agents.replace(0, greeting("up\n")) }, "asks for 20% of its weight",
		},
		{
			"http", web.check("http", ""),
			func() { web.replace(0, reporting("0.9")) }, func() { web.replace(0, reporting("0.1")) }, "90% busy",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			page := "127.0.0.1:" + freePort(t)
			f := map[string]*farm{"http": web, "agent": agents}[tc.name]
			k := startChecked(t, rule("policy weighted", "ttl 1", "load_weights 20%", "status "+page, tc.check), "file "+zone(t, "example.org.", f.as("www")))
			k.verdicts(3, 0)
			share := func() float64 {
				l := leads{}
				for range 120 {
					l.add(k.ask(dns.TypeA), dns.TypeA)
				}
				return float64(l[f.addrs[0]]) / 120
			}
			// A reload keeps the weights of the server before, so they may have to become equal first.
			eventually(t, "all get about the same", func() bool { got := share(); return got > 0.3 && got < 0.37 })
			tc.busy()
			eventually(t, "the busy member gets less, and why says so", func() bool {
				got := share()
				_, why := get(t, "http://"+page+"/v1/why?name=www.example.org.&type=A")
				return got < 0.25 && strings.Contains(why, tc.note) && strings.Contains(why, "load_weights")
			})
			tc.relieved()
			eventually(t, "it gets about as much as the others again", func() bool { return share() > 0.32 })
			valid := fmt.Sprintf("coredns_balance_load_reports_total{result=%q,zone=\"example.org.\"}", "valid")
			eventually(t, "valid reports are counted", func() bool { return k.grown(valid) >= 6 })
		})
	}
}

// A header that makes no sense is counted and logged, and changes nothing.
func TestLoadReportNotValid(t *testing.T) {
	log := newJournal(t)
	f := newFarm(t, 3, reporting("57"))
	k := startChecked(t, rule("policy weighted", "ttl 1", "load_weights", f.check("http", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(3, 0)
	invalid := fmt.Sprintf("coredns_balance_load_reports_total{result=%q,zone=\"example.org.\"}", "invalid")
	eventually(t, "reports that are not valid are counted", func() bool { return k.grown(invalid) >= 3 })
	log.says(`load report "TEXT cpu_utilization=57": a utilisation of 57: want one from 0 to 10, where 1 is fully busy`)
	eventually(t, "all three lead about equally", func() bool { // a reload keeps the weights of the server before
		l := leads{}
		for range 30 {
			l.add(k.ask(dns.TypeA), dns.TypeA)
		}
		counts := slices.Sorted(maps.Values(l))
		return len(l) == 3 && counts[0] >= 9 && counts[2] <= 11
	})
}

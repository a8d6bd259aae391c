// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What a scrape says of endpoints is what the answers go by.
func TestMetricsOfProbes(t *testing.T) {
	steadily(t, 100*time.Millisecond, func() string { return metricsOfProbes(t) })
}

func metricsOfProbes(t *testing.T) (wrong string) {
	f := newFarm(t, 3, serving(saying(200, "")))
	check := fmt.Sprintf("http:%s/healthz", f.port)
	f.replace(2, serving(saying(503, "")))
	db := "file " + zone(t, "example.org.", f.as("www"))
	k := startChecked(t, rule(f.check("http", "/healthz")), db)
	defer k.stop()
	k.verdicts(2, 1)
	now := counts(t, k.metrics)
	for i, up := range []float64{1, 1, 0} {
		if got, there := now[endpointUp(f.addrs[i], check)]; !there || got != up {
			return fmt.Sprintf("%s is %v (there: %v), want %v", endpointUp(f.addrs[i], check), got, there, up)
		}
	}
	eventually(t, "probes are counted by result", func() bool {
		return k.grown(probes(check, "success")) >= 4 && k.grown(probes(check, "failure")) >= 2
	})
	if n := k.grown(probes(check, "error")); n != 0 {
		return fmt.Sprintf("%v probes count as faults of ours, want none", n)
	}
	if got := []float64{k.grown(transitions("up")), k.grown(transitions("down")), k.grown(transitions("unknown"))}; !slices.Equal(got, []float64{2, 1, 0}) {
		return fmt.Sprintf("transitions up, down and unknown are %v, want 2, 1 and 0", got)
	}
	f.kill(1)
	k.answers(5, f.addrs[0])
	f.revive(1)
	k.answers(5, f.addrs[:2]...)
	if got := []float64{k.grown(transitions("up")), k.grown(transitions("down"))}; !slices.Equal(got, []float64{3, 2}) {
		return fmt.Sprintf("transitions up and down are %v, want 3 and 2", got)
	}
	removedBefore := k.grown(removed("example.org.", "", "down"))
	for range 5 {
		k.ask(dns.TypeA)
	}
	if n := k.grown(removed("example.org.", "", "down")) - removedBefore; n != 5 {
		return fmt.Sprintf("%v records counted as removed, want 5", n)
	}
	for _, s := range k.seriesOf("coredns_balance") {
		if strings.Contains(s, "www") {
			return s + " has a name from a query"
		}
	}
	return ""
}

// Series of endpoints go with the endpoints, and with the rule.
func TestSeriesGoWithWhatTheyTellOf(t *testing.T) {
	f := newFarm(t, 3, listening)
	db := "file " + zone(t, "example.org.", f.as("www"))
	k := startChecked(t, rule(f.check("tcp", "")), db)
	k.verdicts(3, 0)
	narrower := strings.Replace(rule(f.check("tcp", "")), "127.1.0.0/16", "127.1.0.2/31", 1)
	for _, tc := range []struct {
		stanza string
		want   []string
	}{
		{narrower, f.addrs[1:]},
		{rule(f.check("tcp", "")), f.addrs},
		{"balance", nil},
	} {
		if err := k.restart(k.block(tc.stanza, db)); err != nil {
			t.Fatal(err)
		}
		k.ask(dns.TypeA)
		var want []string
		for _, a := range tc.want {
			want = append(want, endpointUp(a, "tcp:"+f.port))
		}
		eventually(t, fmt.Sprintf("series are %v", want), func() bool { return slices.Equal(k.seriesOf("coredns_balance_endpoint_up"), want) })
		if got := len(k.seriesOf("coredns_balance_endpoints{")); got != 3*min(1, len(want)) {
			t.Errorf("%d series of counts, want one for each verdict while there is a check", got)
		}
	}
}

// Addresses beyond max_endpoints are served as unknown and counted.
func TestATableThatIsFull(t *testing.T) {
	f := deadFarm(t, 4, listening)
	k := startChecked(t, rule(f.check("tcp", "", "max_endpoints 3")), "file "+zone(t, "example.org.", f.as("www")))
	k.ask(dns.TypeA)
	eventually(t, "three endpoints", func() bool { return counts(t, k.metrics)[endpoints("down")] == 3 })
	eventually(t, "one member", func() bool { return len(members(k.ask(dns.TypeA), dns.TypeA)) == 1 })
	if k.grown(refused("table_full")) == 0 {
		t.Error("no refusal is counted")
	}
	if n := len(k.seriesOf("coredns_balance_endpoint_up")); n != 3 {
		t.Errorf("%d endpoints, want 3", n)
	}
}

// Every new verdict is one line that says whose, of which check, why, and how long the old one
// lasted.
func TestLogOfTransitions(t *testing.T) {
	steadily(t, 100*time.Millisecond, func() string { return logOfTransitions(t) })
}

func logOfTransitions(t *testing.T) (wrong string) {
	f := newFarm(t, 3, serving(saying(200, "")))
	f.replace(2, serving(saying(503, "")))
	var k *checked
	log := capture(t, func() {
		k = startChecked(t, rule(f.check("http", "/")), "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(2, 1)
		f.kill(1)
		k.answers(5, f.addrs[0])
		f.revive(1)
		k.answers(5, f.addrs[:2]...)
		k.stop()
	})
	const took = `[0-9.]+m?s`
	at := func(i int) string {
		return fmt.Sprintf(`plugin/balance: example\.org\.: endpoint %s http:%s/ is `, regexp.QuoteMeta(f.addrs[i]), f.port)
	}
	want := []string{
		`\[INFO\] ` + at(0) + `up \(was unknown for ` + took + `\)`,
		`\[INFO\] ` + at(1) + `up \(was unknown for ` + took + `\)`,
		`\[WARNING\] ` + at(2) + `down: status 503, want 200-299 \(was unknown for ` + took + `\)`,
		`\[WARNING\] ` + at(1) + `down: connection refused \(was up for ` + took + `\)`,
		`\[INFO\] ` + at(1) + `up \(was down for ` + took + `: connection refused\)`,
	}
	for _, line := range want {
		if n := len(regexp.MustCompile(`(?m)`+line+`$`).FindAllString(log, -1)); n != 1 {
			return fmt.Sprintf("%d lines like %s, want one: %s", n, line, log)
		}
	}
	if n := strings.Count(log, "plugin/balance"); n != len(want) {
		return fmt.Sprintf("%d lines, want %d: %s", n, len(want), log)
	}
	return ""
}

// If every endpoint fails, the fault may be local: one line and a metric say so.
func TestAllFailingIsSaid(t *testing.T) {
	steadily(t, 100*time.Millisecond, func() string { return allFailingIsSaid(t) })
}

func allFailingIsSaid(t *testing.T) (wrong string) {
	const series = `coredns_balance_all_endpoints_failing{zone="example.org."}`
	f := newFarm(t, 3, listening)
	log := capture(t, func() {
		k := startChecked(t, rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(3, 0)
		if counts(t, k.metrics)[series] != 0 {
			wrong = "said while all are up"
		}
		for i := range f.addrs {
			f.kill(i)
		}
		k.verdicts(0, 3)
		if counts(t, k.metrics)[series] != 1 {
			wrong = "not said in metrics"
		}
		f.revive(0)
		k.answers(5, f.addrs[0])
		if counts(t, k.metrics)[series] != 0 {
			wrong = "said though one is up"
		}
		k.stop()
	})
	want := "[WARNING] plugin/balance: example.org.: all 3 endpoints fail tcp:" + f.port + `, the last with "connection refused": the fault may be local`
	if wrong == "" && strings.Count(log, want) != 1 {
		wrong = fmt.Sprintf("log says %q, want once %q", log, want)
	}
	return wrong
}

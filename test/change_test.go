// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	rampingSeries    = `coredns_balance_ramping{zone="example.org."}`
	suppressedSeries = `coredns_balance_suppressed{zone="example.org."}`
	waitingSeries    = `coredns_balance_failback_waiting{zone="example.org."}`
)

// shows waits until a series has a value.
func (k *checked) shows(series string, value float64) {
	k.t.Helper()
	eventually(k.t, series, func() bool { return counts(k.t, k.metrics)[series] == value })
}

// leadsOf returns how often each member leads some answers.
func (k *checked) leadsOf(times int) leads {
	k.t.Helper()
	led := make(leads)
	for range times {
		led.add(k.ask(dns.TypeA), dns.TypeA)
	}
	return led
}

// A backend that was dead and returns leads 1 of 21 answers at first, over a reload too. At the
// start of the server nobody ramps.
func TestSlowStart(t *testing.T) {
	f := newFarm(t, 3, listening)
	lines := []string{rule(f.check("tcp", ""), "ttl 10", "slow_start 24h"), "file " + zone(t, "example.org.", f.as("www"))}
	k := startChecked(t, lines...)
	defer k.stop()
	k.verdicts(3, 0)
	k.leadsOf(30).exactly(t, 3, 10)
	f.kill(2)
	k.answers(5, f.some(0, 1)...)
	f.revive(2)
	k.answers(10, f.some()...)
	for range 2 {
		led := k.leadsOf(42)
		if led[f.addrs[0]] != 20 || led[f.addrs[1]] != 20 || led[f.addrs[2]] != 2 {
			t.Errorf("leads %v, want 20, 20 and 2", led)
		}
		k.shows(rampingSeries, 1)
		if err := k.restart(k.block(lines...)); err != nil {
			t.Fatal(err)
		}
		k.c = dial(t, "udp", k.udp(), "")
	}
}

// A backend that dies three times in a row is left out when it is up again, over a reload too, and
// its next death counts at once.
func TestDamp(t *testing.T) {
	f := newFarm(t, 4, listening)
	lines := []string{rule(f.check("tcp", "", "rise 1", "fall 1"), "damp 10m"), "file " + zone(t, "example.org.", f.as("www"))}
	k := startChecked(t, lines...)
	defer k.stop()
	k.verdicts(4, 0)
	k.shows(suppressedSeries, 0)
	for range 3 {
		f.kill(3)
		k.judged(3, 1)
		k.answers(5, f.some(0, 1, 2)...)
		f.revive(3)
		k.judged(4, 0)
	}
	k.answers(5, f.some(0, 1, 2)...)
	k.shows(suppressedSeries, 1)
	if err := k.restart(k.block(lines...)); err != nil {
		t.Fatal(err)
	}
	k.c = dial(t, "udp", k.udp(), "")
	k.verdicts(4, 0)
	k.answers(5, f.some(0, 1, 2)...)
	f.kill(3)
	k.judged(3, 1)
	k.shows(suppressedSeries, 0)
}

// After a failover the later tier serves until an operator writes a line, or for as long as the
// Corefile says. A reload keeps that.
func TestFailback(t *testing.T) {
	f := newFarm(t, 3, listening)
	file := filepath.Join(t.TempDir(), "overrides")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	block := func(k *checked, failback string) string {
		return k.block(rule(f.check("tcp", ""), "tier "+f.addrs[0], "failback "+failback, "overrides "+file+" 100ms"),
			"file "+zone(t, "example.org.", f.as("www")))
	}
	k := startChecked(t, "whoami")
	defer k.stop()
	reload := func(failback string) {
		t.Helper()
		if err := k.restart(block(k, failback)); err != nil {
			t.Fatal(err)
		}
		k.c = dial(t, "udp", k.udp(), "")
	}
	reload("manual")
	k.verdicts(3, 0)
	k.answers(30, f.some(0)...)
	f.kill(0)
	k.answers(30, f.some(1, 2)...)
	f.revive(0)
	k.judged(3, 0)
	k.answers(30, f.some(1, 2)...)
	k.shows(waitingSeries, 1)
	reload("manual")
	k.answers(30, f.some(1, 2)...)
	write("www.example.org failback at " + time.Now().UTC().Format(time.RFC3339Nano) + "\n")
	k.answers(30, f.some(0)...)
	k.shows(waitingSeries, 0)

	reload("after 1s")
	f.kill(0)
	k.answers(5, f.some(1, 2)...)
	back := time.Now()
	f.revive(0)
	k.answers(30, f.some(0)...)
	if took := time.Since(back); took < time.Second {
		t.Errorf("the first tier serves again after %v, want at least a second", took)
	}
}

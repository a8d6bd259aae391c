// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A streak of two failures of three goes on over a reload: the next one downs. So it does where the
// new Corefile probes at other times.
func TestStreaksOutliveAReload(t *testing.T) {
	for _, again := range []string{"interval 1s", "interval 1001ms"} {
		steadily(t, 300*time.Millisecond, func() string {
			for range 10 { // on a busy machine a probe may meet the reload
				if wrong, said := streakOutlives(t, again); said {
					return wrong
				}
			}
			return again + ": a probe met each of ten reloads"
		})
	}
}

// streakOutlives asks for the verdict around a reload with another interval. It reports whether
// that says something: while the old Corefile and the new one both live, both probe.
func streakOutlives(t *testing.T, again string) (wrong string, said bool) {
	s := &script{statuses: []int{200, 500}, looks: 5}
	f := newFarm(t, 2, serving(saying(200, "")))
	f.replace(1, serving(s.ServeHTTP))
	db := "file " + zone(t, "example.org.", f.as("www"))
	stanza := rule(healthCheck("http", f.port, "/", "timeout 900ms\n fast_interval 500ms\n max_interval 2s", "interval 1s"))
	k := startChecked(t, stanza, db)
	defer k.stop()
	s.looksFor(k, f.addrs[1])
	k.ask(dns.TypeA)
	failures := probes("http:"+f.port+"/", "failure") // once counted, they are in the streak
	eventually(t, "two failures", func() bool { return len(s.seen()) >= 3 && k.grown(failures) >= 2 })
	if err := k.restart(k.block(strings.Replace(stanza, "interval 1s", again, 1), db)); err != nil {
		t.Fatal(err)
	}
	if len(s.seen()) > 3 {
		return "", false
	}
	eventually(t, "the probe after the third failure", func() bool { return len(s.seen()) >= 5 })
	if got, want := s.seen()[:5], []bool{true, true, true, true, false}; !slices.Equal(got, want) {
		wrong = fmt.Sprintf("%s: in the answer before each probe: %v, want %v", again, got, want)
	}
	return wrong, true
}

// A probe that has no result yet when a Corefile with another interval is loaded is made again: it
// is neither lost nor counted twice.
func TestAProbeInFlightIsMadeAgainAfterAReload(t *testing.T) {
	steadily(t, time.Second, func() string { return probeInFlight(t) })
}

func probeInFlight(t *testing.T) (wrong string) {
	s := &script{statuses: []int{200, 500}, looks: 6}
	f := newFarm(t, 2, serving(saying(200, "")))
	f.replace(1, serving(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		if len(s.seen()) == 3 {
			<-r.Context().Done()
		}
	}))
	db := "file " + zone(t, "example.org.", f.as("www"))
	stanza := rule(healthCheck("http", f.port, "/", "timeout 3900ms\n fast_interval 500ms\n max_interval 5s", "interval 4s"))
	k := startChecked(t, stanza, db)
	defer k.stop()
	s.looksFor(k, f.addrs[1])
	k.ask(dns.TypeA)
	eventually(t, "the third probe", func() bool { return len(s.seen()) >= 3 })
	if err := k.restart(k.block(strings.Replace(stanza, "interval 4s", "interval 4001ms", 1), db)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the probe after the third failure", func() bool { return len(s.seen()) >= 6 })
	if got, want := s.seen()[:6], []bool{true, true, true, true, true, false}; !slices.Equal(got, want) {
		return fmt.Sprintf("in the answer before each probe: %v, want %v", got, want)
	}
	if failures := k.grown(probes("http:"+f.port+"/", "failure")); failures < 3 || failures > 4 {
		return fmt.Sprintf("%v failures are counted, want the three that downed it and perhaps the one after", failures)
	}
	return ""
}

// Verdicts are known right after a reload, whatever else changed, and probes go on as before.
func TestVerdictsOutliveAReload(t *testing.T) {
	f := newFarm(t, 3, listening)
	db := "file " + zone(t, "example.org.", f.as("www"))
	k := startChecked(t, rule(f.check("tcp", "")), db)
	k.verdicts(3, 0)
	f.kill(1)
	k.verdicts(2, 1)
	for _, lines := range [][]string{
		{rule(f.check("tcp", "")), db},
		{rule("ttl 60 5", "all_down nodata", f.check("tcp", "")), "cache", db},
		{rule(f.check("tcp", "", "rise 3", "max_endpoints 9")), db},
		{rule(f.check("tcp", "")), "balance sub.example.org {\n" + f.check("tcp", "") + "}", db},
		{rule(f.check("tcp", "", "watch www.example.org")), db},
	} {
		if err := k.restart(k.block(lines...)); err != nil {
			t.Fatal(err)
		}
		if got := k.answer(dns.TypeA); !slices.Equal(got, f.some(0, 2)) {
			t.Errorf("first answer after a reload is %v, want %v; lines %q", got, f.some(0, 2), lines)
		}
	}
	f.revive(1)
	k.answers(30, f.addrs...)
}

// A hundred reloads under load lose no query and no verdict, send no more probes than none would,
// and leave no goroutine behind.
func TestAHundredReloadsWhileProbing(t *testing.T) {
	onlyWhole(t, "it takes long")
	probed := new(atomic.Int64)
	f := newFarm(t, 3, counting(probed))
	f.kill(2)
	const interval = 300 * time.Millisecond
	db := "file " + zone(t, "example.org.", f.as("www"))
	corefiles := [][]string{
		{rule(f.check("tcp", "")), db},
		{rule("all_down nodata", f.check("tcp", "")), "cache", db},
		{rule(f.check("tcp", "")), "balance sub.example.org {\n ttl 9\n }", db},
		{rule(f.check("tcp", ""), "nonsense"), db},
	}
	k := startChecked(t, corefiles[0]...)
	k.verdicts(2, 1)
	crowd := newCrowd(t, k.server, 4)
	before := runtime.NumGoroutine()
	stop := crowd.askOn()
	began := time.Now()
	first := f.counted(probed)
	for i := range 100 {
		crowd.wait(8)
		broken := i%len(corefiles) == 3
		if err := k.restart(k.block(corefiles[i%len(corefiles)]...)); (err != nil) != broken {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	n := f.counted(probed) - first
	took := time.Since(began)
	if most := 2 * (int64(took*10/(interval*9)) + 3); n > most || n == 0 { // of both that live; jitter is less than a tenth
		t.Errorf("%d probes in %v, want at most %d", n, took, most)
	}
	if lead := stop(); len(lead) != 2 || lead[f.addrs[2]] > 0 || lead["nobody"] > 0 {
		t.Errorf("leads are %v, want the two that are up and no others", lead)
	}
	if downs := k.grown(transitions("down")); downs != 1 {
		t.Errorf("%v transitions down, want one", downs)
	}
	const workers = 3 // as many as there are endpoints
	eventually(t, "goroutines back to where they were", func() bool { return runtime.NumGoroutine() <= before+workers })
}

// A Corefile that does not load changes nothing, whether it is refused at once or fails when all
// but its last listener have started: the old one serves and probes on, and nothing else is probed.
func TestAFailedReloadProbesOn(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())
	hit := new(atomic.Int64)
	f, others := newFarm(t, 3, listening), newFarm(t, 2, counting(hit))
	db := "file " + zone(t, "example.org.", f.as("www"))
	// Other plugins than this one would leave goroutines behind.
	two := fmt.Sprintf("template IN A example.net {\nanswer \"{{ .Name }} 60 IN A %s\"\nanswer \"{{ .Name }} 60 IN A %s\"\n}", others.addrs[0], others.addrs[1])
	k := startChecked(t, rule(f.check("tcp", "")), db)
	k.verdicts(3, 0)
	before := runtime.NumGoroutine()
	watching := func(lines ...string) string {
		return rule(append(lines, others.check("tcp", "", "watch www.example.net"))...)
	}
	for name, second := range map[string]string{
		"refused":   blockOf("example.net:0", watching("policy fastest"), two),
		"port":      blockOf("example.net:"+takenPort, watching(), two),
		"address":   "example.net:0 {\nbind 192.0.2.1\n" + watching() + "\n" + two + "\n}\n",
		"both":      blockOf("example.net:0", watching(), two) + blockOf("example.com:"+takenPort, "whoami"),
		"same port": blockOf("example.net:"+takenPort, rule("health_check tcp "+f.port+" {\nallow 127.1.0.0/16\n watch www.example.net\n"+quick+"}\n"), two),
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				if err := k.restart(k.block(rule(f.check("tcp", "", "rise 1")), "whoami") + second); err == nil {
					t.Fatal("no error")
				}
			}
			if got := k.seriesOf("coredns_balance_endpoints{"); len(got) != 3 || strings.Contains(got[0], "example.net") {
				t.Errorf("endpoints are counted as %v, want those of example.org only", got)
			}
			settled := others.counted(hit)
			for range 2 {
				f.kill(1)
				k.answers(5, f.some(0, 2)...)
				f.revive(1)
				k.answers(30, f.addrs...)
			}
			if n := others.counted(hit) - settled; n > 0 {
				t.Errorf("%d probes for a Corefile that is not loaded", n)
			}
			const workers = 3
			eventually(t, "goroutines back to where they were", func() bool { return runtime.NumGoroutine() <= before+workers })
		})
	}
}

// A reload that succeeds after some that failed leaves nothing of these.
func TestAReloadSweepsUpAfterFailures(t *testing.T) {
	f := newFarm(t, 2, listening)
	stanza, db := rule(f.check("tcp", "", "watch www.example.org")), "file "+zone(t, "example.org.", f.as("www"))
	k := startChecked(t, stanza, db)
	k.verdicts(2, 0)
	for range 5 {
		if err := k.restart(k.block(stanza, "whoami") + "example.net:0 {\nbind 192.0.2.1\n" + rule(f.check("tcp", "", "rise 1")) + "\nwhoami\n}\n"); err == nil {
			t.Fatal("no error")
		}
		if err := k.restart(k.block(stanza, db)); err != nil {
			t.Fatal(err)
		}
	}
	f.kill(0)
	k.answers(5, f.addrs[1])
	if got := k.seriesOf("coredns_balance_endpoint_up"); len(got) != 2 {
		t.Errorf("endpoints are %v, want two", got)
	}
}

// Once the check is gone from the Corefile, so are its probes and its verdicts.
func TestAReloadEndsChecks(t *testing.T) {
	probed := new(atomic.Int64)
	f := newFarm(t, 2, counting(probed))
	f.kill(1)
	db := "file " + zone(t, "example.org.", f.as("www"))
	k := startChecked(t, rule(f.check("tcp", "")), db)
	k.verdicts(1, 1)
	k.answers(5, f.addrs[0])
	if err := k.restart(k.block("balance", db)); err != nil {
		t.Fatal(err)
	}
	settled := f.counted(probed)
	k.answers(300, f.addrs...)
	if got := k.seriesOf("coredns_balance_endpoint"); len(got) != 0 {
		t.Errorf("endpoints are %v, want none", got)
	}
	if n := f.counted(probed); n != settled {
		t.Errorf("%d probes after the check was gone", n-settled)
	}
}

// While the server stops it answers by the last verdicts, whatever becomes of the backends.
func TestVerdictsStandWhileStopping(t *testing.T) {
	f := newFarm(t, 3, listening)
	k := startChecked(t, rule(f.check("tcp", "")), "cache", "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(3, 0)
	f.kill(1)
	k.answers(5, f.some(0, 2)...)
	instance := k.instance
	for _, err := range instance.ShutdownCallbacks() {
		t.Error(err)
	}
	k.instance = nil
	defer instance.Stop()
	stands := func() {
		t.Helper()
		for range 20 {
			if reply := k.ask(dns.TypeA); len(members(reply, dns.TypeA)) != 2 || !onlyTTL(reply.Answer, 5) || slices.Contains(members(reply, dns.TypeA), f.addrs[1]) {
				t.Fatalf("reply is %v, want what it was", reply)
			}
		}
	}
	stands()
	f.revive(1)
	stands()
	for i := range f.addrs {
		f.kill(i)
	}
	stands()
}

// The same with a lameduck, during which the server runs on.
func TestVerdictsStandInLameduck(t *testing.T) {
	f := newFarm(t, 3, listening)
	port := freePort(t)
	k := startChecked(t, "health 127.0.0.1:"+port+" {\n lameduck 1s\n }", rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(3, 0)
	f.kill(1)
	k.answers(5, f.some(0, 2)...)
	crowd := newCrowd(t, k.server, 2)
	stop := crowd.askOn()
	instance := k.instance
	k.instance = nil
	for i := range f.addrs {
		f.kill(i)
	}
	answered := crowd.answered.Load()
	for _, err := range instance.ShutdownCallbacks() { // takes as long as the lameduck
		t.Error(err)
	}
	if crowd.answered.Load() == answered {
		t.Error("no answer during lameduck")
	}
	if lead := stop(); lead[f.addrs[1]] > 0 || lead["nobody"] > 0 {
		t.Errorf("leads are %v, want the last verdicts to stand", lead)
	}
	instance.Stop()
}

// Watched names are resolved, and their endpoints judged, before anybody asks.
func TestWatchedNamesAreJudgedBeforeClientsAsk(t *testing.T) {
	f := newFarm(t, 4, listening)
	f.kill(1)
	f.kill(3)
	records := f.as("www", 0, 1) + f.aaaas("www", 2) + f.as("api", 0, 3) + "alias IN CNAME api\n"
	k := startChecked(t, rule(f.check("tcp", "", "watch www.example.org", "watch alias.example.org")), "file "+zone(t, "example.org.", records))
	k.judged(2, 2)
	if n := k.grown(responses("example.org.", "", "ordered")); n != 0 {
		t.Errorf("%v answers are counted before anybody asked", n)
	}
}

// The very first answer goes by the verdicts on a watched name.
func TestTheFirstAnswerOfAWatchedName(t *testing.T) {
	f := newFarm(t, 3, listening)
	f.kill(1)
	k := startChecked(t, rule(f.check("tcp", "", "watch www.example.org")), "file "+zone(t, "example.org.", f.as("www")))
	k.judged(2, 1)
	reply := k.ask(dns.TypeA)
	if got := members(reply, dns.TypeA); len(got) != 2 || slices.Contains(got, f.addrs[1]) || !onlyTTL(reply.Answer, 5) {
		t.Errorf("first reply is %v, want it without %s", reply, f.addrs[1])
	}
}

// New addresses of a watched name are found while it runs.
func TestWatchFollowsTheUpstream(t *testing.T) {
	f := newFarm(t, 3, listening)
	f.kill(2)
	n := new(atomic.Int64)
	n.Store(2)
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if r.Question[0].Qtype == dns.TypeA {
			for _, a := range f.addrs[:n.Load()] {
				m.Answer = append(m.Answer, rr(t, "www.example.org. 60 IN A "+a))
			}
		}
		w.WriteMsg(m)
	})
	k := startChecked(t, rule(f.check("tcp", "", "watch www.example.org")), "forward . "+up)
	k.judged(2, 0)
	n.Store(3)
	k.judged(2, 1)
	if got := k.answer(dns.TypeA); !slices.Equal(got, f.addrs[:2]) {
		t.Errorf("first answer is %v, want %v", got, f.addrs[:2])
	}
}

// Ready says that there are verdicts, not that they are good.
func TestReadyDoesNotWaitForHealth(t *testing.T) {
	f := deadFarm(t, 3, listening)
	steadily(t, time.Second, func() (wrong string) {
		addr := "127.0.0.1:" + freePort(t)
		began := time.Now()
		k := startChecked(t, "ready "+addr, rule(f.check("tcp", "", "watch www.example.org")), "file "+zone(t, "example.org.", f.as("www")))
		defer k.stop()
		eventually(t, "ready", func() bool {
			code, body := get(t, "http://"+addr+"/ready")
			if code != http.StatusOK && body != "balance" {
				t.Errorf("not ready is %q, want balance alone", body)
			}
			return code == http.StatusOK
		})
		if took := time.Since(began); took > 4*time.Second { // at 5 s it would be ready anyway
			return fmt.Sprintf("ready after %v, want as soon as there are verdicts", took)
		}
		if got := len(k.seriesOf("coredns_balance_endpoint_up")); got != 3 {
			return fmt.Sprintf("ready with verdicts on %d endpoints, want 3", got)
		}
		return ""
	})
}

// Backends that keep the first probes waiting delay Ready by 5 s at most.
func TestReadyWaitsForVerdicts(t *testing.T) {
	f := newFarm(t, 2, silent)
	f.replace(0, serving(saying(200, "")))
	addr := "127.0.0.1:" + freePort(t)
	began := time.Now()
	k := startChecked(t, "ready "+addr, rule(healthCheck("http", f.port, "/", "watch www.example.org", "interval 1h", "timeout 30m")),
		"file "+zone(t, "example.org.", f.as("www")))
	if code, _ := get(t, "http://"+addr+"/ready"); code == http.StatusOK && time.Since(began) < 5*time.Second {
		t.Error("ready without verdicts")
	}
	eventually(t, "one verdict", func() bool { return counts(t, k.metrics)[endpoints("up")] == 1 })
	if code, _ := get(t, "http://"+addr+"/ready"); code == http.StatusOK && time.Since(began) < 5*time.Second {
		t.Error("ready with a verdict on one of two")
	}
	eventually(t, "ready", func() bool { code, _ := get(t, "http://"+addr+"/ready"); return code == http.StatusOK })
	if took := time.Since(began); took < 5*time.Second || took > 20*time.Second {
		t.Errorf("ready after %v, want 5 s", took)
	}
	k.answers(5, f.addrs...) // unknown is served, with the low TTL
	if got := fmt.Sprint(counts(t, k.metrics)[endpoints("unknown")]); got != "1" {
		t.Errorf("%s endpoints unknown, want 1", got)
	}
}

// Without watched names there is nothing to wait for.
func TestReadyWithoutWatch(t *testing.T) {
	f := newFarm(t, 2, silent)
	addr := "127.0.0.1:" + freePort(t)
	k := startChecked(t, "ready "+addr, rule(f.check("http", "/")), "file "+zone(t, "example.org.", f.as("www")))
	k.ask(dns.TypeA)
	if code, body := get(t, "http://"+addr+"/ready"); code != http.StatusOK {
		t.Errorf("ready says %d %q, want 200", code, body)
	}
}

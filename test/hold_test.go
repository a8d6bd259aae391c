// SPDX-License-Identifier: Apache-2.0

//go:build linux

package test

import (
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// lonely is a timing with which only hold can notice anything within a test's time.
const lonely = "hold\n interval 10m\n timeout 5m\n fast_interval 10m\n max_interval 10m"

// holdCheck is a health_check of a farm with that timing.
func holdCheck(f *farm, protocol, path string, lines ...string) string {
	return healthCheck(protocol, f.port, path, append(lines, lonely)...)
}

const (
	heldSeries  = `coredns_balance_held_connections{zone="example.org."}`
	hintsSeries = `coredns_balance_hints_total{zone="example.org."}`
)

// holds waits until so many connections are held.
func (k *checked) holds(n int) {
	k.t.Helper()
	eventually(k.t, "connections held", func() bool { return counts(k.t, k.metrics)[heldSeries] == float64(n) })
}

// staying is a TCP server that keeps connections until it ends, and then ends them. It says
// something first, unless that is empty.
func staying(greeting string) opener { return stayingFor(greeting, nil, nil) }

// stayingFor is staying, but ends every connection after some time, if that is not nil, and counts
// them.
func stayingFor(greeting string, life func() <-chan time.Time, n *atomic.Int64) opener {
	return func(t *testing.T, addr string) func() {
		t.Helper()
		ending := make(chan struct{})
		accepted := func() {
			if n != nil {
				n.Add(1)
			}
		}
		return acceptingUntil(accepted, func(c net.Conn) {
			io.WriteString(c, greeting)
			var over <-chan time.Time
			if life != nil {
				over = life()
			}
			gone := make(chan struct{})
			go func() { defer close(gone); io.Copy(io.Discard, c) }()
			select {
			case <-ending:
			case <-over:
			case <-gone:
			}
			c.Close()
			<-gone
		}, func() { close(ending) })(t, addr)
	}
}

// abrupt is a server that is reached through another, so that connections end with it at once, as
// with a process: some libraries wait for those that have not said anything.
func abrupt(open opener) opener {
	return func(t *testing.T, addr string) func() {
		t.Helper()
		inner := "127.0.0.1:" + freePort(t)
		endInner := open(t, inner)
		ending := make(chan struct{})
		end := acceptingUntil(func() {}, func(c net.Conn) {
			to, err := net.Dial("tcp", inner)
			if err != nil {
				return
			}
			var both sync.WaitGroup
			over := make(chan struct{}, 2)
			for _, way := range [][2]net.Conn{{c, to}, {to, c}} {
				both.Go(func() { io.Copy(way[0], way[1]); over <- struct{}{} })
			}
			select {
			case <-ending:
			case <-over:
			}
			c.Close()
			to.Close()
			both.Wait()
		}, func() { close(ending) })(t, addr)
		return func() { end(); endInner() }
	}
}

// A backend that dies leaves the answers though no probe is due for minutes, whatever it is probed
// with and whatever it said before.
func TestHoldNoticesTheDead(t *testing.T) {
	procs, ca := processes{}, newIssuer(t)
	ok, own := saying(http.StatusOK, ""), certified(ca.forName("www.example.org"))
	tests := []struct {
		name, protocol, path, options string
		open                          opener
	}{
		{"tcp", "tcp", "", "", staying("")},
		{"banner", "tcp", "", "", staying("220 mail.example.org ESMTP\r\n")},
		{"long banner", "tcp", "", "", staying(strings.Repeat("y", 60_000))},
		{"tcp over TLS", "tcp", "", "tls\n tls_insecure", overTLS(own, ok)},
		{"http", "http", "/", "", serving(ok)},
		{"https", "https", "/", "tls_insecure", overTLS(own, ok)},
		{"grpc", "grpc", "", "", abrupt(healthServer("", grpc_health_v1.HealthCheckResponse_SERVING))},
		{"killed process", "http", "/", "", procs.open},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFarm(t, 3, tc.open)
			var k *checked
			log := capture(t, func() {
				k = startChecked(t, rule(holdCheck(f, tc.protocol, tc.path, tc.options)), "file "+zone(t, "example.org.", f.as("www")))
				k.verdicts(3, 0)
				k.holds(3)
				f.kill(1)
				k.answers(5, f.addrs[0], f.addrs[2])
				k.holds(2)
				if n := k.grown(hintsSeries); n != 1 {
					t.Errorf("%v hints, want 1", n)
				}
				k.stop()
			})
			if n := strings.Count(log, "is down: connection refused (was up for "); n != 1 || strings.Count(log, ", noticed by hold)") != 1 {
				t.Errorf("log is %s, want one line that says what was noticed by hold", log)
			}
		})
	}
}

// A server that ends idle connections is up, and is not probed more for it.
func TestHoldWithAServerThatEndsIdleConnections(t *testing.T) {
	connections := new(atomic.Int64)
	second := func() <-chan time.Time { return time.After(time.Second) }
	f := newFarm(t, 2, stayingFor("", second, connections))
	began := time.Now()
	k := startChecked(t, rule(healthCheck("tcp", f.port, "", "hold", "interval 300ms", "timeout 250ms")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(2, 0)
	eventually(t, "hints", func() bool { return k.grown(hintsSeries) >= 3 }) // there may be four: then it is known when connections end
	n := connections.Load()
	took := time.Since(began)
	probes := 2 * int64(took*10/(9*300*time.Millisecond)+2)
	most := probes + probes/10 + probes // a probe in ten for hints, and at most as many connections to hold
	if n > most {
		t.Errorf("%d connections in %v, want at most %d", n, took, most)
	}
	if n := k.grown(transitions("down")); n != 0 {
		t.Errorf("%v transitions down, want none", n)
	}
	k.answers(30, f.addrs...)
}

// One that ends them at once, or never is silent, is not held, and probed as ever.
func TestHoldWithServersThatAreNotIdle(t *testing.T) {
	f := newFarm(t, 2, listening)
	talks := accepting(func(c net.Conn) {
		for {
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	f.replace(1, talks)
	k := startChecked(t, rule(healthCheck("tcp", f.port, "", "hold", "interval 300ms", "timeout 250ms", "fast_interval 100ms")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(2, 0)
	passed := "tcp:" + f.port
	first, hints := k.grown(probes(passed, "success")), k.grown(hintsSeries)
	eventually(t, "twenty probes", func() bool { return k.grown(probes(passed, "success")) >= first+20 })
	n := k.grown(hintsSeries) - hints
	if probed := k.grown(probes(passed, "success")) - first; n > probed/10+2 {
		t.Errorf("%v hints in %v probes, want one in ten", n, probed)
	}
	if n := k.grown(transitions("down")); n != 0 {
		t.Errorf("%v transitions down, want none", n)
	}
	k.answers(30, f.addrs...)
	f.kill(1)
	k.answers(5, f.addrs[0])
}

// A reload keeps the connections of a check that stays, and ends those of one that is gone, or
// holds no more.
func TestHoldOverReloads(t *testing.T) {
	connections, open := new(atomic.Int64), new(atomic.Int64)
	f := newFarm(t, 2, accepting(func(c net.Conn) {
		connections.Add(1)
		open.Add(1)
		defer open.Add(-1)
		io.Copy(io.Discard, c)
	}))
	db := "file " + zone(t, "example.org.", f.as("www"))
	k := startChecked(t, rule(holdCheck(f, "tcp", "")), db)
	k.verdicts(2, 0)
	k.holds(2)
	eventually(t, "the connections of probes are over", func() bool { return connections.Load() == 4 && open.Load() == 2 })
	settled := connections.Load()
	for range 10 {
		if err := k.restart(k.block(rule("all_down nodata", holdCheck(f, "tcp", "")), db)); err != nil {
			t.Fatal(err)
		}
		if err := k.restart(k.block(rule("nonsense"), db)); err == nil {
			t.Fatal("no error")
		}
		k.holds(2)
	}
	if n := connections.Load() - settled; n != 0 {
		t.Errorf("%d connections for reloads, want none", n)
	}
	if err := k.restart(k.block(rule(strings.Replace(holdCheck(f, "tcp", ""), "127.1.0.0/16", f.addrs[0]+"/32", 1)), db)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one connection", func() bool { return open.Load() == 1 })
	if err := k.restart(k.block(rule(strings.Replace(holdCheck(f, "tcp", ""), "hold\n", "\n", 1)), db)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no connection", func() bool { return open.Load() == 0 })
	if err := k.restart(k.block(rule(holdCheck(f, "tcp", "", "rise 1", "fall 1")), db)); err != nil {
		t.Fatal(err)
	}
	if err := k.restart(k.block("balance", db)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no connection after the check is gone", func() bool { return open.Load() == 0 })
}

// Nothing outside allow is connected to, and all leave from source.
func TestHoldObeysAllowAndSource(t *testing.T) {
	var mu sync.Mutex
	from := map[string]int{}
	f := newFarm(t, 3, accepting(func(c net.Conn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		to, _, _ := net.SplitHostPort(c.LocalAddr().String())
		mu.Lock()
		from[to+" from "+host]++
		mu.Unlock()
		io.Copy(io.Discard, c)
	}))
	some := strings.Replace(holdCheck(f, "tcp", "", "source 127.9.9.9"), "127.1.0.0/16", f.addrs[0]+"/32 "+f.addrs[1]+"/32", 1)
	k := startChecked(t, rule(some), "file "+zone(t, "example.org.", f.as("www")))
	eventually(t, "verdicts", func() bool { k.answer(dns.TypeA); return counts(t, k.metrics)[endpoints("up")] == 2 })
	k.holds(2)
	eventually(t, "all connections are accepted", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(slices.Sorted(maps.Values(from)), []int{2, 2})
	})
	mu.Lock()
	defer mu.Unlock()
	for what, n := range from {
		if n != 2 || !strings.HasSuffix(what, " from 127.9.9.9") || strings.HasPrefix(what, f.addrs[2]) {
			t.Errorf("%d connections to %s, want one to probe and one to hold, from 127.9.9.9", n, what)
		}
	}
	if len(from) != 2 {
		t.Errorf("connections to %v, want two endpoints", from)
	}
}

// Where descriptors run out, some endpoints are held, all are probed and answers go on, over TCP
// too.
func TestHoldLeavesDescriptors(t *testing.T) {
	const backends = 28 // whose addresses fit into an answer over UDP
	f := newFarm(t, backends, staying(""))
	db := "file " + zone(t, "example.org.", f.as("www"))
	log := capture(t, func() {
		k := startChecked(t, rule(healthCheck("tcp", f.port, "", quick, "hold", "max_in_flight 4")), db)
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
		few := before
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		few.Cur = uint64(len(open)+backends) * 4 / 3 // three quarters are enough for both ends of half the connections
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
			t.Fatal(err)
		}
		defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
		k.verdicts(backends, 0)
		eventually(t, "an error is counted", func() bool { return k.grown(`coredns_balance_hold_errors_total{zone="example.org."}`) > 0 })
		if n := counts(t, k.metrics)[heldSeries]; n < 1 || n >= backends {
			t.Errorf("%v connections held, want some", n)
		}
		for range 20 {
			c := dial(t, "tcp", k.tcp(), "")
			if got := members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA); len(got) != backends {
				t.Errorf("%d members over TCP, want %d", len(got), backends)
			}
			c.Close()
		}
		f.kill(3)
		left := slices.Sorted(slices.Values(f.addrs))
		k.answers(5, slices.DeleteFunc(left, func(addr string) bool { return addr == f.addrs[3] })...)
		k.stop()
	})
	if n := strings.Count(log, "hold: no connection to "); n != 1 || !strings.Contains(log, "local error: too many open files") {
		t.Errorf("said %d times, want once: %s", n, log)
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// opener starts a backend at an address and returns what ends it.
type opener func(t *testing.T, addr string) (end func())

// farm is some backends, each at an address of its own and all on one port, as the members of an
// RRset are.
type farm struct {
	t     *testing.T
	port  string
	addrs []string // sorted
	open  opener
	ends  []func() // nil for a dead one
}

// newFarm starts n backends.
func newFarm(t *testing.T, n int, open opener) *farm {
	t.Helper()
	f := deadFarm(t, n, open)
	for i := range n {
		f.revive(i)
	}
	return f
}

// deadFarm returns n backends that do not run.
func deadFarm(t *testing.T, n int, open opener) *farm {
	t.Helper()
	f := &farm{t: t, port: freePort(t), open: open, ends: make([]func(), n)}
	for i := range n {
		f.addrs = append(f.addrs, fmt.Sprintf("127.1.0.%d", i+1))
	}
	t.Cleanup(func() {
		for i := range f.ends {
			f.kill(i)
		}
	})
	return f
}

// kill ends a backend: its port is closed.
func (f *farm) kill(i int) {
	if f.ends[i] != nil {
		f.ends[i]()
	}
	f.ends[i] = nil
}

// revive starts a backend.
func (f *farm) revive(i int) { f.replace(i, f.open) }

// replace starts another backend in the place of one.
func (f *farm) replace(i int, open opener) {
	f.t.Helper()
	f.kill(i)
	f.ends[i] = open(f.t, net.JoinHostPort(f.addrs[i], f.port))
}

// as returns A records for all of them, or for some.
func (f *farm) as(owner string, some ...int) string { return as(owner, f.some(some...)...) }

// aaaas is as for the other family: loopback has a single IPv6 address, but mapped ones are as many
// as of IPv4.
func (f *farm) aaaas(owner string, some ...int) string {
	var b strings.Builder
	for _, a := range f.some(some...) {
		fmt.Fprintf(&b, "%s IN AAAA ::ffff:%s\n", owner, a)
	}
	return b.String()
}

func (f *farm) some(some ...int) (addrs []string) {
	for _, i := range some {
		addrs = append(addrs, f.addrs[i])
	}
	if len(some) == 0 {
		return f.addrs
	}
	return addrs
}

// quick is a timing for tests. A backend that answers at all answers in time, even on a machine
// that is busy.
const quick = "interval 300ms\n timeout 250ms\n fast_interval 50ms\n max_interval 600ms"

// check returns a health_check of the farm: "tcp", "http" with its path, ...
func (f *farm) check(protocol, path string, lines ...string) string {
	return healthCheck(protocol, f.port, path, append(lines, quick)...)
}

func healthCheck(protocol, port, rest string, lines ...string) string {
	return fmt.Sprintf("health_check %s %s %s {\n allow 127.1.0.0/16\n %s\n }\n", protocol, port, rest, strings.Join(lines, "\n "))
}

// accepting is a TCP server that handles each connection, and waits for these when it ends.
func accepting(handle func(net.Conn)) opener {
	return acceptingUntil(func() {}, handle, func() {})
}

// acceptingUntil is accepting that says when it accepts a connection, in the order in which they
// came, and when its port is closed.
func acceptingUntil(accepted func(), handle func(net.Conn), closed func()) opener {
	return func(t *testing.T, addr string) func() {
		t.Helper()
		return testserver.ListenUntil(t, addr, accepted, handle, closed)
	}
}

// listening accepts connections and hangs up.
var listening = accepting(func(net.Conn) {})

// silent accepts connections and never says a word.
var silent = accepting(func(c net.Conn) { io.Copy(io.Discard, c) })

// serving is a web server.
func serving(handle http.HandlerFunc) opener {
	return onListener(func(l net.Listener) (func() error, func() error) {
		s := &http.Server{Handler: handle, ErrorLog: nowhere}
		return func() error { return s.Serve(l) }, s.Close
	})
}

// onListener is a server that runs over a listener until it is stopped.
func onListener(over func(net.Listener) (serve, stop func() error)) opener {
	return func(t *testing.T, addr string) func() {
		t.Helper()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		serve, stop := over(l)
		var wg sync.WaitGroup
		wg.Go(func() { serve() })
		return func() { stop(); wg.Wait() }
	}
}

// saying answers with a status and a body.
func saying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// blackHole is an address that swallows connections: the kernel drops what comes for a listener
// whose backlog is full, so that nobody hears back, not even from a closed port.
func blackHole(t *testing.T, addr string) func() {
	t.Helper()
	at := netip.MustParseAddrPort(addr)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	var queued []net.Conn
	for {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			break
		}
		queued = append(queued, c)
	}
	return func() {
		for _, c := range queued {
			c.Close()
		}
		syscall.Close(fd)
	}
}

// backendEnv names the variable that makes the test binary a backend: its value is the address.
const backendEnv = "BALANCE_TEST_BACKEND"

// beBackend serves HTTP until it is killed, in a process of its own.
func beBackend(addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	http.Serve(l, saying(http.StatusOK, "a process"))
}

// processes are backends in processes of their own, by address.
type processes map[string]*exec.Cmd

// open is an opener.
func (p processes) open(t *testing.T, addr string) func() {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), backendEnv+"="+addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p[addr] = cmd
	eventually(t, addr+" listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return func() { cmd.Process.Kill(); cmd.Wait() }
}

func (p processes) signal(t *testing.T, addr string, sig os.Signal) {
	t.Helper()
	if err := p[addr].Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// counting counts the connections that a listener gets.
func counting(n *atomic.Int64) opener {
	return acceptingUntil(func() { n.Add(1) }, func(net.Conn) {}, func() {})
}

// counted returns how many connections those of the farm that run have got that count them, once
// all that were made are counted.
func (f *farm) counted(n *atomic.Int64) int64 {
	f.t.Helper()
	for i, end := range f.ends {
		if end == nil {
			continue
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort(f.addrs[i], f.port), patience)
		if err != nil {
			f.t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // it hangs up when it has counted
			f.t.Fatal(err)
		}
		c.Close()
		n.Add(-1)
	}
	return n.Load()
}

// checked is a server with metrics and a client that asks it.
type checked struct {
	*server
	metrics string
	c       *testserver.Client
	before  map[string]float64 // the counters of earlier tests
}

// startChecked starts a block of example.org with some lines.
func startChecked(t *testing.T, lines ...string) *checked {
	t.Helper()
	k := &checked{metrics: "127.0.0.1:" + freePort(t)}
	earlier := "127.0.0.1:" + freePort(t)
	before := start(t, block("prometheus "+earlier, "whoami"))
	k.before = counts(t, earlier)
	before.stop()
	k.server = start(t, k.block(lines...))
	k.c = dial(t, "udp", k.udp(), "")
	return k
}

// block returns the server's block with other lines.
func (k *checked) block(lines ...string) string {
	return block(append([]string{"prometheus " + k.metrics}, lines...)...)
}

// rule returns a stanza.
func rule(options ...string) string { return "balance {\n" + strings.Join(options, "\n") + "\n}" }

func (k *checked) ask(qtype uint16) *dns.Msg { return k.c.Ask(query("www.example.org.", qtype)) }

// answer returns the members of www.example.org, sorted.
func (k *checked) answer(qtype uint16) []string {
	addrs := members(k.ask(qtype), qtype)
	slices.Sort(addrs)
	return addrs
}

// answers waits until www.example.org has exactly some members, with a TTL.
func (k *checked) answers(ttl uint32, want ...string) {
	k.t.Helper()
	k.answersOf("www.example.org.", dns.TypeA, ttl, want...)
}

func (k *checked) answersOf(name string, qtype uint16, ttl uint32, want ...string) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%s has %v with TTL %d", name, want, ttl), func() bool {
		reply := k.c.Ask(query(name, qtype))
		addrs := members(reply, qtype)
		slices.Sort(addrs)
		return slices.Equal(addrs, want) && onlyTTL(reply.Answer, ttl)
	})
}

func onlyTTL(rrs []dns.RR, ttl uint32) bool {
	return !slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Ttl != ttl })
}

// verdicts waits until so many endpoints are up and down, asking for www.example.org and other
// names meanwhile, so that they are known.
func (k *checked) verdicts(up, down int, names ...string) {
	k.t.Helper()
	var ups, downs float64
	defer func() {
		if k.t.Failed() {
			k.t.Logf("%v are up and %v down", ups, downs)
		}
	}()
	eventually(k.t, fmt.Sprintf("%d endpoints up and %d down", up, down), func() bool {
		for _, name := range append(names, "www") {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				k.c.Ask(query(name+".example.org.", qtype))
			}
		}
		now := counts(k.t, k.metrics)
		ups, downs = now[endpoints("up")], now[endpoints("down")]
		return ups == float64(up) && downs == float64(down) && now[endpoints("unknown")] == 0
	})
}

// judged waits until so many endpoints are up and down, and asks for nothing.
func (k *checked) judged(up, down int) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%d endpoints up and %d down, with nobody asking", up, down), func() bool {
		now := counts(k.t, k.metrics)
		return now[endpoints("up")] == float64(up) && now[endpoints("down")] == float64(down) && now[endpoints("unknown")] == 0
	})
}

// grown returns by how much a counter grew since the test began.
func (k *checked) grown(series string) float64 {
	k.t.Helper()
	return counts(k.t, k.metrics)[series] - k.before[series]
}

func endpoints(state string) string {
	return fmt.Sprintf("coredns_balance_endpoints{state=%q,zone=\"example.org.\"}", state)
}

func endpointUp(addr, check string) string {
	return fmt.Sprintf("coredns_balance_endpoint_up{endpoint=%q,zone=\"example.org.\"}", addr+" "+check)
}

func probes(check, result string) string {
	return fmt.Sprintf("coredns_balance_probes_total{check=%q,result=%q,zone=\"example.org.\"}", check, result)
}

func transitions(to string) string {
	return fmt.Sprintf("coredns_balance_transitions_total{to=%q,zone=\"example.org.\"}", to)
}

func refused(reason string) string {
	return fmt.Sprintf("coredns_balance_probes_refused_total{reason=%q,zone=\"example.org.\"}", reason)
}

// seriesOf returns the series whose names begin with a text, sorted.
func (k *checked) seriesOf(prefix string) []string {
	k.t.Helper()
	all := slices.Sorted(maps.Keys(counts(k.t, k.metrics)))
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

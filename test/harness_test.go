// SPDX-License-Identifier: Apache-2.0

// Package test holds what only a whole CoreDNS can show: real servers, started in this process
// with every stock plugin, that real clients ask over loopback.
package test

import (
	"cmp"
	"context"
	"io"
	golog "log"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // every stock plugin
	"github.com/coredns/coredns/coremain"
	clog "github.com/coredns/coredns/plugin/pkg/log"

	_ "github.com/seed-f1518d44/balance" // the balance plugin
	"github.com/seed-f1518d44/balance/internal/directives"
	"github.com/seed-f1518d44/balance/internal/testserver"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(backendEnv); addr != "" {
		beBackend(addr)
	}
	caddy.Quiet, dnsserver.Quiet = true, true
	golog.SetOutput(io.Discard)
	if err := directives.Install(); err != nil {
		golog.SetOutput(os.Stderr)
		golog.Fatal(err)
	}
	if os.Getenv(serverEnv) != "" {
		golog.SetOutput(os.Stderr)
		coremain.Run()
		return
	}
	goleak.VerifyTestMain(m,
		// Some stock plugins bring libraries that start goroutines when they are linked.
		goleak.IgnoreCurrent(),
		// Forward leaves its own to the garbage collector, and caddy holds on to the last
		// instances.
		goleak.IgnoreTopFunction("github.com/coredns/coredns/plugin/pkg/proxy.(*Transport).connManager"),
		// Prometheus leaves the server of a Corefile that failed after it had started.
		goleak.IgnoreAnyFunction("github.com/coredns/coredns/plugin/metrics.(*Metrics).OnStartup.func1"))
}

// Short names of what all tests use.
var (
	dial       = testserver.Dial
	query      = testserver.Query
	dataOf     = testserver.Data
	freePort   = testserver.FreePort
	eventually = testserver.Eventually
)

const patience = testserver.Patience

// onlyWhole skips a test in "make test-fast".
func onlyWhole(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		t.Skip(why)
	}
}

// nowhere is a log that nobody reads.
var nowhere = golog.New(io.Discard, "", 0)

// input is a Corefile.
type input string

func (i input) Body() []byte       { return []byte(i) }
func (i input) Path() string       { return "Corefile" }
func (i input) ServerType() string { return "dns" }

// server is a CoreDNS in this process.
type server struct {
	t        testing.TB
	instance *caddy.Instance // nil once stopped
}

// start runs a Corefile until the test ends. Blocks without a bind listen on 127.0.0.1 and a port
// of the system's choice if they name port 0.
func start(t testing.TB, corefile string) *server {
	t.Helper()
	instance, err := caddy.Start(input(corefile))
	if err != nil {
		t.Fatalf("%v\n%s", err, corefile)
	}
	s := &server{t: t, instance: instance}
	t.Cleanup(s.stop)
	s.waitUntilServing()
	return s
}

// waitUntilServing returns when all listeners are served: a server that is stopped before that
// runs on. It asks for what no plugin gets to see.
func (s *server) waitUntilServing() {
	s.t.Helper()
	q := query(".", dns.TypeNS)
	q.Opcode = dns.OpcodeStatus
	for i, addr := range s.udps() {
		for network, addr := range map[string]string{"udp": addr, "tcp": s.tcps()[i]} {
			c := dial(s.t, network, addr, "")
			c.Ask(q)
			c.Close()
		}
	}
}

func (s *server) stop() {
	if s.instance == nil {
		return
	}
	for _, err := range s.instance.ShutdownCallbacks() {
		s.t.Error(err)
	}
	if err := s.instance.Stop(); err != nil {
		s.t.Error(err)
	}
	s.instance = nil
}

// restart reloads the server with a Corefile, as SIGUSR1 does.
func (s *server) restart(corefile string) error {
	next, err := s.instance.Restart(input(corefile))
	if err != nil {
		return err
	}
	s.instance = next
	s.waitUntilServing()
	return nil
}

// udps and tcps return the server's addresses, sorted: CoreDNS lists them in no order.
func (s *server) udps() []string {
	return s.addresses(func(l caddy.ServerListener) net.Addr { return l.LocalAddr() })
}

func (s *server) tcps() []string {
	return s.addresses(func(l caddy.ServerListener) net.Addr { return l.Addr() })
}

func (s *server) addresses(of func(caddy.ServerListener) net.Addr) []string {
	var addrs []string
	for _, l := range s.instance.Servers() {
		addrs = append(addrs, of(l).String())
	}
	slices.Sort(addrs)
	return addrs
}

func (s *server) udp() string { return s.udps()[0] }
func (s *server) tcp() string { return s.tcps()[0] }

// ask asks a server over UDP with a socket of its own.
func ask(t testing.TB, addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	return dial(t, "udp", addr, "").Ask(query(name, qtype))
}

// file writes a file into a directory of the test's own and returns its path.
func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// zone writes a zone file: an SOA, an NS and the records given. Caches keep all of it for so long
// that no TTL comes near those of a rule while a test lasts.
func zone(t testing.TB, origin, records string) string {
	t.Helper()
	return file(t, "db", "$ORIGIN "+origin+"\n$TTL 300\n@ IN SOA ns hostmaster 2026112301 7200 3600 1209600 300\n"+
		"@ IN NS ns\nns IN A 192.0.2.53\n"+records)
}

// threeAs are three addresses for www.
const threeAs = "www IN A 192.0.2.1\nwww IN A 192.0.2.2\nwww IN A 192.0.2.3\n"

// members returns the data of the answer's records of a type, in their order.
func members(reply *dns.Msg, rrtype uint16) []string { return dataOf(reply.Answer, rrtype) }

// leads counts who came first.
type leads map[string]int

func (l leads) add(reply *dns.Msg, rrtype uint16) {
	if m := members(reply, rrtype); len(m) > 0 {
		l[m[0]]++
	} else {
		l["nobody"]++
	}
}

// sum adds up.
func sum(all []leads) leads {
	total := leads{}
	for _, l := range all {
		for who, n := range l {
			total[who] += n
		}
	}
	return total
}

// even fails the test unless n members led as often as each other, give or take.
func (l leads) even(t testing.TB, n, give int) {
	t.Helper()
	counts := slices.Sorted(maps.Values(l))
	if len(l) != n || counts[n-1]-counts[0] > give {
		t.Errorf("leads are %v, want %d members that lead equally (give or take %d)", l, n, give)
	}
}

// exactly fails the test unless n members led so many times each.
func (l leads) exactly(t testing.TB, n, times int) {
	t.Helper()
	for who, count := range l {
		if len(l) != n || count != times || who == "nobody" {
			t.Fatalf("leads are %v, want %d members that lead %d times each", l, n, times)
		}
	}
}

// isRotation reports whether got is want rotated.
func isRotation(got, want []string) bool {
	if len(got) != len(want) {
		return false
	}
	at := slices.Index(want, got[0])
	return at >= 0 && slices.Equal(got, append(slices.Clone(want[at:]), want[:at]...))
}

// follows fails the test unless each answer leads with the member after that which led before.
func follows(t testing.TB, sorted, led []string) {
	t.Helper()
	for i := 1; i < len(led); i++ {
		want := sorted[(slices.Index(sorted, led[i-1])+1)%len(sorted)]
		if led[i] != want {
			t.Fatalf("lead %d is %s after %s, want %s: %v", i, led[i], led[i-1], want, led)
		}
	}
}

// sameRecords fails the test unless both sections hold the same records, in whatever order.
func sameRecords(t testing.TB, got, want []dns.RR) {
	t.Helper()
	if g, w := sortedText(got), sortedText(want); !slices.Equal(g, w) {
		t.Errorf("records are %q, want %q", g, w)
	}
}

func sortedText(rrs []dns.RR) []string {
	var text []string
	for _, rr := range rrs {
		text = append(text, strings.ToLower(rr.String()))
	}
	slices.SortFunc(text, cmp.Compare)
	return text
}

// steadily calls try, which says what is wrong, if anything. Where that may be because this machine
// stood still for too long meanwhile, it does so again, a few times at most.
func steadily(t testing.TB, tooLong time.Duration, try func() (wrong string)) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		longest := watchForStalls(t.Context())
		wrong := try()
		stood := longest()
		if wrong != "" && stood >= tooLong && attempt < 5 {
			t.Logf("again, for this machine stood still for %v: %s", stood, wrong)
			continue
		}
		if wrong != "" {
			t.Error(wrong)
		}
		return
	}
}

// watchForStalls begins to look for times at which nothing happens here. The result ends that, and
// returns the longest.
func watchForStalls(ctx context.Context) (longest func() time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan time.Duration)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		last, most := time.Now(), time.Duration(0)
		for {
			done := false
			select {
			case <-tick.C:
			case <-ctx.Done():
				done = true
			}
			now := time.Now()
			last, most = now, max(most, now.Sub(last))
			if done {
				ended <- most
				return
			}
		}
	}()
	return func() time.Duration {
		cancel()
		return <-ended
	}
}

// capture returns what CoreDNS logs while run runs.
func capture(t testing.TB, run func()) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	clog.D.Clear()
	golog.SetOutput(f)
	run()
	golog.SetOutput(io.Discard)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// upstream runs a name server that answers with handle, over UDP and TCP on one port.
func upstream(t testing.TB, handle dns.HandlerFunc) string {
	t.Helper()
	packets, streams := testserver.ListenBoth(t)
	for _, srv := range []*dns.Server{{PacketConn: packets}, {Listener: streams}} {
		srv.Handler, srv.ReadTimeout = handle, patience // of what is sent over a connection, which a slow machine sends late
		ready := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		ended := make(chan error, 1)
		go func() { ended <- srv.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() {
			srv.Shutdown()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return packets.LocalAddr().String()
}

// rr reads a record.
func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	record, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

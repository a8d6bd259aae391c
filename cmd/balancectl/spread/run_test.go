// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
	"github.com/seed-f1518d44/balance/internal/testserver"
)

// serve runs a name server over UDP and TCP on one port of 127.0.0.1.
func serve(t *testing.T, handle dns.HandlerFunc) (addr string) {
	t.Helper()
	packets, streams := testserver.ListenBoth(t)
	for _, s := range []*dns.Server{{PacketConn: packets}, {Listener: streams}} {
		s.Handler, s.ReadTimeout = handle, time.Minute // of what is sent over a connection, which a slow machine sends late
		ready, ended := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { ended <- s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() {
			_ = s.Shutdown()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return packets.LocalAddr().String()
}

// rotating answers with three addresses that take turns.
func rotating(seen func(w dns.ResponseWriter, q *dns.Msg, turn int) bool) dns.HandlerFunc {
	var lock sync.Mutex
	turn := -1
	return func(w dns.ResponseWriter, q *dns.Msg) {
		lock.Lock()
		defer lock.Unlock()
		turn++
		if seen != nil && !seen(w, q, turn) {
			return
		}
		m := new(dns.Msg).SetReply(q)
		for i := range 3 {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
				A:   net.IPv4(192, 0, 2, byte(1+(turn+i)%3)),
			})
		}
		_ = w.WriteMsg(m)
	}
}

// patient is for questions that will be answered: no answer is lost, however slow this machine is.
const patient = "-timeout=1m"

// spread runs a command line that wants JSON.
func spread(t *testing.T, args ...string) (*report, int) {
	t.Helper()
	var out, problems bytes.Buffer
	code := run(t.Context(), append([]string{patient, "-json"}, args...), streams{out: &out, err: &problems})
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || problems.Len() > 0 {
		t.Fatalf("%v: %s%s", err, &out, &problems)
	}
	return &r, code
}

func TestAskAll(t *testing.T) {
	var lock sync.Mutex
	from, networks, subnets := map[string]int{}, map[string]int{}, map[string]int{}
	addr := serve(t, rotating(func(w dns.ResponseWriter, q *dns.Msg, _ int) bool {
		lock.Lock()
		defer lock.Unlock()
		host, _, _ := net.SplitHostPort(w.RemoteAddr().String())
		from[host]++
		networks[w.RemoteAddr().Network()]++
		subnets[q.IsEdns0().Option[0].(*dns.EDNS0_SUBNET).String()]++
		return true
	}))
	r, code := spread(t, "www.example.org", "@"+addr, "-n", "300", "-c", "4", "-over", "both", "-source", "127.0.0.2,127.0.0.4/31", "-ecs", "192.0.2.0/25/26,2001:db8::/56")
	if r.Asked != 300 || r.Answered != 300 || r.Lost != 0 || code != 0 || r.Sets[0].Verdict != exact || r.TTLs[30] != 300 || r.Rcodes["NOERROR"] != 300 {
		t.Errorf("status %d and report %+v, want 300 answers and %q", code, r, exact)
	}
	lock.Lock()
	defer lock.Unlock()
	for _, tc := range []struct {
		what string
		seen map[string]int
		want map[string]int
	}{
		{"sources", from, map[string]int{"127.0.0.2": 100, "127.0.0.4": 100, "127.0.0.5": 100}},
		{"protocols", networks, map[string]int{"udp": 150, "tcp": 150}},
		{"subnets", subnets, map[string]int{"192.0.2.0/26/0": 100, "192.0.2.64/26/0": 100, "[2001:db8::]/56/0": 100}},
	} {
		for name, n := range tc.want {
			if tc.seen[name] != n || len(tc.seen) != len(tc.want) {
				t.Errorf("%s are %v, want %v", tc.what, tc.seen, tc.want)
			}
		}
	}
}

func TestTroubles(t *testing.T) {
	addr := serve(t, rotating(func(w dns.ResponseWriter, q *dns.Msg, turn int) bool {
		m := new(dns.Msg).SetReply(q)
		switch turn {
		case 0:
			_ = w.WriteMsg(m.SetRcode(q, dns.RcodeServerFailure))
		case 1:
			_ = w.WriteMsg(m)
		case 2:
			m.Truncated = true
			_ = w.WriteMsg(m)
		case 4:
			m.Question[0].Name = "another.example.org."
			_ = w.WriteMsg(m)
		default:
			return true
		}
		return false
	}))
	r, code := spread(t, "www.example.org", "@"+addr, "-n", "19")
	if r.Asked != 19 || r.Lost != 0 || r.Rcodes["SERVFAIL"] != 1 || r.Empty != 1 || r.Truncated != 1 || r.Problems["the answer is to another question"] != 1 || r.Answered != 18 || code != 0 {
		t.Errorf("status %d and report %+v", code, r)
	}
}

// What is not answered in time is lost, and not asked for again.
func TestLost(t *testing.T) {
	addr := serve(t, rotating(func(_ dns.ResponseWriter, q *dns.Msg, turn int) bool {
		if turn >= 2 {
			t.Errorf("asked a third time: %v", q)
		}
		return false
	}))
	r, code := spread(t, "www.example.org", "@"+addr, "-n", "2", "-timeout", "200ms")
	if r.Asked != 2 || r.Lost != 2 || r.Answered != 0 || code != exitNoVerdict {
		t.Errorf("status %d and report %+v, want two that are lost", code, r)
	}
}

// Where nobody listens, the report says why.
func TestNobodyListens(t *testing.T) {
	r, code := spread(t, "www.example.org", "@"+deaf(t), "-n", "4", "-over", "both")
	if r.Problems["connection refused"] != 4 || code != exitNoVerdict {
		t.Errorf("status %d and problems %v, want 2 and 4 times that the connection was refused", code, r.Problems)
	}
}

// deaf returns an address that nobody listens at. Both ports are taken, so that no other process
// does: one listens to a single peer, and one not at all.
func deaf(t *testing.T) string {
	t.Helper()
	for {
		packets, err := net.Dial("udp", "127.0.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = packets.Close() })
		at := packets.LocalAddr().(*net.UDPAddr).AddrPort()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err == nil {
			return at.String()
		}
	}
}

// One that is interrupted shows what there is.
func TestInterrupt(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	addr := serve(t, rotating(func(_ dns.ResponseWriter, _ *dns.Msg, turn int) bool {
		if turn == 29 {
			interrupt()
		}
		return true
	}))
	var out strings.Builder
	code := run(ctx, []string{patient, "www.example.org", "@" + addr, "-n", "1000000000"}, streams{out: &out, err: &out, screen: screen{terminal.Screen{Width: 80}}})
	if code != 0 || !strings.Contains(out.String(), "\nexact: ") {
		t.Errorf("status %d after\n%s", code, &out)
	}
}

// A rate holds questions back, but none is left out.
func TestRate(t *testing.T) {
	r, _ := spread(t, "www.example.org", "@"+serve(t, rotating(nil)), "-n", "6", "-c", "3", "-rate", "100")
	if r.Answered != 6 || r.Seconds < 0.05 {
		t.Errorf("%d answers in %v s, want 6 in at least 0.05", r.Answered, r.Seconds)
	}
}

func TestSVGFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "it.svg")
	if _, code := spread(t, "www.example.org", "@"+serve(t, rotating(nil)), "-n", "30", "-svg", path); code != 0 {
		t.Errorf("exit status %d", code)
	}
	text, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(text, []byte("<svg ")) {
		t.Errorf("%v: %.20q, want a drawing", err, text)
	}
	var out, problems strings.Builder
	code := run(t.Context(), []string{patient, "a.", "@" + serve(t, rotating(nil)), "-n", "1", "-svg", path + "/x"}, streams{out: &out, err: &problems})
	if want := "balancectl spread: open " + path + "/x: not a directory\n"; code != exitNoVerdict || problems.String() != want {
		t.Errorf("status %d and %q, want %q", code, &problems, want)
	}
	if !strings.Contains(out.String(), "\n192.0.2.1 ") {
		t.Errorf("without a drawing the table is\n%s\nwant it anyway", &out)
	}
}

// lines is a writer that hands on what it is given, a line at a time.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		l <- strings.TrimSpace(line)
	}
	return len(text), nil
}

func TestWatch(t *testing.T) {
	var lock sync.Mutex
	addresses := []string{"192.0.2.1", "192.0.2.2"}
	addr := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		lock.Lock()
		defer lock.Unlock()
		m := new(dns.Msg).SetReply(q)
		for _, a := range addresses {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.ParseIP(a)})
		}
		_ = w.WriteMsg(m)
	})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, ended := make(lines), make(chan int)
	go func() {
		ended <- run(ctx, []string{patient, "-watch", "-every", "10ms", "-n", "2", "www.example.org", "@" + addr}, streams{out: out, err: out, screen: screen{terminal.Screen{Width: 80}}})
		close(out)
	}()
	var got []string
	next := func() (line string) {
		select {
		case line = <-out:
		case <-time.After(time.Minute):
			t.Fatalf("no line after %q", got)
		}
		if _, rest, ok := strings.Cut(line, "  "); ok {
			line, _, _ = strings.Cut(rest, " for ")
		}
		return line
	}
	got = append(got, next(), next(), next())
	lock.Lock()
	addresses = addresses[1:]
	lock.Unlock()
	got = append(got, next())
	lock.Lock()
	addresses = append(addresses, "192.0.2.1")
	lock.Unlock()
	got = append(got, next())
	interrupt()
	go func() {
		for line := range out {
			got = append(got, line)
		}
		ended <- 0
	}()
	if code := <-ended; code != 0 {
		t.Errorf("exit status %d", code)
	}
	<-ended
	want := []string{
		"www.example.org. A at " + addr + ", 2 questions every 10ms; interrupt to end", "+ 192.0.2.1", "+ 192.0.2.2",
		"- 192.0.2.1 (was there", "+ 192.0.2.1 (was away",
	}
	if len(got) != 7 || !slices.Equal(got[:5], want) || !strings.HasPrefix(got[5], "192.0.2.1 was there for ") || !strings.HasSuffix(got[5], "and went 1 time") {
		t.Errorf("lines are %q, want %q and a summary of two", got, want)
	}
}

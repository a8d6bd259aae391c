// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// local stands for the port of the check on loopback.
var local = netip.MustParseAddrPort("127.0.0.1:0")

const (
	patience = time.Minute // the timeout of probes that should not need it
	brief    = time.Second // that of probes which wait in vain
)

// verdict probes once and returns the error's text, "" for up.
func verdict(t *testing.T, c *Check, timeout time.Duration) string {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), start.Add(timeout))
	defer cancel()
	err := c.probeSince(ctx, start, local)
	if err == nil {
		return ""
	}
	checkText(t, err)
	return err.Error()
}

// judges fails the test unless a probe says what is wanted, "" for up. One that waits for a brief
// time is given more if it says something else: this machine may have stood still for as long.
func judges(t *testing.T, c *Check, timeout time.Duration, want string) {
	t.Helper()
	for {
		wanted := strings.Replace(want, "within "+brief.String(), "within "+timeout.String(), 1)
		got := verdict(t, c, timeout)
		switch {
		case got == wanted:
			return
		case 4*timeout > patience:
			t.Errorf("%s: got  %s\nwant %s", c.Name(), got, wanted)
			return
		}
		timeout *= 4
	}
}

// next returns what comes next.
func next[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	return v
}

// checkText holds an error to what Prober promises.
func checkText(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) == 0 || len(text) > 200 {
		t.Errorf("an error of %d bytes, want 1 to 200: %s", len(text), text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("the error %q is not printable", text)
	}
}

// must is for constructors that should not fail.
func must(t testing.TB) func(*Check, error) *Check {
	return func(c *Check, err error) *Check {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// serve starts a TCP server and returns its port. It waits for its connections when the test ends.
func serve(t testing.TB, handle func(*net.TCPConn)) uint16 {
	t.Helper()
	return serveOn(t, listen(t, "127.0.0.1:0"), handle)
}

func listen(t testing.TB, address string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

func serveOn(t testing.TB, l *net.TCPListener, handle func(*net.TCPConn)) uint16 {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return portOf(l.Addr())
}

func portOf(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }

// boundSocket returns a socket that has a port and does not listen, and that port.
func boundSocket(t testing.TB) (fd int, port uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, uint16(name.(*unix.SockaddrInet4).Port)
}

// closedPort returns a port that is taken, so that no other process listens on it, and refuses.
func closedPort(t testing.TB) uint16 {
	t.Helper()
	_, port := boundSocket(t)
	return port
}

// The ways of a server. All but endless leave when the prober hangs up.

// silent accepts and never answers.
func silent(c *net.TCPConn) { io.Copy(io.Discard, c) }

// says sends a text at once and then waits for the prober to leave.
func says(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

// leaves sends a text and closes in good order once it has read a line, so that no reset takes
// the text back.
func leaves(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		io.WriteString(c, text)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
}

// resets reads a line and sends a reset.
func resets(c *net.TCPConn) {
	bufio.NewReader(c).ReadString('\n')
	c.SetLinger(0)
}

// endless sends a text without an end.
func endless(head, text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		block := []byte(strings.Repeat(text, 1+4096/len(text)))
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = c.Write(block)
		}
	}
}

// drips sends a text a byte at a time, each after the prober had every chance to read the last,
// and then hangs.
func drips(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		c.SetNoDelay(true)
		for i := range len(text) {
			c.Write([]byte(text[i : i+1]))
		}
		io.Copy(io.Discard, c)
	}
}

func TestProbeWithoutAddress(t *testing.T) {
	c := must(t)(NewTCP(TCP{Port: 1}))
	err := c.Probe(t.Context(), netip.AddrPort{})
	if !errors.Is(err, ErrLocal) || err.Error() != "not probed: no address" {
		t.Errorf("got %v", err)
	}
}

func TestProbeOfMappedAddress(t *testing.T) {
	c := must(t)(NewTCP(TCP{Port: serve(t, silent)}))
	if err := c.Probe(t.Context(), netip.MustParseAddrPort("[::ffff:127.0.0.1]:0")); err != nil {
		t.Error(err)
	}
}

// The port of an endpoint counts before that of the check.
func TestProbeOfAnotherPort(t *testing.T) {
	closed, open := closedPort(t), serve(t, silent)
	for name, c := range map[string]*Check{
		"tcp":  must(t)(NewTCP(TCP{Port: closed})),
		"http": must(t)(NewHTTP(HTTP{Port: closed})),
		"grpc": must(t)(NewGRPC(GRPC{Port: closed})),
		"dns":  must(t)(NewDNS(DNS{Port: closed})),
	} {
		if err := c.Probe(t.Context(), local); err == nil || err.Error() != "connection refused" {
			t.Errorf("%s: port of the check: got %v", name, err)
		}
	}
	c := must(t)(NewTCP(TCP{Port: closed}))
	if err := c.Probe(t.Context(), netip.AddrPortFrom(local.Addr(), open)); err != nil {
		t.Error(err)
	}
}

// A probe whose caller leaves says nothing of the endpoint.
func TestCancelled(t *testing.T) {
	accepted := make(chan struct{}, 1)
	port := serve(t, func(c *net.TCPConn) {
		accepted <- struct{}{}
		silent(c)
	})
	for name, c := range map[string]*Check{
		"tcp":  must(t)(NewTCP(TCP{Port: port, Receive: "x"})),
		"http": must(t)(NewHTTP(HTTP{Port: port})),
		"grpc": must(t)(NewGRPC(GRPC{Port: port})),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			go func() {
				<-accepted
				cancel()
			}()
			err := c.Probe(ctx, local)
			if !errors.Is(err, ErrLocal) || err.Error() != "not probed: cancelled" {
				t.Errorf("got %v", err)
			}
			if err := c.Probe(ctx, local); !errors.Is(err, ErrLocal) {
				t.Errorf("with a dead context: got %v", err)
			}
		})
	}
}

func TestExpiredContextIsNotProbed(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	err := must(t)(NewTCP(TCP{Port: 1})).Probe(ctx, local)
	if !errors.Is(err, ErrLocal) || err.Error() != "not probed: no time left" {
		t.Errorf("got %v", err)
	}
}

// Both a source of the endpoint's family and one of the other, which is not used.
func TestSource(t *testing.T) {
	from := make(chan netip.Addr, 1)
	port := serve(t, func(c *net.TCPConn) {
		from <- netip.MustParseAddrPort(c.RemoteAddr().String()).Addr()
		silent(c)
	})
	for _, tc := range []struct{ source, want string }{
		{"127.0.0.7", "127.0.0.7"},
		{"2001:db8::1", "127.0.0.1"},
	} {
		c := must(t)(NewTCP(TCP{Port: port, Source: netip.MustParseAddr(tc.source)}))
		if got := verdict(t, c, patience); got != "" {
			t.Errorf("source %s: %s", tc.source, got)
			continue
		}
		if got := next(t, from); got.String() != tc.want {
			t.Errorf("source %s: came from %s, want %s", tc.source, got, tc.want)
		}
	}
}

// hasIPv6 reports whether this host has the address ::1.
func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestIPv6(t *testing.T) {
	if !hasIPv6() {
		return
	}
	host := make(chan string, 1)
	port := serveOn(t, listen(t, "[::1]:0"), func(c *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			host <- r.Host
			says(status200("ok"))(c)
		}
	})
	for _, source := range []netip.Addr{{}, netip.IPv6Loopback(), local.Addr()} {
		tcp := must(t)(NewTCP(TCP{Port: port, Source: source}))
		if err := tcp.Probe(t.Context(), netip.AddrPortFrom(netip.IPv6Loopback(), 0)); err != nil {
			t.Errorf("tcp from %s: %v", source, err)
		}
		web := must(t)(NewHTTP(HTTP{Port: port, Source: source, Body: "ok"}))
		if err := web.Probe(t.Context(), netip.AddrPortFrom(netip.IPv6Loopback(), 0)); err != nil {
			t.Errorf("http from %s: %v", source, err)
		} else if got, want := next(t, host), fmt.Sprintf("[::1]:%d", port); got != want {
			t.Errorf("the host was %s, want %s", got, want)
		}
	}
}

func TestForeignSourceIsOurFault(t *testing.T) {
	c := must(t)(NewTCP(TCP{Port: 1, Source: netip.MustParseAddr("203.0.113.1")}))
	err := c.Probe(t.Context(), local)
	const want = "not probed: no local port is free, or the source is not an address of this host"
	if !errors.Is(err, ErrLocal) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// tinyBacklog returns a listening socket and its port. Its backlog has room for one connection.
func tinyBacklog(t testing.TB) (fd int, port uint16) {
	t.Helper()
	fd, port = boundSocket(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	return fd, port
}

// blackHole returns a port whose handshakes get no reply: its backlog of one is full.
func blackHole(t testing.TB) uint16 {
	t.Helper()
	_, port := tinyBacklog(t)
	opened, hung := 0, 0
	for hung == 0 || opened == 0 && hung < 2 { // until one hangs; the first one may have waited for this machine only
		ctx, cancel := context.WithTimeout(t.Context(), brief)
		conn, err := unkept.DialTCP(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(local.Addr(), port))
		cancel()
		if err != nil {
			hung++
			continue
		}
		opened++
		t.Cleanup(func() { conn.Close() })
	}
	return port
}

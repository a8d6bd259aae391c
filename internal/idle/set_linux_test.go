// SPDX-License-Identifier: Apache-2.0

package idle

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// heard is what a set says.
type heard struct {
	who     string
	change  Change
	dropped int
}

// ward is a set whose news a test reads.
type ward struct {
	*Set[string]
	t     *testing.T
	turns chan func() // what the owner of the set does
	news  chan heard
}

// watched returns a set that lives as long as the test.
func watched(t *testing.T) *ward {
	t.Helper()
	set, err := New[string](func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{Set: set, t: t, news: make(chan heard, 1000)}
	calls, done := make(chan func()), make(chan struct{})
	go func() {
		for call := range calls {
			call()
		}
	}()
	go func() {
		defer close(done)
		events := make([]Event, 2)
		for {
			news, err := set.Wait(events)
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				return
			}
			looked := make(chan struct{})
			calls <- func() {
				defer close(looked)
				for _, e := range news {
					if who, change, dropped := set.Look(e); change != Nothing {
						w.news <- heard{who, change, dropped}
					}
				}
			}
			<-looked
		}
	}()
	w.turns = calls
	t.Cleanup(func() {
		w.do(set.Shut)
		<-done
		close(calls)
	})
	return w
}

func (w *ward) do(call func()) {
	done := make(chan struct{})
	w.turns <- func() { defer close(done); call() }
	<-done
}

// dial dials an address.
func (w *ward) dial(who string, to net.Addr) (conn Conn) {
	w.t.Helper()
	w.do(func() {
		var err error
		if conn, err = w.Dial(netip.Addr{}, netip.MustParseAddrPort(to.String()), who); err != nil {
			w.t.Error(err)
		}
	})
	return conn
}

// await returns the next news of a kind, and fails the test for an end that comes before.
func (w *ward) await(who string, change Change) heard {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case h := <-w.news:
			if h.who == who && h.change == change {
				return h
			}
			if h.change == Ended {
				w.t.Fatalf("%+v, want %d of %s", h, change, who)
			}
		case <-deadline:
			w.t.Fatalf("never: %d of %s", change, who)
		}
	}
}

// listener listens on loopback.
func listener(t *testing.T, at string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func accept(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	_ = l.SetDeadline(time.Now().Add(patience))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Whichever way a peer ends a connection, it is seen; also behind what it said before.
func TestEnds(t *testing.T) {
	ends := map[string]func(c *net.TCPConn){
		"closes":            func(c *net.TCPConn) { _ = c.Close() },
		"resets":            func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
		"closes half":       func(c *net.TCPConn) { _ = c.CloseWrite() },
		"greets and closes": func(c *net.TCPConn) { _, _ = c.Write([]byte("220 ready\r\n")); _ = c.Close() },
		"says much and closes": func(c *net.TCPConn) {
			_, _ = c.Write(bytes.Repeat([]byte("y"), 60_000))
			_ = c.Close()
		},
	}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		for name, end := range ends {
			t.Run(at+" "+name, func(t *testing.T) {
				w, l := watched(t), listener(t, at)
				w.dial("a", l.Addr())
				c := accept(t, l)
				w.await("a", Opened)
				end(c)
				for deadline := time.After(patience); ; {
					select {
					case h := <-w.news:
						if h.change == Ended {
							return
						}
					case <-deadline:
						t.Fatal("never heard of it")
					}
				}
			})
		}
	}
}

// What a peer says is dropped, so that it can go on, and wakes nobody again and again.
func TestSpeaks(t *testing.T) {
	w, l := watched(t), listener(t, "127.0.0.1:0")
	w.dial("a", l.Addr())
	c := accept(t, l)
	w.await("a", Opened)
	if _, err := c.Write([]byte("220 ready\r\n")); err != nil {
		t.Fatal(err)
	}
	if h := w.await("a", Spoke); h.dropped != len("220 ready\r\n") {
		t.Errorf("%d bytes dropped, want the greeting's", h.dropped)
	}
	for range 30 {
		if _, err := c.Write(make([]byte, 40_000)); err != nil {
			t.Fatal(err)
		}
		for dropped := 0; dropped < 40_000; {
			dropped += w.await("a", Spoke).dropped
		}
	}
}

// Of one that says very much at once, a bounded part is read.
func TestSpeaksMuch(t *testing.T) {
	w, l := watched(t), listener(t, "127.0.0.1:0")
	w.dial("a", l.Addr())
	c := accept(t, l)
	w.await("a", Opened)
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = c.Write(make([]byte, 64<<20))
	}()
	for dropped := 0; dropped < 64<<10; {
		h := w.await("a", Spoke)
		if dropped += h.dropped; h.dropped > MostDropped {
			t.Errorf("%d bytes at once", h.dropped)
		}
	}
	_ = c.Close()
	<-written
}

// Where nobody listens, that is an end.
func TestRefused(t *testing.T) {
	w, l := watched(t), listener(t, "127.0.0.1:0")
	_ = l.Close()
	w.dial("a", l.Addr())
	w.await("a", Ended)
}

// Of what is closed nothing is heard, though its descriptor serves another connection.
func TestNoNewsOfTheClosed(t *testing.T) {
	w, l := watched(t), listener(t, "127.0.0.1:0")
	conn := w.dial("old", l.Addr())
	old := accept(t, l)
	w.await("old", Opened)
	w.do(func() { // the end of the old one waits to be looked at until another has its descriptor
		_ = old.Close()
		w.Close(conn)
		next, err := w.Dial(netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), "next")
		if err != nil || fdOf(next) != fdOf(conn) || next == conn {
			t.Errorf("%x after %x, %v: want the same descriptor in another connection", next, conn, err)
		}
		if who, change, _ := w.Look(Event{Conn: conn, bits: unix.EPOLLRDHUP}); change != Nothing {
			t.Errorf("news of %q, want none", who)
		}
		w.Close(conn) // again, which must not close the next one
	})
	w.await("next", Opened)
	next := accept(t, l)
	_ = next.Close()
	w.await("next", Ended)
}

// Our end is as a client's that has nothing more to say, as long as few connections end so.
// Otherwise it is a reset, so that nothing of it stays with either host.
func TestCloses(t *testing.T) {
	for name, tc := range map[string]struct {
		mayCloseFirst bool
		want          error
	}{"first": {true, io.EOF}, "with a reset": {false, syscall.ECONNRESET}} {
		t.Run(name, func(t *testing.T) {
			w, l := watched(t), listener(t, "127.0.0.1:0")
			w.mayCloseFirst = func() bool { return tc.mayCloseFirst }
			conn := w.dial("a", l.Addr())
			c := accept(t, l)
			w.await("a", Opened)
			w.do(func() { // what is unread must not turn the end into a reset
				_, _ = c.Write([]byte("220 ready\r\n"))
				w.Close(conn)
			})
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

// A peer that closes first keeps what is left of the connection, so it needs no leave and no reset.
func TestClosesAfterThePeer(t *testing.T) {
	w, l := watched(t), listener(t, "127.0.0.1:0")
	conn := w.dial("a", l.Addr())
	c := accept(t, l)
	w.await("a", Opened)
	_ = c.CloseWrite()
	w.await("a", Ended)
	w.do(func() { w.Close(conn) })
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end without a reset", err)
	}
}

// Connections leave from the address that they should; an error of this host's own is one.
func TestDialFrom(t *testing.T) {
	w, l := watched(t), listener(t, "127.0.0.1:0")
	to := netip.MustParseAddrPort(l.Addr().String())
	w.do(func() {
		if _, err := w.Dial(netip.MustParseAddr("127.0.0.9"), to, "a"); err != nil {
			t.Error(err)
		}
		if _, err := w.Dial(netip.MustParseAddr("192.0.2.1"), to, "b"); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("%v, want that this is no address of the host", err)
		}
	})
	if from := accept(t, l).RemoteAddr().String(); !strings.HasPrefix(from, "127.0.0.9:") {
		t.Errorf("from %s, want 127.0.0.9", from)
	}
}

// The last quarter of the descriptors is left to others.
func TestLeavesDescriptors(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 100
	w, l := watched(t), listener(t, "127.0.0.1:0")
	w.do(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
			t.Error(err)
			return
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
		dialled := 0
		for ; dialled < 100; dialled++ {
			if _, err := w.Dial(netip.Addr{}, netip.MustParseAddrPort(l.Addr().String()), "a"); err != nil {
				if !errors.Is(err, ErrNoRoom) {
					t.Error(err)
				}
				break
			}
		}
		if dialled == 0 || dialled > 75 {
			t.Errorf("%d connections, want less than three quarters of 100 descriptors", dialled)
		}
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Errorf("no file can be opened: %v", err)
		} else {
			_ = f.Close()
		}
	})
}

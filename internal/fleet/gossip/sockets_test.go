// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// memberlist's goroutines end some seconds after a carrier.
func TestMain(m *testing.M) {
	code := m.Run()
	end := time.Now().Add(patience)
	err := goleak.Find()
	for err != nil && time.Now().Before(end) {
		err = goleak.Find()
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test with real sockets waits for what must come. It is long enough for a
// slow machine, so its end means "never".
const patience = time.Minute

// key returns one of 32 equal bytes.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// listening starts a replica with real sockets, which looks for others at those ports of 127.0.0.1.
func listening(t *testing.T, name string, change func(*Options), others ...*replica) *replica {
	t.Helper()
	r := newReplica(name)
	o := r.options()
	o.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	for _, other := range others {
		o.Join = append(o.Join, other.peer())
	}
	if change != nil {
		change(&o)
	}
	var err error
	for range 20 { // the port that is free for TCP may be in use for UDP
		if r.Carrier, err = Listen(o); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Start(r)
	t.Cleanup(func() { leave(r) })
	return r
}

func (r *replica) peer() Peer { return Peer{"127.0.0.1", r.Carrier.options.Listen.Port()} }

func withKeys(keys ...byte) func(*Options) {
	return func(o *Options) {
		o.Keys = nil
		for _, b := range keys {
			o.Keys = append(o.Keys, key(b))
		}
	}
}

// hears reports whether a message from one replica gets to another.
func hears(from, to *replica) bool {
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	message := fmt.Sprintf("%s to %s: %x", from.name, to.name, id)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		from.Tell(to.name, []byte(message))
		if to.times(message) > 0 {
			return true
		}
	}
	return false
}

// Keys are replaced while replicas run, in the three steps that operators take, and nothing is
// lost.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	a := listening(t, "a", withKeys(1))
	b := listening(t, "b", withKeys(1), a)
	within(t, patience, "both there", func() bool { return a.names() == "a b" && b.names() == "a b" })
	for _, keys := range [][]byte{{1, 2}, {2, 1}, {2}} {
		for _, r := range []*replica{a, b} {
			var all [][]byte
			for _, k := range keys {
				all = append(all, key(k))
			}
			r.SetKeys(all)
			if !hears(a, b) || !hears(b, a) {
				t.Fatalf("keys %v at %s: the other one is not heard", keys, r.name)
			}
		}
	}
	c := listening(t, "c", withKeys(2), a)
	within(t, patience, "c there", func() bool { return c.names() == "a b c" })
	for _, r := range []*replica{a, b, c} {
		if lines := r.said("discarded"); len(lines) > 0 {
			t.Errorf("%s: %q", r.name, lines)
		}
	}
}

// Any keys may follow any others.
func TestSetKeys(t *testing.T) {
	r := newCarrier(Options{Keys: [][]byte{key(1)}}, nil)
	for _, keys := range []string{"\x01\x02\x03", "\x01\x03", "\x03\x01\x02", "\x02", "\x04\x05", "\x05\x04\x02\x01"} {
		var want [][]byte
		for _, b := range []byte(keys) {
			want = append(want, key(b))
		}
		if r.SetKeys(want); !slices.EqualFunc(r.keys.GetKeys(), want, bytes.Equal) && !sameSet(r.keys.GetKeys(), want) {
			t.Errorf("%q: got %q", keys, r.keys.GetKeys())
		}
	}
}

// sameSet reports whether two rings encrypt with the same key and decrypt with the same keys.
func sameSet(got, want [][]byte) bool {
	return len(got) == len(want) && bytes.Equal(got[0], want[0]) &&
		!slices.ContainsFunc(want, func(k []byte) bool {
			return !slices.ContainsFunc(got, func(g []byte) bool { return bytes.Equal(g, k) })
		})
}

// A replica with another key, without one, or of another fleet is refused, and both sides say why.
func TestStrangersAreRefused(t *testing.T) {
	for _, tc := range []struct {
		what           string
		here, stranger func(*Options)
		says, theirs   string // what both logs say
	}{
		{
			"another key", withKeys(1), withKeys(2),
			"WARNING fleet dns: 127.0.0.1 sends messages that none of the keys here decrypts, so they are discarded: want a key in common in the key files of both",
			"it has no key in common with this replica: want one key in both key files",
		}, {
			"no key", withKeys(1), withKeys(),
			"WARNING fleet dns: 127.0.0.1 sends messages that are not encrypted, so they are discarded: want the option key there",
			"its messages are encrypted: want the option key here",
		}, {
			"no key here", withKeys(), withKeys(1),
			"WARNING fleet dns: 127.0.0.1 sends encrypted messages, so they are discarded: want the option key here",
			"its messages are not encrypted: want the option key there",
		}, {
			"another fleet", withKeys(1), func(o *Options) { o.Fleet = "web"; withKeys(1)(o) },
			`WARNING fleet dns: 127.0.0.1 belongs to the fleet "web", so what it sends is discarded: want the same name behind fleet, or join without it`,
			"it closed the connection: perhaps it is in a fleet of another name",
		},
	} {
		t.Run(tc.what, func(t *testing.T) {
			t.Parallel()
			a := listening(t, "a", tc.here)
			within(t, patience, "a there", func() bool { return a.names() == "a" })
			b := listening(t, "b", tc.stranger, a)
			within(t, patience, "b says so", func() bool { return len(b.said("no other replica")) == 1 })
			if got := b.said("no other replica")[0]; !strings.HasSuffix(got, tc.theirs) {
				t.Errorf("there: %q\nwant  %q", got, tc.theirs)
			}
			if got := b.Problems(); len(got) == 0 || !strings.HasSuffix(got[0], tc.theirs) {
				t.Errorf("problems there: %q", got)
			}
			if got := a.Problems(); len(got) != 1 || "WARNING fleet dns: "+got[0] != tc.says {
				t.Errorf("problems here: %q", got)
			}
			if got := a.said("discarded"); len(got) != 1 || got[0] != tc.says {
				t.Errorf("here: %q\nwant  %q", got, tc.says)
			}
			if a.names() != "a" || b.names() != "b" {
				t.Errorf("they know each other: %s; %s", a.names(), b.names())
			}
		})
	}
}

// A replica that was refused is no problem any more once it has joined.
func TestRefusedReplicaJoins(t *testing.T) {
	t.Parallel()
	a := listening(t, "a", withKeys(1))
	b := listening(t, "b", withKeys(2), a)
	within(t, patience, "b is refused", func() bool { return len(a.Problems()) == 1 })
	b.SetKeys([][]byte{key(1)})
	within(t, patience, "b has joined", func() bool { return a.names() == "a b" })
	if got := a.Problems(); len(got) > 0 {
		t.Errorf("problems %q, want none", got)
	}
}

// What is no replica may send anything to the port.
func TestGarbage(t *testing.T) {
	a := listening(t, "a", withKeys(1))
	b := listening(t, "b", withKeys(1), a)
	within(t, patience, "both there", func() bool { return a.names() == "a b" })
	to := a.Carrier.options.Listen.String()
	udp, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	garbage := [][]byte{{}, {0}, {244}, {244, 0}, {244, 3, 'd', 'n', 's'}, []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{1}, 1400)}
	for i := range 2000 {
		random := make([]byte, i%1500)
		_, _ = rand.Read(random)
		garbage = append(garbage, random, append([]byte("\xf4\x03dns\x01"), random...))
	}
	for i, g := range garbage {
		_, _ = udp.Write(g)
		if i > 40 {
			continue
		}
		if tcp, err := net.Dial("tcp", to); err == nil {
			_, _ = tcp.Write(g)
			tcp.Close()
		}
	}
	if !hears(b, a) || a.names() != "a b" {
		t.Error("the fleet is no more")
	}
	if lines := a.said(""); len(lines) > 10 {
		t.Errorf("%d lines of log: %q", len(lines), lines)
	}
}

// One host cannot keep all connections to itself, nor send without end.
func TestConnectionsAreBounded(t *testing.T) {
	a := listening(t, "a", nil)
	within(t, patience, "a there", func() bool { return a.names() == "a" })
	closed := make(chan error, 20)
	for range cap(closed) {
		conn, err := net.Dial("tcp", a.Carrier.options.Listen.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			_, err := io.ReadAll(conn)
			closed <- err
		}()
	}
	for range cap(closed) - maxStreamsOfHost {
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("more connections are open than allowed")
		}
	}
	select {
	case <-closed:
		t.Error("fewer connections are open than allowed")
	case <-time.After(200 * time.Millisecond):
	}
	if lines := a.said("closed a connection"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// A port in use is an error, and nothing stays open.
func TestPortInUse(t *testing.T) {
	port := freePort(t)
	busy, err := net.ListenPacket("udp", port)
	for range 20 {
		if err != nil {
			port = freePort(t)
			busy, err = net.ListenPacket("udp", port)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	o := newReplica("a").options()
	o.Listen = netip.MustParseAddrPort(port)
	if _, err := Listen(o); err == nil {
		t.Fatal("no error")
	}
	tcp, err := net.Listen("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	tcp.Close()
}

// freePort returns an address of 127.0.0.1 whose port is free for TCP, and usually for UDP.
func freePort(t *testing.T) string {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	return tcp.Addr().String()
}

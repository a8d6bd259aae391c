// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/icmp"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
)

// The targets here have a real peer that sends whatever it likes: what is read of it, and how long
// it takes, has a bound.

// peer sends the same to whoever connects.
type peer struct {
	port  uint16
	reply atomic.Pointer[[]byte]
}

// newPeer returns a peer that waits for a while, after the first so many bytes of its reply, for
// what the prober says to them.
func newPeer(t testing.TB, first func(reply []byte) (bytes int, wait time.Duration)) *peer {
	p := &peer{}
	p.port = serve(t, func(c *net.TCPConn) {
		reply := *p.reply.Load()
		at, wait := first(reply)
		_, err := c.Write(reply[:at])
		if at > 0 && err == nil {
			hear(c, wait)
		}
		if _, err := c.Write(reply[at:]); err == nil {
			c.CloseWrite()
		}
		io.Copy(io.Discard, c)
	})
	return p
}

// hear reads a request of HTTP/2, or what comes for a while.
func hear(c *net.TCPConn, wait time.Duration) {
	c.SetReadDeadline(time.Now().Add(wait))
	defer c.SetReadDeadline(time.Time{})
	io.CopyN(io.Discard, c, int64(len(http2.ClientPreface)))
	for framer := http2.NewFramer(io.Discard, c); ; {
		if frame, err := framer.ReadFrame(); err != nil || frame.Header().Type == http2.FrameData {
			return
		}
	}
}

func nothing([]byte) (int, time.Duration) { return 0, 0 }

// firstSettings returns the length of the SETTINGS frame that a reply begins with, 0 if it does
// not.
func firstSettings(reply []byte) int {
	if len(reply) < 9 || http2.FrameType(reply[3]) != http2.FrameSettings || reply[4] != 0 || reply[0] != 0 || reply[1] != 0 || 9+int(reply[2]) > len(reply) {
		return 0
	}
	return 9 + int(reply[2])
}

// probed returns what a probe of the peer says of a reply. One that hangs fails the test: the peer
// always ends.
func (p *peer) probed(t *testing.T, c *Check, reply []byte) error {
	t.Helper()
	p.reply.Store(&reply)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := c.probeSince(ctx, time.Now(), local)
	if err != nil {
		checkText(t, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("the probe did not end: %v", err)
	}
	return err
}

// FuzzTLSReply: nobody gets through a handshake without a key.
func FuzzTLSReply(f *testing.F) {
	f.Add([]byte("\x16\x03\x03\x00\x04\x0e\x00\x00\x00"))
	f.Add([]byte("\x15\x03\x01\x00\x02\x02\x28"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(append([]byte("\x16\x03\x03\x40\x00\x0b\xff\xff\xff"), make([]byte, 16380)...))
	p := newPeer(f, nothing)
	checks := []*Check{
		must(f)(NewTCP(TCP{Port: p.port, TLS: &TLS{Insecure: true}})),
		must(f)(NewHTTP(HTTP{Port: p.port, Host: "example.org", TLS: &TLS{}})),
		must(f)(NewGRPC(GRPC{Port: p.port, TLS: &TLS{Insecure: true}})),
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		for _, c := range checks {
			if p.probed(t, c, reply) == nil {
				t.Errorf("%s: %x is up", c.Name(), reply)
			}
		}
	})
}

// FuzzGRPCReply begins with what a real server says, which is up.
func FuzzGRPCReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	said := recorded(f)
	f.Add(said)
	p := newPeer(f, func(reply []byte) (int, time.Duration) {
		if bytes.Equal(reply, said) {
			return firstSettings(reply), patience // it holds an answer, which must not come ahead of the request
		}
		return firstSettings(reply), 200 * time.Millisecond // there may be no request after these settings
	})
	c := must(f)(NewGRPC(GRPC{Port: p.port}))
	f.Fuzz(func(t *testing.T, reply []byte) {
		err := p.probed(t, c, reply)
		if bytes.Equal(reply, said) && err != nil {
			t.Errorf("what a server that is up said: %v", err)
		}
		if err == nil && (len(reply) < 9 || reply[3] != 4) {
			t.Errorf("%x is up", reply)
		}
	})
}

// recorded returns all that a server says which is SERVING.
func recorded(f *testing.F) []byte {
	f.Helper()
	server := serveGRPC(f, insecure.NewCredentials(), health.NewServer())
	var said bytes.Buffer
	done := make(chan struct{})
	between := serve(f, func(c *net.TCPConn) {
		defer close(done)
		onward, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: local.Addr().AsSlice(), Port: int(server)})
		if err != nil {
			return
		}
		defer onward.Close()
		go func() {
			io.Copy(onward, c)
			onward.CloseWrite()
		}()
		io.Copy(io.MultiWriter(&said, c), onward)
	})
	if err := must(f)(NewGRPC(GRPC{Port: between})).Probe(f.Context(), local); err != nil {
		f.Fatal(err)
	}
	next(f, done)
	return said.Bytes()
}

// FuzzUDPReply: whatever else comes, only a datagram that holds the text is an answer.
func FuzzUDPReply(f *testing.F) {
	f.Add([]byte("PONG"), uint16(0))
	f.Add([]byte("NO\x1b[31m PO"), uint16(64))
	f.Add([]byte{}, uint16(3))
	f.Add(bytes.Repeat([]byte("x"), maxPacket+1), uint16(1))
	var reply atomic.Pointer[[][]byte]
	port := serveUDP(f, func([]byte) [][]byte { return *reply.Load() })
	c := must(f)(NewUDP(UDP{Port: port, Send: "ping", Receive: "PONG"}))
	f.Fuzz(func(t *testing.T, datagram []byte, before uint16) {
		datagram = datagram[:min(len(datagram), 2*maxPacket)]
		others := slices.Repeat([][]byte{[]byte("x")}, maxMisfits) // so many end the probe
		first := int(before) % (maxMisfits + 1)
		reply.Store(new(slices.Insert(others, first, datagram)))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := c.probeSince(ctx, time.Now(), local)
		if err != nil {
			checkText(t, err)
		}
		want := first < maxMisfits && bytes.Contains(datagram[:min(len(datagram), maxPacket)], []byte("PONG"))
		if up := err == nil; up != want {
			t.Errorf("%q behind %d others: %v", datagram, first, err)
		}
	})
}

// FuzzICMPReply: only what holds our token is an answer.
func FuzzICMPReply(f *testing.F) {
	echo := newEcho()
	for _, family := range []echoFamily{echoV4, echoV6} {
		packet, err := (&icmp.Message{Type: family.reply, Body: echo}).Marshal(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet, echo.Data)
	}
	f.Add([]byte("\x00"), []byte{})
	f.Add([]byte{3, 1, 0, 0, 0, 0, 0, 0}, []byte("unreachable"))
	f.Fuzz(func(t *testing.T, packet, token []byte) {
		for _, family := range []echoFamily{echoV4, echoV6} {
			if family.answers(packet, &icmp.Echo{Seq: 1, Data: token}) && !bytes.HasSuffix(packet, token) {
				t.Errorf("%x answers an echo of %x", packet, token)
			}
		}
	})
}

// endlessReader never ends, and counts.
type endlessReader struct {
	data []byte
	read int
}

func (e *endlessReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.data[(e.read+n)%len(e.data):])
	}
	e.read += n
	return n, nil
}

// FuzzEndlessReply repeats a reply for ever: what is read of it has a bound in every protocol that
// has streams.
func FuzzEndlessReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"))
	f.Add([]byte("x"))
	web := must(f)(NewHTTP(HTTP{Port: 80, Body: "never there"})).protocol.(*httpProbe)
	f.Fuzz(func(t *testing.T, reply []byte) {
		if len(reply) == 0 {
			return
		}
		const buffered = 4096
		r := &endlessReader{data: reply}
		judged(t, await(r, []byte("\x00never there")))
		if r.read > maxRead {
			t.Errorf("tcp: %d bytes were read, want at most %d", r.read, maxRead)
		}
		r = &endlessReader{data: reply}
		_, err := web.judge(r)
		judged(t, err)
		if most := maxRead + maxFramed + buffered; r.read > most {
			t.Errorf("http: %d bytes were read, want at most %d", r.read, most)
		}
	})
}

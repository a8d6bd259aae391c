// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-f1518d44/balance/tools/internal/fakes"
)

// manner is how a backend behaves.
type manner struct {
	name   string
	health health
	only   string // the protocol that it is for; "": all over TCP
	// serve handles a connection, over TLS where the protocol has it; nil: the protocol's own way.
	serve func(b *backend, c net.Conn)
	// raw handles the connection instead, below TLS.
	raw func(b *backend, c net.Conn)
}

// fine is the answer of a healthy backend.
const fine = "all is fine\n"

var (
	well     = &manner{name: "well", health: healthy}
	closed   = &manner{name: "refuses connections", health: refusing}
	swallows = &manner{name: "swallows connections", health: silent}

	tardy = &manner{name: "answers when the timeout is over", health: silent, only: "icmp"}
	// The fault is not its own: the verdict stays as it was.
	routeless = &manner{name: "has no route to it", health: healthy, only: "icmp"}
)

// bad are the manners that faults choose from. Backends with them are down, except if the manner
// says healthy.
var bad = []*manner{
	closed,
	swallows,
	{name: "accepts and says nothing", health: silent, raw: func(_ *backend, c net.Conn) { drain(c) }},
	{name: "resets connections", health: refusing, raw: func(_ *backend, c net.Conn) { reset(c) }},
	{name: "sends random bytes", health: refusing, raw: func(b *backend, c net.Conn) { sendNoise(c, b.noise.Add(1)) }},
	{name: "sends a byte now and then", health: silent, only: "http tcp", serve: func(_ *backend, c net.Conn) { drip(c) }},
	{name: "sends a body without end", health: silent, only: "http https", serve: func(_ *backend, c net.Conn) { endless(c) }},
	{name: "ends in the middle of a line", health: refusing, only: "http https", serve: func(_ *backend, c net.Conn) { answerHTTP(c, "HTTP/1.1 200 O") }},
	{name: "says 500", health: refusing, only: "http https", serve: func(_ *backend, c net.Conn) { answerHTTP(c, response(500, fine)) }},
	{name: "says another text", health: refusing, only: "http https", serve: func(_ *backend, c net.Conn) { answerHTTP(c, response(200, "all is lost\n")) }},
	{name: "redirects", health: refusing, only: "http https", serve: func(_ *backend, c net.Conn) {
		answerHTTP(c, "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
	}},
	{name: "speaks no TLS", health: refusing, only: "https", raw: func(_ *backend, c net.Conn) { answerHTTP(c, response(200, fine)) }},
	{name: "has an expired certificate", health: refusing, only: "https", raw: func(b *backend, c net.Conn) { b.overTLS(c, b.farm.pki.expired) }},
	{name: "has another's certificate", health: refusing, only: "https", raw: func(b *backend, c net.Conn) { b.overTLS(c, b.farm.pki.stranger) }},
	{name: "has an unknown issuer", health: refusing, only: "https", raw: func(b *backend, c net.Conn) { b.overTLS(c, b.farm.pki.rogue) }},
	{name: "says another line", health: refusing, only: "tcp", serve: func(_ *backend, c net.Conn) { write(c, "go away\n") }},
	{name: "says NOT_SERVING", health: refusing, only: "grpc", serve: func(b *backend, c net.Conn) { b.farm.sick.serve(c) }},
	{name: "answers SERVFAIL", health: refusing, only: "dns"},
	{name: "answers with another id", health: silent, only: "dns icmp"},
	{name: "answers with random bytes", health: silent, only: "dns icmp"},
	{name: "answers nothing", health: silent, only: "dns icmp"},
	{name: "answers with another number", health: silent, only: "icmp"},
	{name: "answers with another token", health: silent, only: "icmp"},
	{name: "answers with a part", health: silent, only: "icmp"},
	// Ping sockets do not get it.
	{name: "has its router say that it is unreachable", health: silent, only: "icmp"},
	{name: "answers wrongly before it answers", health: healthy, only: "icmp"},
	tardy,
	routeless,
}

// mannersOf returns the bad manners that a protocol's backends can have.
func mannersOf(protocol string) (all []*manner) {
	for _, m := range bad {
		overTCP := m.only == "" && protocol != "dns" && protocol != "icmp" || m == closed
		if overTCP || strings.Contains(" "+m.only+" ", " "+protocol+" ") {
			all = append(all, m)
		}
	}
	return all
}

// farm is some backends of one protocol, each at an address of its own.
type farm struct {
	name     string
	protocol string
	held     bool // the check has the option hold
	timing   *checkTiming
	network  netip.Prefix // that backends are in
	port     uint16
	pki      *pki
	backends []*backend

	sound, sick *clinic // for grpc
}

// backend is a server that is probed. Its manner changes; its methods are called by one goroutine.
type backend struct {
	farm    *farm
	addr    netip.AddrPort
	history *timeline[health] // what it is, as the judge knows it
	manner  atomic.Pointer[manner]
	noise   atomic.Uint64
	end     func() // ends what listens
	conns   *connections
	deafen  func() // ends what listens, but not the connections that it accepted
}

func newFarm(name, protocol string, port uint16, net byte, n int, p *pki) (*farm, error) {
	f := &farm{name: name, protocol: protocol, held: name == farmHeld, timing: timing, network: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 2, net}), 24), port: port, pki: p}
	if f.held {
		f.timing = unhurried
	}
	if protocol == "grpc" {
		f.sound, f.sick = newClinic(grpc_health_v1.HealthCheckResponse_SERVING), newClinic(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	}
	if protocol == "icmp" {
		f.network = hostsNet
	}
	for a := f.network.Addr().Next(); len(f.backends) < n; a = a.Next() {
		b := &backend{farm: f, addr: netip.AddrPortFrom(a, port), history: newTimeline(healthy)}
		f.backends = append(f.backends, b)
		b.manner.Store(well)
		if err := b.listen(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *farm) addrs() (all []netip.Addr) {
	for _, b := range f.backends {
		all = append(all, b.addr.Addr())
	}
	return all
}

// become changes the backend's manner. Meanwhile the judge treats it as murky, unless it is healthy
// before and after: one failure takes no backend out.
func (b *backend) become(m *manner) error {
	seen := b.seen(m)
	if seen == refusing && b.isHeld() {
		seen = severed
	}
	if seen != healthy || b.history.now() != healthy {
		b.history.set(murky)
	}
	b.end()
	b.manner.Store(m)
	if err := b.listen(); err != nil {
		return err
	}
	b.history.set(seen)
	return nil
}

// oldConnection is an age that connections of probes do not reach: one that is older is held.
const oldConnection = time.Second

// isHeld reports whether the server holds a connection to this backend.
func (b *backend) isHeld() bool { return b.farm.held && b.conns.olderThan(oldConnection) > 0 }

// seen returns the health that a probe finds. A gRPC client tries again until its timeout.
func (b *backend) seen(m *manner) health {
	if b.farm.protocol == "grpc" && m.health == refusing && m != closed {
		return silent
	}
	return m.health
}

// listen starts what the manner wants to listen.
func (b *backend) listen() (err error) {
	b.conns, b.end = newConnections(), func() {}
	switch m := b.manner.Load(); {
	case b.farm.protocol == "icmp":
		err = b.beHost()
	case m == closed:
	case m == swallows:
		_, b.end, err = fakes.BlackHole(b.addr)
	case b.farm.protocol == "dns":
		err = b.listenUDP()
	default:
		err = b.listenTCP()
	}
	return err
}

func (b *backend) listenTCP() error {
	l, err := net.Listen("tcp", b.addr.String())
	if err != nil {
		return err
	}
	conns := newConnections()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !conns.add(c) {
				continue
			}
			wg.Go(func() { b.handle(c); conns.remove(c) })
		}
	})
	b.conns = conns
	b.deafen = func() { l.Close() } //nolint:errcheck,gosec // listens no more
	b.end = func() {
		b.deafen()
		conns.closeAll()
		wg.Wait()
	}
	return nil
}

// handle serves a connection as the manner has it.
func (b *backend) handle(c net.Conn) {
	patience := 10 * time.Second
	if b.farm.held {
		patience = 100 * time.Hour // it is for faults to end what is held
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	switch m := b.manner.Load(); {
	case m.raw != nil:
		m.raw(b, c)
	case b.farm.protocol == "https":
		b.overTLS(c, b.farm.pki.good)
	default:
		b.speak(c)
	}
}

func (b *backend) overTLS(c net.Conn, certificate tls.Certificate) {
	t := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	b.speak(t)
	t.Close() //nolint:errcheck,gosec // the peer may be gone
}

// speak speaks the protocol.
func (b *backend) speak(c net.Conn) {
	if m := b.manner.Load(); m.serve != nil {
		m.serve(b, c)
		return
	}
	switch b.farm.protocol {
	case "grpc":
		b.farm.sound.serve(c)
	case "tcp":
		write(c, fine)
		drain(c)
	default:
		answerHTTP(c, response(200, fine))
	}
}

// connections are those that are open. Safe for concurrent use.
type connections struct {
	mu     sync.Mutex
	open   map[net.Conn]time.Time // since when
	closed bool
}

func newConnections() *connections { return &connections{open: make(map[net.Conn]time.Time)} }

func (s *connections) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close() //nolint:errcheck,gosec // unwanted
		return false
	}
	s.open[c] = time.Now()
	return true
}

func (s *connections) remove(c net.Conn) {
	c.Close() //nolint:errcheck,gosec // done with
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *connections) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		reset(c)
	}
}

// olderThan returns how many connections are older than that.
func (s *connections) olderThan(age time.Duration) (n int) {
	s.each(func(_ net.Conn, since time.Time) {
		if time.Since(since) > age {
			n++
		}
	})
	return n
}

// each calls f for every connection.
func (s *connections) each(f func(c net.Conn, since time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, since := range s.open {
		f(c, since)
	}
}

func write(c net.Conn, text string) { io.WriteString(c, text) } //nolint:errcheck,gosec // the peer may be gone

func drain(c net.Conn) { io.Copy(io.Discard, c) } //nolint:errcheck,gosec // the peer may be gone

// reset ends a connection with a reset.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck,gosec // the peer may be gone
	}
	c.Close() //nolint:errcheck,gosec // the peer may be gone
}

func sendNoise(c net.Conn, seed uint64) {
	c.Write(noise(seed, 300)) //nolint:errcheck,gosec // the peer may be gone
	reset(c)
}

// drip sends an answer too slowly.
func drip(c net.Conn) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, char := range []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Filler: " + strings.Repeat("x", 80)) {
		if _, err := c.Write([]byte{char}); err != nil {
			return
		}
		<-tick.C
	}
}

// endless sends a body without end, which does not hold the text that the check looks for.
func endless(c net.Conn) {
	answerHTTP(c, "HTTP/1.1 200 OK\r\n\r\n")
	filler := bytes.Repeat([]byte("x"), 4096)
	for range 100_000 {
		if _, err := c.Write(filler); err != nil {
			return
		}
	}
}

// answerHTTP reads a request and writes a response.
func answerHTTP(c net.Conn, text string) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil || strings.TrimSpace(line) == "" {
			break
		}
	}
	write(c, text)
}

func response(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d Status\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(body), body)
}

func (b *backend) listenUDP() error {
	p, err := net.ListenPacket("udp", b.addr.String())
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, dns.MaxMsgSize)
		for {
			n, from, err := p.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if reply := b.answerDNS(buf[:n]); reply != nil {
				p.WriteTo(reply, from) //nolint:errcheck,gosec // the peer may be gone
			}
		}
	}()
	b.end = func() {
		p.Close() //nolint:errcheck,gosec // listens no more
		<-done
	}
	return nil
}

// answerDNS returns the packet that answers a query, nil for none.
func (b *backend) answerDNS(packet []byte) []byte {
	q := new(dns.Msg)
	if q.Unpack(packet) != nil {
		return nil
	}
	reply := new(dns.Msg).SetReply(q)
	switch b.manner.Load().name {
	case "answers nothing":
		return nil
	case "answers with random bytes":
		return noise(b.noise.Add(1), 40)
	case "answers with another id":
		reply.Id++
	case "answers SERVFAIL":
		reply.Rcode = dns.RcodeServerFailure
	}
	packed, _ := reply.Pack() //nolint:errcheck // nil then
	return packed
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/seed-f1518d44/balance/internal/fleet"
)

// Bounds on what others can make a replica hold, whoever they are: a stream is read before it is
// known whether it was encrypted with the right key.
const (
	maxStreams       = 64       // connections at once that others opened
	maxStreamsOfHost = 8        // of these from one address
	maxStreamed      = 32 << 20 // bytes of all streams that are open

	// Bytes of a stream: the state of a replica, and its list of members.
	maxStream = fleet.MaxState + 1<<20
)

const (
	receiveBuffer = 2 << 20         // bytes that the kernel keeps while this process is busy
	maxDial       = 3 * time.Second // includes one SYN that is lost and sent again
	acceptPause   = 100 * time.Millisecond
)

// transport carries memberlist's packets over a UDP socket and its streams over TCP. Unlike
// memberlist's own, it bounds what others can make it hold. Safe for concurrent use.
type transport struct {
	advertise atomic.Pointer[netip.AddrPort]
	udp       *net.UDPConn
	tcp       *net.TCPListener
	log       *limitedLog
	packets   chan *memberlist.Packet
	streams   chan net.Conn

	ctx      context.Context
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	streamed atomic.Int64 // bytes that open streams have brought

	mu   sync.Mutex
	open map[*stream]struct{}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens the sockets. An address that is not specified stands for all of its family, and the
// zero address for all.
func listen(at netip.AddrPort, log *limitedLog) (*transport, error) {
	suffix := ""
	if at.Addr().Is4() {
		suffix = "4" // 0.0.0.0 is not ::
	}
	tcp, err := net.ListenTCP("tcp"+suffix, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
	udp, err := net.ListenUDP("udp"+suffix, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port)))
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	_ = udp.SetReadBuffer(receiveBuffer) // the kernel may allow less
	ctx, cancel := context.WithCancel(context.Background())
	return &transport{
		udp: udp, tcp: tcp, log: log, ctx: ctx, cancel: cancel,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), open: make(map[*stream]struct{}),
	}, nil
}

// start begins to receive, unless the transport was shut down before.
func (t *transport) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() == nil {
		t.tasks.Go(t.receive)
		t.tasks.Go(t.accept)
	}
}

// port returns the port that the sockets listen on.
func (t *transport) port() uint16 { return t.tcp.Addr().(*net.TCPAddr).AddrPort().Port() }

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at := t.advertise.Load()
	return at.Addr().AsSlice(), int(at.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(packet []byte, to string) (time.Time, error) {
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %q: want an address and a port", to)
	}
	_, err = t.udp.WriteToUDPAddrPort(packet, at)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(packet []byte, to memberlist.Address) (time.Time, error) {
	return t.WriteTo(packet, to.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// receive hands packets to memberlist until the transport is shut down.
func (t *transport) receive() {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buffer)
		now := time.Now()
		if err != nil && !t.waits(acceptPause) {
			return
		}
		if err != nil || n == 0 {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		p := &memberlist.Packet{Buf: slices.Clone(buffer[:n]), From: net.UDPAddrFromAddrPort(from), Timestamp: now}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// waits reports whether the transport still runs after some time.
func (t *transport) waits(pause time.Duration) bool {
	select {
	case <-t.ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: min(timeout, maxDial)}
	if here := t.tcp.Addr().(*net.TCPAddr); !here.IP.IsUnspecified() {
		dialer.LocalAddr = &net.TCPAddr{IP: here.IP, Zone: here.Zone}
	}
	conn, err := dialer.DialContext(t.ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return t.opened(conn, false)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(to.Addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// accept hands connections to memberlist until the transport is shut down.
func (t *transport) accept() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if !t.waits(acceptPause) {
				return
			}
			t.log.warn("accept", "", "cannot accept connections: %v", err)
			continue
		}
		s, err := t.opened(conn, true)
		if err != nil {
			t.log.warn("streams", hostOf(conn.RemoteAddr()), "closed a connection from %s: %v", conn.RemoteAddr(), err)
			continue
		}
		select {
		case t.streams <- s:
		case <-t.ctx.Done():
			_ = s.Close()
			return
		}
	}
}

// hostOf returns an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

var errTooMuch = fmt.Errorf("more than %d MiB on a connection, or %d MiB on all", maxStream>>20, maxStreamed>>20)

// opened keeps a connection until it is closed. If it cannot, it closes the connection and returns
// an error.
func (t *transport) opened(conn net.Conn, incoming bool) (net.Conn, error) {
	s := &stream{Conn: conn, of: t}
	if incoming {
		s.from = hostOf(conn.RemoteAddr())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.admits(s.from)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	t.open[s] = struct{}{}
	return s, nil
}

// admits returns an error unless one more connection may be open, from a host or to one. The caller
// holds the lock.
func (t *transport) admits(from string) error {
	if t.ctx.Err() != nil || from == "" {
		return t.ctx.Err()
	}
	all, ofHost := 0, 0
	for s := range t.open {
		if s.from != "" {
			all++
		}
		if s.from == from {
			ofHost++
		}
	}
	switch {
	case ofHost >= maxStreamsOfHost:
		return fmt.Errorf("%d of that host are open", ofHost)
	case all >= maxStreams:
		return fmt.Errorf("%d are open", all)
	}
	return nil
}

// Shutdown implements memberlist.Transport. It closes what is open and waits for the goroutines.
func (t *transport) Shutdown() error {
	_ = t.udp.Close()
	_ = t.tcp.Close()
	t.mu.Lock()
	t.cancel()
	open := slices.Collect(maps.Keys(t.open))
	t.mu.Unlock()
	for _, s := range open {
		_ = s.Close()
	}
	t.tasks.Wait()
	return nil
}

// stream is a connection that is read up to a bound.
type stream struct {
	net.Conn
	of     *transport
	from   string // the host that opened it; empty: this one
	read   atomic.Int64
	closed sync.Once
}

func (s *stream) Read(into []byte) (int, error) {
	n, err := s.Conn.Read(into)
	read, all := s.read.Add(int64(n)), s.of.streamed.Add(int64(n))
	if read > maxStream || all > maxStreamed {
		return 0, errTooMuch
	}
	return n, err
}

func (s *stream) Close() error {
	s.closed.Do(func() {
		s.of.streamed.Add(-s.read.Load())
		s.of.mu.Lock()
		delete(s.of.open, s)
		s.of.mu.Unlock()
	})
	return s.Conn.Close()
}

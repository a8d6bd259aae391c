// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// maxRead is how much of a reply is looked at, in bytes.
const maxRead = 64 << 10

// line opens connections to any endpoint. Immutable.
type line struct {
	source source
	proxy  Proxy
	tls    *tls.Config  // nil: plaintext
	files  *Credentials // nil without tls

	speaksFirst bool // the prober sends before it reads
}

// newLine validates what all TCP-based protocols share, and returns the line with the part of the
// key that describes it. host is a Host header; the name in it is verified. protocols is for ALPN
// (RFC 7301).
func newLine(port uint16, from netip.Addr, p Proxy, t *TLS, host string, protocols ...string) (*line, string, error) {
	own, err := newSource(from)
	if err = cmp.Or(checkHost(host), p.validate(), err); err != nil {
		return nil, "", err
	}
	l, encryption := &line{source: own, proxy: p, speaksFirst: p != NoProxy || t != nil}, "no"
	if t != nil {
		if l.tls, encryption, err = t.load(nameOf(host), protocols); err != nil {
			return nil, "", err
		}
		if l.files = t.Files; l.files == nil {
			l.files = new(Credentials)
		}
	}
	key := fmt.Sprintf("port=%d source=%s tls=%s", port, own, encryption)
	if p != NoProxy {
		key += fmt.Sprintf(" proxy=v%d", p)
	}
	return l, key, nil
}

// source is the local address to probe from, for endpoints of its family. For the others, and if it
// is zero, the kernel chooses.
type source netip.Addr

func newSource(addr netip.Addr) (source, error) {
	if addr.IsValid() && (addr.IsUnspecified() || addr.IsMulticast()) {
		return source{}, fmt.Errorf("source: %q: want a unicast address", addr)
	}
	return source(addr.Unmap()), nil
}

func (s source) String() string {
	if !netip.Addr(s).IsValid() {
		return "any"
	}
	return netip.Addr(s).String()
}

// toward returns the address to bind to for an endpoint, the zero address if the kernel chooses.
func (s source) toward(addr netip.Addr) netip.Addr {
	if own := netip.Addr(s); own.IsValid() && own.Is4() == addr.Is4() {
		return own
	}
	return netip.Addr{}
}

// towardPort is toward with port 0: the kernel chooses one.
func (s source) towardPort(addr netip.Addr) netip.AddrPort {
	if own := s.toward(addr); own.IsValid() {
		return netip.AddrPortFrom(own, 0)
	}
	return netip.AddrPort{}
}

// unkept dials without keep-alive, which saves system calls: no connection lives long enough to
// need it. speaking does so for a prober that has the first word, bound from a source address.
var (
	unkept   = net.Dialer{KeepAlive: -1}
	speaking = net.Dialer{KeepAlive: -1, Control: delayAck}
	bound    = net.Dialer{KeepAlive: -1, Control: bindLate}
)

// scheme returns the word for what the line speaks.
func (l *line) scheme(plain, encrypted string) string {
	if l.tls != nil {
		return encrypted
	}
	return plain
}

// talk opens a connection and asks over it. A timeout then says that the connection was made.
func (l *line) talk(ctx context.Context, endpoint netip.AddrPort, ask func(c *call) error) error {
	c, err := l.open(ctx, endpoint)
	if err != nil {
		return err
	}
	defer c.hangUp()
	if err := ask(c); err != nil {
		return &connected{err}
	}
	return nil
}

// connect opens a TCP connection. Without a source address, DialContext is better than DialTCP,
// which would bind the socket to a port that no other connection can share.
func (l *line) connect(ctx context.Context, endpoint netip.AddrPort) (*net.TCPConn, error) {
	var conn net.Conn
	var err error
	switch own := l.source.towardPort(endpoint.Addr()); {
	case own.IsValid():
		conn, err = bound.DialTCP(ctx, "tcp", own, endpoint)
	case l.speaksFirst:
		conn, err = speaking.DialContext(ctx, "tcp", endpoint.String())
	default:
		conn, err = unkept.DialContext(ctx, "tcp", endpoint.String())
	}
	if err != nil {
		return nil, &unmet{awaited: "connection", err: err}
	}
	return conn.(*net.TCPConn), nil
}

// call is an open connection whose reads and writes fail once its context ends.
type call struct {
	net.Conn // over TLS if the line says so
	tcp      *net.TCPConn
	unwatch  func() bool // ends that; false: the context has ended

	peerFirst bool // the peer will close the connection
}

// open connects, sends the header of the PROXY protocol and shakes hands. hangUp must be called on
// the result.
func (l *line) open(ctx context.Context, endpoint netip.AddrPort) (*call, error) {
	tcp, err := l.connect(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	c := &call{Conn: tcp, tcp: tcp, unwatch: expire(ctx, tcp)}
	if l.proxy != NoProxy {
		if _, err := io.WriteString(tcp, proxyHeaders[l.proxy]); err != nil {
			c.hangUp()
			return nil, err
		}
	}
	if l.tls == nil {
		return c, nil
	}
	secure := tls.Client(tcp, l.files.configured(l.tls))
	if err := secure.Handshake(); err != nil {
		c.hangUp()
		return nil, &connected{&unmet{awaited: "TLS handshake", err: err}}
	}
	c.Conn = secure
	return c, nil
}

// hangUp ends a call. Once its context has ended that is a reset: the peer has had its time.
func (c *call) hangUp() {
	if !c.unwatch() {
		abort(c.tcp)
		return
	}
	if secure, ok := c.Conn.(*tls.Conn); ok {
		_ = c.tcp.SetDeadline(time.Now().Add(linger))
		_ = secure.CloseWrite()
	}
	part(c.tcp, c.peerFirst)
}

const (
	linger  = 250 * time.Millisecond // that a peer may take to end its side
	maxLeft = 3 << 20                // bytes that are read of what it still sends
)

// connection is what part needs of a TCP connection.
type connection interface {
	io.Reader
	SetReadDeadline(t time.Time) error
	CloseWrite() error
	SetLinger(seconds int) error
	Close() error
}

var _ connection = (*net.TCPConn)(nil)

// part ends a connection as a client does that has nothing more to say: it says so, reads what is
// left, and closes when the peer does. A connection closed with data unread ends with a reset,
// which servers log as an error and some count against the client (RFC 9293, section 3.10.4).
//
// The side that closes first keeps the connection in TIME-WAIT for a minute. So the peer goes first
// if it will, and a process that probes very often resets the rest: with 15,000 connections in
// TIME-WAIT, opening one more took milliseconds of processor time.
func part(tcp connection, peerFirst bool) {
	if !peerFirst {
		if !closes.allow(time.Now()) {
			abort(tcp)
			return
		}
		_ = tcp.CloseWrite()
	}
	_ = tcp.SetReadDeadline(time.Now().Add(linger))
	n, err := io.Copy(io.Discard, io.LimitReader(tcp, maxLeft))
	if n == maxLeft || err != nil && peerFirst && !closes.allow(time.Now()) {
		abort(tcp)
		return
	}
	_ = tcp.Close()
}

// closes is how many connections this process closes before the peer does.
var closes = pacer{step: 10 * time.Millisecond, burst: time.Second}

// MayCloseFirst reports whether one more connection to a peer may be closed before the peer closes
// it, and counts it if so.
func MayCloseFirst() bool { return closes.allow(time.Now()) }

// pacer allows something once a step on average, and more at once up to a burst. Safe for
// concurrent use.
type pacer struct {
	step, burst time.Duration
	next        atomic.Int64 // when all that was allowed is paid for, in nanoseconds since 1970
}

func (p *pacer) allow(now time.Time) bool {
	for {
		next := p.next.Load()
		start := max(next, now.UnixNano())
		if start > now.Add(p.burst).UnixNano() {
			return false
		}
		if p.next.CompareAndSwap(next, start+int64(p.step)) {
			return true
		}
	}
}

// abort closes a connection with a reset (RFC 9293, section 3.10.5).
func abort(tcp connection) {
	_ = tcp.SetLinger(0)
	_ = tcp.Close()
}

var longAgo = time.Unix(1, 0)

// expire makes reads and writes fail once ctx ends. The result undoes it, and reports false if ctx
// has ended.
func expire(ctx context.Context, c interface{ SetDeadline(time.Time) error }) func() bool {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
}

// limited reads at most left bytes, then fails with its own error. io.LimitedReader would return
// io.EOF, as if the peer had closed.
type limited struct {
	io.Reader
	left int
	full error // what fails a read beyond the bound

	first []byte // the first bytes, at most maxQuoted: enough to describe the reply
	err   error  // the last one
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		l.err = l.full
		return 0, l.full
	}
	n, err := l.Reader.Read(p[:min(len(p), l.left)])
	l.left -= n
	l.first = append(l.first, p[:min(n, max(0, maxQuoted-len(l.first)))]...)
	if err != nil {
		l.err = err
	}
	return n, err
}

// portText returns the port of a check for its name.
func portText(port uint16) string {
	if port == 0 {
		return "srv"
	}
	return strconv.Itoa(int(port))
}

// checkPort validates the port of a check whose endpoints name none.
func checkPort(port uint16) error {
	if port == 0 {
		return fmt.Errorf("port: %q: want 1 to 65535", "0")
	}
	return nil
}

// checkHost validates what is sent as a Host header or its like. "" is fine.
func checkHost(host string) error {
	if !httpguts.ValidHostHeader(host) || strings.ContainsAny(host, "/@?# \t") {
		return fmt.Errorf("host: %q: want a name or an address, with a port if need be", host)
	}
	return nil
}

// nameOf returns the name in a Host header, without a port: "example.org:8443", "[::1]:443".
func nameOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

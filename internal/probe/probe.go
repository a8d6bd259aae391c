// SPDX-License-Identifier: Apache-2.0

// Package probe asks endpoints whether they are up: one probe, one verdict, no memory. Its callers
// decide when to probe, and what several verdicts in a row mean.
//
// A check is built once, from the struct of its protocol, and then probes any number of addresses:
//
//	check, err := probe.NewHTTP(probe.HTTP{Port: 8080, Path: "/healthz"})
//	err = check.Probe(ctx, netip.MustParseAddrPort("192.0.2.1:0")) // nil: up; 0: port 8080
//
// Protocols have a file each:
//
//	tcp.go    http.go    grpc.go    agent.go    over TCP, by way of line.go
//	dns.go    udp.go                            over UDP, by way of packet.go
//	icmp.go
//
// socket_linux.go has a cheaper connection for a tcp check that only connects, http2.go the HTTP/2
// that http and grpc share, proxy.go the PROXY protocol, tls.go and credentials.go encryption.
// reason.go puts failures into words; report.go has what an error or an endpoint says beside the
// verdict. A new protocol is a file with a struct of options, a constructor and a probe method.
//
// The peer is not trusted. In every protocol there is a bound on what is read of it, it cannot make
// a probe outlive its context by more than the quarter of a second that hangUp waits, and its text
// is escaped before it is repeated in an error.
package probe

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Prober is one protocol's way to probe. Implementations are safe for concurrent use.
type Prober interface {
	// Probe checks an endpoint once. Port 0 stands for the port of the check. A nil error means
	// that the endpoint is up. Otherwise the error says why it is not, in one line of at most 200
	// bytes of printable ASCII. It is no verdict if it is ErrLocal, ErrInconclusive or ErrNoSay, as
	// errors.Is tells. ctx carries the timeout: without a deadline a probe may last as long as the
	// peer likes. Nothing waits for ctx after Probe has returned, so the caller may use it for the
	// next probe.
	Probe(ctx context.Context, endpoint netip.AddrPort) error
}

// Check is a Prober with a name. Immutable once built, safe for concurrent use.
type Check struct {
	name, key string
	port      uint16   // of endpoints that name none; 0 if the protocol has no ports
	protocol  protocol // its errors are in the words of its libraries
}

// protocol probes an endpoint whose address is unmapped and whose port is known.
type protocol interface {
	probe(ctx context.Context, endpoint netip.AddrPort) error
}

// Name returns the check in a few words, for people and metric labels: "http:8080/healthz". Two
// checks can share a name.
func (c *Check) Name() string { return c.name }

// Key returns all options that may change a verdict, in one line of printable ASCII. Equal options
// have the same key in every process, different ones have different keys. Files count by name.
func (c *Check) Key() string { return c.key }

// Probe implements Prober.
func (c *Check) Probe(ctx context.Context, endpoint netip.AddrPort) error {
	return c.probeSince(ctx, time.Now(), endpoint)
}

// probeSince is Probe with its start, from which the timeout in the error is counted.
func (c *Check) probeSince(ctx context.Context, start time.Time, endpoint netip.AddrPort) error {
	return c.ask(ctx, start, endpoint, c.protocol.probe)
}

// ask calls a method of the protocol, and puts its error into an operator's words.
func (c *Check) ask(ctx context.Context, start time.Time, endpoint netip.AddrPort,
	method func(context.Context, netip.AddrPort) error,
) error {
	if ctx.Err() != nil {
		return explain(ctx, start, localFault("no time left"))
	}
	if !endpoint.Addr().IsValid() {
		return localFault("no address")
	}
	addr := endpoint.Addr().Unmap()
	err := method(ctx, netip.AddrPortFrom(addr, cmp.Or(endpoint.Port(), c.port)))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENETUNREACH) && !routed(addr):
		return localFault("this host has no route there")
	}
	return explain(ctx, start, err)
}

// routed reports whether this host has a route to an address. It sends nothing. Without a route,
// this host itself says "network unreachable", as a router on the way may.
func routed(addr netip.Addr) bool {
	const discard = 9 // RFC 863; nothing is sent to it
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, discard)))
	if err != nil {
		return !errors.Is(err, syscall.ENETUNREACH)
	}
	_ = conn.Close()
	return true
}

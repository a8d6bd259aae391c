// SPDX-License-Identifier: Apache-2.0

// Package probe asks endpoints whether they are up: one probe, one verdict, no memory. When to
// probe, and what a row of verdicts means, others decide.
//
// A check is built once, from the struct of its protocol, and then probes any number of addresses:
//
//	check, err := probe.NewHTTP(probe.HTTP{Port: 8080, Path: "/healthz"})
//	err = check.Probe(ctx, netip.MustParseAddrPort("192.0.2.1:0")) // nil: up; 0: port 8080
//
// tcp.go, http.go, grpc.go, dns.go and icmp.go hold a protocol each; line.go opens connections,
// tls.go reads certificates, reason.go puts failures into words. A new protocol is a file with a
// struct of options, a constructor and a probe method.
//
// The peer is not trusted. What is read of it has a bound in every protocol, it cannot make a
// probe outlive its context, and what it says is escaped before it is repeated in an error.
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
	// errors.Is tells. ctx carries the timeout: without a deadline a probe may
	// last as long as the peer likes. Nothing waits for ctx after Probe has returned, so the caller
	// may use it for the next probe.
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

// Key returns all that may change a verdict, in one line of printable ASCII: the same options give
// the same key in every process, others another one. Files count with their content.
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

// routed reports whether this host knows a way to an address, which takes no packet. Without it, what
// looks like a router's reply that a network is unreachable is this host's own.
func routed(addr netip.Addr) bool {
	const discard = 9 // RFC 863; nothing is sent to it
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, discard)))
	if err != nil {
		return !errors.Is(err, syscall.ENETUNREACH)
	}
	_ = conn.Close()
	return true
}

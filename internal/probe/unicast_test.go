// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// One probe is one packet to one host: not even an address that is allowed has a whole link answer.
func TestBroadcastIsNotProbed(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	everybody := netip.MustParseAddr("127.255.255.255")
	c := must(t)(NewDNS(DNS{Port: portOf(conn.LocalAddr())}))
	const want = "forbidden by a firewall on the way, or a broadcast address"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Probe(ctx, netip.AddrPortFrom(everybody, 0)); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if ping, ok := newICMP(t, ICMP{}); ok {
		if err := ping.Probe(ctx, netip.AddrPortFrom(everybody, 0)); err == nil || err.Error() != want {
			t.Errorf("ping: got %v, want %s", err, want)
		}
	}
	if raw, err := openRaw(t.Context(), &echoV4, netip.Addr{}, everybody); err == nil { // not everybody may open one
		raw.Close()
		t.Error("a raw socket for echo requests takes a broadcast address")
	}
	if err := conn.SetReadDeadline(time.Now()); err != nil { // on loopback, what was sent is here
		t.Fatal(err)
	}
	if _, from, err := conn.ReadFrom(make([]byte, 512)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet came from %v", from)
	}
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

const (
	maxPacket  = 4096 // bytes that are looked at of a datagram
	maxMisfits = 64   // datagrams that are ignored before a probe gives up
)

// unicast dials for datagrams. The kernel refuses broadcast addresses, so that a record cannot make
// every host of a link answer one probe.
var unicast = net.Dialer{KeepAlive: -1, Control: refuseBroadcast}

// exchange sends a datagram and judges what comes back until something fits. It returns how many
// replies did not.
func (s source) exchange(ctx context.Context, endpoint netip.AddrPort, query []byte,
	judge func(reply []byte) (fits bool, verdict error),
) (misfits int, err error) {
	// A connected socket takes packets of the endpoint only, and hears that its port is closed.
	conn, err := unicast.DialUDP(ctx, "udp", s.towardPort(endpoint.Addr()), endpoint)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	defer expire(ctx, conn)()
	if _, err := conn.Write(query); err != nil {
		return 0, err
	}
	packet := make([]byte, maxPacket)
	for misfits < maxMisfits {
		n, err := conn.Read(packet)
		if err != nil {
			return misfits, err
		}
		if fits, verdict := judge(packet[:n]); fits {
			return misfits, verdict
		}
		misfits++
	}
	return misfits, errMisfits
}

var errMisfits = errors.New("too many replies")

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// UDP is up if one of the datagrams that come back for Send holds Receive. One datagram is sent, so
// a lost one is a failure. An ICMP message that nobody listens is a failure at once.
type UDP struct {
	Port    uint16     // 0: endpoints name theirs
	Send    string     // at most 1200 bytes
	Receive string     // awaited in the first 4 KiB of a datagram
	Source  netip.Addr // to probe from, for endpoints of its family; zero for any
}

// maxSend is how long a datagram may be to reach every host in one piece, in bytes.
const maxSend = 1200

type udpProbe struct {
	source        source
	send, receive []byte
}

// NewUDP builds the check. It fails on options that make no sense.
func NewUDP(o UDP) (*Check, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	from, err := newSource(o.Source)
	if err != nil {
		return nil, err
	}
	return &Check{
		name:     "udp:" + portText(o.Port),
		key:      fmt.Sprintf("udp port=%d source=%s send=%+q receive=%+q", o.Port, from, o.Send, o.Receive),
		port:     o.Port,
		protocol: &udpProbe{source: from, send: []byte(o.Send), receive: []byte(o.Receive)},
	}, nil
}

func (o UDP) validate() error {
	switch {
	case o.Send == "":
		return errors.New("send: nothing: want a text, because without one a datagram has no answer")
	case o.Receive == "":
		return errors.New("receive: nothing: want a text, because an open port is silent and so is a closed one behind a firewall")
	case len(o.Send) > maxSend:
		return fmt.Errorf("send: text of %d bytes: want at most %d", len(o.Send), maxSend)
	case len(o.Receive) > maxPacket:
		return fmt.Errorf("receive: text of %d bytes: want at most %d", len(o.Receive), maxPacket)
	}
	return nil
}

func (p *udpProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	var first []byte
	misfits, err := p.source.exchange(ctx, endpoint, p.send, func(reply []byte) (fits bool, verdict error) {
		if bytes.Contains(reply, p.receive) {
			return true, nil
		}
		if first == nil {
			first = slices.Clone(reply[:min(len(reply), 4*maxQuoted)])
		}
		return false, nil
	})
	if err == nil {
		return nil
	}
	u := &unmet{awaited: quote(p.receive), err: err}
	if misfits > 0 {
		u.seen = "got " + quote(first)
	}
	return u
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// TCP is up if a connection can be opened, over TLS if asked for, and Receive comes. With TLS 1.3 a
// server says only after the handshake that it refuses a client certificate, which is noticed only
// if Receive is set.
type TCP struct {
	Port    uint16     // 0: endpoints name theirs
	Send    string     // written first; "" for nothing
	Receive string     // awaited in the first 64 KiB of what the peer sends; "" for nothing
	Host    string     // the name to verify; only with TLS, which needs it unless insecure
	Proxy   Proxy      // header to begin with
	TLS     *TLS       // nil: plaintext
	Source  netip.Addr // to probe from, for endpoints of its family; zero for any
}

type tcpProbe struct {
	*line
	send, receive []byte
}

// NewTCP builds the check. It fails on options that make no sense and on unreadable files.
func NewTCP(o TCP) (*Check, error) {
	if len(o.Receive) > maxRead {
		return nil, fmt.Errorf("receive: text of %d bytes: want at most %d", len(o.Receive), maxRead)
	}
	if o.Host != "" && o.TLS == nil {
		return nil, fmt.Errorf("host: %q without TLS: want tls or no host", o.Host)
	}
	l, key, err := newLine(o.Port, o.Source, o.Proxy, o.TLS, o.Host)
	if err != nil {
		return nil, err
	}
	l.speaksFirst = l.speaksFirst || o.Send != ""
	return &Check{
		name:     l.scheme("tcp", "tcp+tls") + ":" + portText(o.Port),
		key:      fmt.Sprintf("tcp %s send=%+q receive=%+q", key, o.Send, o.Receive),
		port:     o.Port,
		protocol: &tcpProbe{line: l, send: []byte(o.Send), receive: []byte(o.Receive)},
	}, nil
}

func (p *tcpProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	if p.tls == nil && p.proxy == NoProxy && len(p.send) == 0 && len(p.receive) == 0 {
		return p.knock(ctx, endpoint)
	}
	return p.talk(ctx, endpoint, func(c *call) error {
		if len(p.send) > 0 { // over TLS, nothing would be sent as an empty record
			if _, err := c.Write(p.send); err != nil {
				return err
			}
		}
		return await(c, p.receive)
	})
}

// knock is the cheapest probe: a connection and nothing else.
func (p *tcpProbe) knock(ctx context.Context, endpoint netip.AddrPort) error {
	tcp, err := p.dialSocket(ctx, endpoint)
	if err != nil {
		return err
	}
	part(tcp, false)
	return nil
}

// await reads until text has come.
func await(r io.Reader, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	got := make([]byte, 0, 512)
	for len(got) < maxRead {
		if len(got) == cap(got) {
			got = append(make([]byte, 0, 4*cap(got)), got...)
		}
		n, err := r.Read(got[len(got):min(cap(got), maxRead)])
		fresh := max(0, len(got)-len(text)+1) // the text may straddle two reads
		got = got[:len(got)+n]
		if bytes.Contains(got[fresh:], text) {
			return nil
		}
		if err != nil {
			return lacking(text, got, err)
		}
	}
	return lacking(text, got, errAbsent)
}

var errAbsent = errors.New("not in the first 64 KiB")

func lacking(text, got []byte, err error) error {
	u := &unmet{awaited: quote(text), err: err}
	if len(got) > 0 {
		u.seen = "got " + quote(got)
	}
	return u
}

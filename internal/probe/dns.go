// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/miekg/dns"
)

// DNS is up if a query over UDP (RFC 1035) is answered: without a Name by any reply, whatever its
// rcode; with a Name by NOERROR. One packet is sent, so a lost one is a failure. A truncated reply
// counts as a complete one. Replies with another ID or question are ignored, up to a bound.
type DNS struct {
	Port   uint16     // 1 to 65535
	Name   string     // to query; "" queries the name servers of the root
	Type   uint16     // to query; default A; only with Name
	Source netip.Addr // to probe from, for endpoints of its family; zero for any
}

type dnsProbe struct {
	source source
	wire   []byte // the query, without an ID
	named  bool
}

// NewDNS builds the check. It fails on options that make no sense.
func NewDNS(o DNS) (*Check, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	from, err := newSource(o.Source)
	if err != nil {
		return nil, err
	}
	query := new(dns.Msg)
	query.SetQuestion(".", dns.TypeNS)
	name := fmt.Sprintf("dns:%d", o.Port)
	if o.Name != "" {
		query.SetQuestion(dns.CanonicalName(o.Name), max(o.Type, dns.TypeA))
	}
	wire, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("name: %q: %w", o.Name, err)
	}
	if o.Name != "" {
		// With \DDD for what cannot be printed.
		text, _, err := dns.UnpackDomainName(wire, headerSize)
		if err != nil {
			return nil, fmt.Errorf("name: %q: %w", o.Name, err)
		}
		name += "/" + text + "/" + typeText(query.Question[0].Qtype)
	}
	return &Check{
		name:     name,
		key:      fmt.Sprintf("dns port=%d source=%s question=%x named=%t", o.Port, from, wire[2:], o.Name != ""),
		port:     o.Port,
		protocol: &dnsProbe{source: from, wire: wire, named: o.Name != ""},
	}, nil
}

func (o DNS) validate() error {
	if err := checkPort(o.Port); err != nil {
		return err
	}
	if o.Name == "" && o.Type != 0 {
		return fmt.Errorf("type: %q without a name: want both or neither", typeText(o.Type))
	}
	if _, ok := dns.IsDomainName(o.Name); o.Name != "" && !ok {
		return fmt.Errorf("name: %q: want a domain name", o.Name)
	}
	if o.Type == dns.TypeOPT || o.Type >= dns.TypeTKEY && o.Type <= dns.TypeANY {
		return fmt.Errorf("type: %q: want a type of data", typeText(o.Type))
	}
	return nil
}

func typeText(t uint16) string { return dns.Type(t).String() }

func (p *dnsProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	id := dns.Id()
	query := slices.Clone(p.wire)
	binary.BigEndian.PutUint16(query, id)
	misfits, err := p.source.exchange(ctx, endpoint, query, func(reply []byte) (fits bool, verdict error) {
		if !p.fits(reply, id) {
			return false, nil
		}
		return true, p.judge(reply)
	})
	if err != nil && misfits > 0 {
		return &unmet{awaited: "answer", seen: ignoredText(misfits), err: err}
	}
	return err
}

// ignoredText does not count: an error should not differ from probe to probe.
func ignoredText(n int) string {
	if n == 1 {
		return "ignored a reply that does not fit the query"
	}
	return "ignored replies that do not fit the query"
}

const headerSize = 12 // bytes of a DNS message in front of the question

// fits reports whether a packet answers the query with an ID. It looks at the header and the
// question only, so that a flood of packets costs little.
func (p *dnsProbe) fits(packet []byte, id uint16) bool {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet) != id {
		return false
	}
	const responseAndOpcode, response = 0xf8, 0x80 // a response to a QUERY
	if packet[2]&responseAndOpcode != response {
		return false
	}
	switch questions := binary.BigEndian.Uint16(packet[4:]); questions {
	case 0: // some servers leave the question out of an error
		return packet[3]&0x0f != dns.RcodeSuccess
	case 1:
		return sameQuestion(packet[headerSize:], p.wire[headerSize:])
	}
	return false
}

// sameQuestion reports whether a message begins with a question, apart from the case of its name. A
// length in front of a label is never a letter, so names can be compared as a whole.
func sameQuestion(message, question []byte) bool {
	const typeAndClass = 4
	if len(message) < len(question) {
		return false
	}
	name := len(question) - typeAndClass
	for i, c := range question[:name] {
		if c != message[i] && c != lower(message[i]) {
			return false
		}
	}
	return bytes.Equal(message[name:len(question)], question[name:])
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// judge says what is wrong with a reply that fits.
func (p *dnsProbe) judge(packet []byte) error {
	var m dns.Msg
	// A truncated packet may end within a record.
	if err := m.Unpack(packet); err != nil && !m.Truncated {
		return reason("malformed reply")
	}
	if p.named && m.Rcode != dns.RcodeSuccess {
		return reason(fmt.Sprintf("rcode %s, want NOERROR", rcodeText(m.Rcode)))
	}
	return nil
}

func rcodeText(rcode int) string {
	if text, ok := dns.RcodeToString[rcode]; ok {
		return text
	}
	return strconv.Itoa(rcode)
}

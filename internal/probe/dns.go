// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// DNS is up where a query over UDP (RFC 1035) is answered: without a Name by any reply, whatever
// its rcode, with one by NOERROR. One packet is sent; a lost one is a failure. A truncated reply
// counts as a whole one. Replies with another ID or question are not looked at.
type DNS struct {
	Port   uint16     // 1 to 65535
	Name   string     // to ask for; "" asks for the name servers of the root
	Type   uint16     // of the records to ask for; default A; only with Name
	Source netip.Addr // to probe from, for endpoints of its family; zero for any
}

type dnsProbe struct {
	source   source
	question dns.Question
	wire     []byte // the query but for its ID
	named    bool
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
		const header = 12                                  // bytes, in front of the question
		text, _, err := dns.UnpackDomainName(wire, header) // with \DDD for what cannot be printed
		if err != nil {
			return nil, fmt.Errorf("name: %q: %w", o.Name, err)
		}
		name += "/" + text + "/" + typeText(query.Question[0].Qtype)
	}
	return &Check{
		name: name,
		key:  fmt.Sprintf("dns port=%d source=%s question=%x named=%t", o.Port, from, wire[2:], o.Name != ""),
		port: o.Port,
		protocol: &dnsProbe{
			source: from, question: query.Question[0], wire: wire, named: o.Name != "",
		},
	}, nil
}

func (o DNS) validate() error {
	if err := checkPort(o.Port); err != nil {
		return err
	}
	if o.Name == "" && o.Type != 0 {
		return fmt.Errorf("type: %q without a name, want both or neither", typeText(o.Type))
	}
	if _, ok := dns.IsDomainName(o.Name); o.Name != "" && !ok {
		return fmt.Errorf("name: %q, want a domain name", o.Name)
	}
	if o.Type == dns.TypeOPT || o.Type >= dns.TypeTKEY && o.Type <= dns.TypeANY {
		return fmt.Errorf("type: %q, want a type of data", typeText(o.Type))
	}
	return nil
}

func typeText(t uint16) string { return dns.Type(t).String() }

func (p *dnsProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	// A connected socket takes packets of the endpoint only, and hears that its port is closed.
	conn, err := unicast.DialUDP(ctx, "udp", p.source.towardPort(endpoint.Addr()), endpoint)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	defer expire(ctx, conn)()

	id := dns.Id()
	query := slices.Clone(p.wire)
	binary.BigEndian.PutUint16(query, id)
	if _, err := conn.Write(query); err != nil {
		return err
	}
	return p.listen(conn, id)
}

// maxPacket is more than a server may send: the query announces no larger size than the 512 bytes
// of RFC 1035, section 4.2.1.
const maxPacket = 4096

// listen waits for the reply that fits.
func (p *dnsProbe) listen(conn net.Conn, id uint16) error {
	packet := make([]byte, maxPacket)
	for ignored := 0; ; ignored++ {
		n, err := conn.Read(packet)
		if err != nil && ignored > 0 {
			return &unmet{awaited: "answer", seen: ignoredText(ignored), err: err}
		}
		if err != nil {
			return err
		}
		if fits, verdict := p.judge(packet[:n], id); fits {
			return verdict
		}
	}
}

// ignoredText tells few from many only: an error should not differ from probe to probe.
func ignoredText(n int) string {
	if n == 1 {
		return "ignored a reply that does not fit the query"
	}
	return "ignored replies that do not fit the query"
}

// judge tells whether a packet answers the query with an ID, and how.
func (p *dnsProbe) judge(packet []byte, id uint16) (fits bool, verdict error) {
	var m dns.Msg
	err := m.Unpack(packet)
	if err != nil && !m.Truncated {
		return false, nil // a truncated packet may end within a record
	}
	if m.Id != id || !m.Response || m.Opcode != dns.OpcodeQuery || !p.sameQuestion(&m) {
		return false, nil
	}
	if p.named && m.Rcode != dns.RcodeSuccess {
		return true, reason(fmt.Sprintf("rcode %s, want NOERROR", rcodeText(m.Rcode)))
	}
	return true, nil
}

// sameQuestion also takes an error without a question, which is how some servers say REFUSED.
func (p *dnsProbe) sameQuestion(m *dns.Msg) bool {
	if len(m.Question) == 0 {
		return m.Rcode != dns.RcodeSuccess
	}
	q := m.Question[0]
	return len(m.Question) == 1 && q.Qtype == p.question.Qtype && q.Qclass == p.question.Qclass &&
		strings.EqualFold(q.Name, p.question.Name)
}

func rcodeText(rcode int) string {
	if text, ok := dns.RcodeToString[rcode]; ok {
		return text
	}
	return strconv.Itoa(rcode)
}

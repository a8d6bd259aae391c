// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// quirk is how the upstream misbehaves.
type quirk struct {
	name string
	gone bool // nobody listens
	// reply returns the packet to send in place of the right reply, nil for none.
	reply func(q *dns.Msg, right *dns.Msg, network string) []byte
	cut   bool // replies may be truncated
	// Replies may lack the additional section: CoreDNS passes on what it can read of half a packet.
	bare bool
}

// quirks are the misbehaviours, for faults to choose from.
var quirks = []*quirk{
	{name: "gone", gone: true},
	{name: "silent", reply: func(_, _ *dns.Msg, _ string) []byte { return nil }},
	{name: "random bytes", reply: func(_, _ *dns.Msg, _ string) []byte { return noise(rand.Uint64(), 200) }}, //nolint:gosec // no secret
	{name: "random bytes behind the right id", reply: func(q, _ *dns.Msg, _ string) []byte {
		return append(binary.BigEndian.AppendUint16(nil, q.Id), noise(rand.Uint64(), 100)...) //nolint:gosec // no secret
	}},
	{name: "another id", reply: func(_, right *dns.Msg, _ string) []byte { right.Id++; return packed(right) }},
	{name: "another question", reply: func(_, right *dns.Msg, _ string) []byte {
		right.Question[0].Name = "other.test."
		return packed(right)
	}},
	{name: "no question", reply: func(_, right *dns.Msg, _ string) []byte { right.Question = nil; return packed(right) }},
	{name: "half a packet", cut: true, bare: true, reply: func(_, right *dns.Msg, _ string) []byte { p := packed(right); return p[:len(p)/2] }},
	{name: "truncated, over TCP too", cut: true, reply: func(_, right *dns.Msg, _ string) []byte {
		right.Truncated, right.Answer = true, right.Answer[:len(right.Answer)/2]
		return packed(right)
	}},
	{name: "truncated over UDP", cut: true, reply: func(_, right *dns.Msg, network string) []byte {
		if network == "udp" {
			right.Truncated, right.Answer = true, nil
		}
		return packed(right)
	}},
	{name: "compression loop", reply: func(q, _ *dns.Msg, _ string) []byte { return loop(q) }},
	{name: "a query in return", reply: func(q, _ *dns.Msg, _ string) []byte { return packed(q) }},
	{name: "SERVFAIL", reply: func(_, right *dns.Msg, _ string) []byte {
		right.Rcode, right.Answer = dns.RcodeServerFailure, nil
		return packed(right)
	}},
	{name: "REFUSED", reply: func(_, right *dns.Msg, _ string) []byte {
		right.Rcode, right.Answer = dns.RcodeRefused, nil
		return packed(right)
	}},
	{name: "every record twice", reply: func(_, right *dns.Msg, _ string) []byte {
		right.Answer = append(right.Answer, right.Answer...)
		return packed(right)
	}},
	{name: "no additional section", bare: true, reply: func(_, right *dns.Msg, _ string) []byte { right.Extra = nil; return packed(right) }},
	{name: "half of the packets lost", reply: func(_, right *dns.Msg, _ string) []byte {
		if rand.N(2) == 0 { //nolint:gosec // no secret
			return nil
		}
		return packed(right)
	}},
}

func packed(m *dns.Msg) []byte {
	p, _ := m.Pack() //nolint:errcheck // nothing is sent then
	return p
}

// loop returns a reply whose answer's owner is a pointer to itself.
func loop(q *dns.Msg) []byte {
	reply := new(dns.Msg).SetReply(q)
	p := packed(reply)
	binary.BigEndian.PutUint16(p[6:], 1) // one answer
	at := uint16(len(p))
	p = binary.BigEndian.AppendUint16(p, 0xc000|at)
	return append(p, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
}

// noise returns random bytes.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// upstream is the name server that forward asks. It shuffles its answers. Its methods are called by
// one goroutine.
type upstream struct {
	sets  map[string]*rrset     // by setKey
	names map[string]bool       // that exist, lower case
	quirk atomic.Pointer[quirk] // nil: none
	end   func()
}

// upstreamTTL is the TTL of what it answers, in seconds.
const upstreamTTL = 60

// become changes how the upstream misbehaves; nil: not at all.
func (u *upstream) become(q *quirk) error {
	u.quirk.Store(q)
	u.stop()
	if q != nil && q.gone {
		return nil
	}
	return u.listen()
}

func (u *upstream) stop() {
	if u.end != nil {
		u.end()
	}
	u.end = nil
}

func (u *upstream) listen() error {
	packets, err := net.ListenPacket("udp", forwardAddress)
	if err != nil {
		return err
	}
	streams, err := net.Listen("tcp", forwardAddress)
	if err != nil {
		return errors.Join(err, packets.Close())
	}
	conns := newConnections()
	var wg sync.WaitGroup
	wg.Go(func() { u.serveUDP(packets) })
	wg.Go(func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			if conns.add(c) {
				wg.Go(func() { u.serveTCP(c); conns.remove(c) })
			}
		}
	})
	u.end = func() {
		packets.Close() //nolint:errcheck,gosec // listens no more
		streams.Close() //nolint:errcheck,gosec // listens no more
		conns.closeAll()
		wg.Wait()
	}
	return nil
}

func (u *upstream) serveUDP(p net.PacketConn) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := p.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if reply := u.answer(buf[:n], "udp"); reply != nil {
			p.WriteTo(reply, from) //nolint:errcheck,gosec // the peer may be gone
		}
	}
}

func (u *upstream) serveTCP(c net.Conn) {
	for {
		if c.SetDeadline(time.Now().Add(patience)) != nil {
			return
		}
		var length uint16
		if binary.Read(c, binary.BigEndian, &length) != nil {
			return
		}
		packet := make([]byte, length)
		if _, err := io.ReadFull(c, packet); err != nil {
			return
		}
		if reply := u.answer(packet, "tcp"); reply != nil {
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)) //nolint:errcheck,gosec // the peer may be gone
		}
	}
}

// answer returns the packet to send for a query: the right reply, or what the quirk makes of it.
func (u *upstream) answer(packet []byte, network string) []byte {
	q := new(dns.Msg)
	if q.Unpack(packet) != nil || len(q.Question) != 1 || q.Response {
		return nil
	}
	right := u.right(q)
	if quirk := u.quirk.Load(); quirk != nil && quirk.reply != nil {
		return quirk.reply(q, right, network)
	}
	return packed(right)
}

// right returns the right reply.
func (u *upstream) right(q *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(q)
	reply.RecursionAvailable = true
	name, qtype := q.Question[0].Name, q.Question[0].Qtype
	lower := strings.ToLower(name)
	set, known := u.sets[setKey(lower, qtype)], u.names[lower] || lower == "."
	if label, ok := strings.CutSuffix(lower, floodZone); ok {
		known = true
		if qtype == dns.TypeA {
			set = floodSet(label)
		}
	}
	if !known {
		reply.Rcode = dns.RcodeNameError
	}
	if set != nil {
		shuffled := slices.Clone(set.members)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] }) //nolint:gosec // no secret
		reply.Answer, reply.Extra = set.records(name, shuffled, upstreamTTL)
	}
	return reply
}

// floodZone is a zone in which every name exists and has some addresses of its own.
const floodZone = ".flood.up.test."

// floodSet returns the RRset of a name in the flood zone.
func floodSet(label string) *rrset {
	set := &rrset{qtype: dns.TypeA}
	for i := range 2 + len(label)%4 {
		set.members = append(set.members, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	return set
}

// setKey is a name, lower case, and a type.
func setKey(name string, qtype uint16) string { return name + "/" + dns.Type(qtype).String() }

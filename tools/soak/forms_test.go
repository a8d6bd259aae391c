// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"crypto"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Answers with names or hints, signed ones and those of a rule that only observes are judged too.
// Each of these answers except the first of a type is wrong, and the judge has to say how.
func TestJudgeOfForms(t *testing.T) {
	members := someAddrs("192.0.2.1")[:4]
	dead, up := newTimeline(refusing), newTimeline(healthy)
	pooled := func(qtype uint16) *rrset {
		return &rrset{name: "www.test.", qtype: qtype, members: members, ttl: 30, lacking: 5, glueTTL: 300, health: map[netip.Addr]*timeline[health]{
			members[0]: dead, members[1]: dead, members[2]: up, members[3]: up}}
	}
	key := &dns.DNSKEY{Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}, Flags: dns.ZONE, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	srv, mx, https := pooled(dns.TypeSRV).led("www.test.", 1), pooled(dns.TypeMX).led("www.test.", 2), pooled(dns.TypeHTTPS)
	signed, observed := pooled(dns.TypeA), pooled(dns.TypeSRV).led("www.test.", 1)
	signed.key, observed.exact, observed.ttl, observed.lacking = key, true, 300, 0
	good := map[*rrset][]netip.Addr{srv: {members[2], members[3]}, mx: {members[2]}, https: {members[2], members[3]},
		signed: {members[3], members[2], members[0], members[1]}, observed: members}
	tests := []struct {
		name   string
		set    *rrset
		change func(m *dns.Msg)
		wrong  string
	}{
		{"SRV", srv, func(*dns.Msg) {}, ""},
		{"a dead target", srv, func(m *dns.Msg) { add(m, srv, members[0]) }, "192.0.2.1, which is down, is in"},
		{"a target is missing", srv, func(m *dns.Msg) { m.Answer, m.Extra = m.Answer[:1], m.Extra[:1] }, "192.0.2.4, which is up, is missing"},
		{"no glue", srv, func(m *dns.Msg) { m.Extra = m.Extra[:1] }, "glue of d.www.test.: no members"},
		{"glue of a dead target", srv, func(m *dns.Msg) { m.Extra = append(m.Extra, addressRecord("a.www.test.", members[0], 5)) }, "no member leads to a.www.test."},
		{"glue of another target", srv, func(m *dns.Msg) { m.Extra[0] = addressRecord("c.www.test.", members[3], 5) }, "glue of c.www.test.: 192.0.2.4 is no member"},
		{"another port", srv, func(m *dns.Msg) { m.Answer[0].(*dns.SRV).Port++ }, "10 1 8444 c.www.test."},
		{"another target", srv, func(m *dns.Msg) { m.Answer[0].(*dns.SRV).Target = "x.www.test." }, "x.www.test. is no member"},
		{"MX", mx, func(*dns.Msg) {}, ""},
		{"TTL of a full answer", mx, func(m *dns.Msg) { m.Answer[0].Header().Ttl = 30 }, "TTL is 30 while"},
		{"half of the glue", mx, func(m *dns.Msg) { m.Extra = m.Extra[1:] }, "glue of b.www.test.: 192.0.2.3, which is up, is missing"},
		{"HTTPS", https, func(*dns.Msg) {}, ""},
		{"a dead hint", https, func(m *dns.Msg) {
			m.Answer[0] = httpsRecord(*m.Answer[0].Header(), members[1:])
		}, "192.0.2.2, which is down, is in"},
		{"no hints", https, func(m *dns.Msg) { m.Answer[0] = httpsRecord(*m.Answer[0].Header(), nil) }, "no hints"},
		{"without alpn", https, func(m *dns.Msg) { m.Answer[0].(*dns.HTTPS).Value = m.Answer[0].(*dns.HTTPS).Value[1:] }, "record is"},
		{"signed", signed, func(*dns.Msg) {}, ""},
		{"a signed member is missing", signed, func(m *dns.Msg) { m.Answer = slices.Delete(m.Answer, 2, 3) }, "because they are signed"},
		{"a dead one ahead", signed, func(m *dns.Msg) { m.Answer[1], m.Answer[2] = m.Answer[2], m.Answer[1] }, "192.0.2.1 is ahead of 192.0.2.3, which is up"},
		{"without signature", signed, func(m *dns.Msg) { m.Answer = m.Answer[:4] }, "0 signatures"},
		{"another signature", signed, func(m *dns.Msg) { m.Answer[4].(*dns.RRSIG).Signature = "AAAA" }, "does not fit"},
		{"TTL of the signature", signed, func(m *dns.Msg) { m.Answer[4].Header().Ttl = 4 }, "TTL of the signature is 4"},
		{"TTL of a signed answer", signed, func(m *dns.Msg) {
			for _, rr := range m.Answer {
				rr.Header().Ttl = 30
			}
		}, "TTL is 30 while a member is down"},
		{"observed", observed, func(*dns.Msg) {}, ""},
		{"a member left", observed, func(m *dns.Msg) { m.Answer = m.Answer[1:] }, "192.0.2.1, which is up, is missing"},
		{"a lower TTL", observed, func(m *dns.Msg) {
			for _, rr := range m.Answer {
				rr.Header().Ttl = 30
			}
		}, "want 300, because the rule only observes"},
		{"a lower TTL of glue", observed, func(m *dns.Msg) { m.Extra[2].Header().Ttl = 30 }, "glue of c.www.test.: TTL is 30, want 300"},
	}
	calm := &reality{newTimeline(false), newTimeline(false), newTimeline[*quirk](nil), func() time.Duration { return 0 }}
	for _, tc := range tests {
		q := new(dns.Msg).SetQuestion("www.test.", tc.set.qtype)
		reply := new(dns.Msg).SetReply(q)
		ttl := uint32(5)
		if tc.set.exact {
			ttl = 300
		}
		reply.Answer, reply.Extra = tc.set.records("www.test.", good[tc.set], ttl)
		if tc.set.key != nil {
			reply.Answer = append(reply.Answer, signatureOf(t, key, private.(crypto.Signer), reply.Answer))
		}
		tc.change(reply)
		wrong, _ := calm.judge(tc.set, q, reply, time.Now().Add(time.Hour), time.Now().Add(time.Hour))
		if !strings.Contains(wrong, tc.wrong) || (wrong == "") != (tc.wrong == "") {
			t.Errorf("%s: %q, want %q", tc.name, wrong, tc.wrong)
		}
	}
}

// add adds a member to an answer, with its glue.
func add(m *dns.Msg, set *rrset, member netip.Addr) {
	answer, extra := set.records("www.test.", []netip.Addr{member}, 5)
	m.Answer, m.Extra = append(m.Answer, answer...), append(m.Extra, extra...)
}

func signatureOf(t *testing.T, key *dns.DNSKEY, private crypto.Signer, rrs []dns.RR) *dns.RRSIG {
	t.Helper()
	sig := &dns.RRSIG{Hdr: dns.RR_Header{Ttl: 5}, Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(time.Hour).Unix()),
		KeyTag: key.KeyTag(), SignerName: key.Hdr.Name, Algorithm: key.Algorithm}
	if err := sig.Sign(private, rrs); err != nil {
		t.Fatal(err)
	}
	sig.Hdr.Ttl = rrs[0].Header().Ttl
	return sig
}

// A target is down if all its addresses are.
func TestExpectationOfTargets(t *testing.T) {
	a := someAddrs("192.0.2.1")[:2]
	for _, tc := range []struct {
		first, second health
		want          expectation
	}{{healthy, refusing, mustAnswer}, {refusing, refusing, mustNot}, {murky, refusing, either}, {murky, healthy, mustAnswer}} {
		set := (&rrset{members: a, health: map[netip.Addr]*timeline[health]{a[0]: newTimeline(tc.first), a[1]: newTimeline(tc.second)}}).led("x.", 2)
		if now := time.Now(); set.expectedOf(a[0], now, now, 0) != tc.want {
			t.Errorf("%d and %d: %d, want %d", tc.first, tc.second, set.expectedOf(a[0], now, now, 0), tc.want)
		}
	}
}

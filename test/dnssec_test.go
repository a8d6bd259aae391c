// SPDX-License-Identifier: Apache-2.0

package test

import (
	"crypto/ecdsa"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// signingKey makes a key for example.org and writes it the way dnssec-keygen does.
func signingKey(t *testing.T) (*dns.DNSKEY, string) { return signingKeyOf(t, "example.org.") }

// signingKeyOf makes a key for a zone and writes it.
func signingKeyOf(t *testing.T, origin string) (*dns.DNSKEY, string) {
	t.Helper()
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: origin, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), fmt.Sprintf("K%s+013+%05d", origin, key.KeyTag()))
	for ext, content := range map[string]string{
		".key":     key.String() + "\n",
		".private": key.PrivateKeyString(private.(*ecdsa.PrivateKey)),
	} {
		if err := os.WriteFile(base+ext, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key, base
}

// verify checks the signatures of an answer's RRsets and returns how many there are.
func verify(t *testing.T, key *dns.DNSKEY, reply *dns.Msg) (n int) {
	t.Helper()
	for _, record := range reply.Answer {
		sig, ok := record.(*dns.RRSIG)
		if !ok {
			continue
		}
		var set []dns.RR
		for _, rr := range reply.Answer {
			if rr.Header().Rrtype == sig.TypeCovered && rr.Header().Name == sig.Hdr.Name {
				set = append(set, rr)
				if rr.Header().Ttl != sig.Hdr.Ttl {
					t.Errorf("%s has another TTL than its signature, %d", rr, sig.Hdr.Ttl)
				}
			}
		}
		if err := sig.Verify(key, set); err != nil || !sig.ValidityPeriod(time.Now()) {
			t.Errorf("signature does not verify (%v): %v", err, reply)
		}
		n++
	}
	return n
}

func TestSignaturesVerifyOverBalancedAnswers(t *testing.T) {
	key, base := signingKey(t)
	db := zone(t, "example.org.", threeAs+"alias IN CNAME www\n@ IN MX 10 a\n@ IN MX 10 b\n")
	sign := "dnssec {\n key file " + base + "\n }"
	tests := []struct {
		name, stanza string
		ttl          uint32 // 0: as it came
	}{
		{"plain", "", 0},
		{"ttl", "ttl 7", 7},
		{"random", "policy random", 0},
		{"answers", "answers 1\nttl 7", 7}, // sealed: no member may go
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, block("balance {\n"+tc.stanza+"\n}", "cache", sign, "file "+db))
			c := dial(t, "udp", s.udp(), "")
			for _, q := range []*dns.Msg{
				query("www.example.org.", dns.TypeA), query("alias.example.org.", dns.TypeA), query("example.org.", dns.TypeMX),
			} {
				lead := leads{}
				for range 12 {
					q := q.Copy().SetEdns0(4096, true)
					q.Id = dns.Id()
					reply := c.Ask(q)
					if n := verify(t, key, reply); n == 0 {
						t.Fatalf("no signature in %v", reply)
					}
					if tc.ttl > 0 && !slices.ContainsFunc(reply.Answer, func(rr dns.RR) bool { return rr.Header().Ttl == tc.ttl }) {
						t.Errorf("no TTL of %d in %v", tc.ttl, reply)
					}
					lead.add(reply, q.Question[0].Qtype)
					if got := len(members(reply, q.Question[0].Qtype)); q.Question[0].Qtype == dns.TypeA && got != 3 {
						t.Fatalf("%d members, want 3 under a signature: %v", got, reply)
					}
				}
				if tc.name != "random" {
					lead.even(t, len(lead), 0)
				}
				if len(lead) < 2 {
					t.Errorf("leads are %v, want all members to lead", lead)
				}
			}
		})
	}
}

// The signer's answer without signatures, to a client that did not ask for them, is not sealed.
func TestUnsignedAnswersOfASignedZoneAreCut(t *testing.T) {
	_, base := signingKey(t)
	s := start(t, block("balance {\n answers 1\n }", "cache", "dnssec {\n key file "+base+"\n }", "file "+zone(t, "example.org.", threeAs)))
	signed := dial(t, "udp", s.udp(), "").Ask(query("www.example.org.", dns.TypeA).SetEdns0(4096, true))
	plain := ask(t, s.udp(), "www.example.org.", dns.TypeA)
	if len(members(signed, dns.TypeA)) != 3 || len(members(plain, dns.TypeA)) != 1 {
		t.Errorf("%d members signed and %d unsigned, want 3 and 1", len(members(signed, dns.TypeA)), len(members(plain, dns.TypeA)))
	}
}

// AD says that the RRset was validated, which is not true of a part of it.
func TestADIsClearedWhereUnsignedMembersAreRemoved(t *testing.T) {
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.AuthenticatedData = true
		for _, a := range threeSorted {
			m.Answer = append(m.Answer, rr(t, "www.example.org. 60 IN A "+a))
		}
		w.WriteMsg(m)
	})
	for stanza, want := range map[string]bool{"policy round_robin": true, "ttl 5": true, "answers 3": true, "answers 2": false} {
		s := start(t, block("balance {\n"+stanza+"\n}", "forward . "+up))
		q := query("www.example.org.", dns.TypeA)
		q.AuthenticatedData = true
		for range 3 {
			if got := dial(t, "udp", s.udp(), "").Ask(q.Copy()).AuthenticatedData; got != want {
				t.Errorf("%s: AD is %v, want %v", stanza, got, want)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// signer holds a key for example.org, made by BIND's tools, and the trust anchor for it.
type signer struct {
	t      *testing.T
	base   string // of the key's files
	anchor string // a file, as delv reads it
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	dir := t.TempDir()
	base := strings.TrimSpace(run(t, dir, "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "example.org"))
	record, err := os.ReadFile(filepath.Join(dir, base+".key"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(record)
	key := rr(t, text[strings.Index(text, "example.org. IN"):]).(*dns.DNSKEY)
	anchor := fmt.Sprintf("trust-anchors { example.org. static-key %d %d %d %q; };\n", key.Flags, key.Protocol, key.Algorithm, key.PublicKey)
	return &signer{t, filepath.Join(dir, base), file(t, "anchor", anchor)}
}

// signed returns a zone file that dnssec-signzone signed.
func (s *signer) signed(db string) string {
	s.t.Helper()
	run(s.t, filepath.Dir(db), "dnssec-signzone", "-S", "-z", "-K", filepath.Dir(s.base), "-o", "example.org", "-f", "db.signed", filepath.Base(db))
	return filepath.Join(filepath.Dir(db), "db.signed")
}

// validated asks a server with delv, which fetches the keys from it too, and returns the members of the answer. What
// does not validate fails the test.
func (s *signer) validated(addr, name, qtype string) (members []string) {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	out := run(s.t, filepath.Dir(s.base), "delv", "-a", s.anchor, "+root=example.org", "@"+host, "-p", port, name, qtype)
	if !strings.Contains(out, "; fully validated") {
		s.t.Errorf("%s %s does not validate:\n%s", name, qtype, out)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 5 && fields[3] == qtype {
			members = append(members, fields[4])
		}
	}
	return members
}

// Whatever the rule does, and whoever dies, what was signed validates: with a validator that is not ours, for answers
// signed on the fly, from a signed file, and from a signed upstream.
func TestSignedAnswersValidate(t *testing.T) {
	s := newSigner(t)
	sources := map[string]func(db string) []string{
		"signed on the fly": func(db string) []string { return []string{"dnssec {\n key file " + s.base + "\n }", "file " + db} },
		"signed file":       func(db string) []string { return []string{"file " + s.signed(db)} },
		"signed upstream": func(db string) []string {
			return []string{"cache", "forward . " + start(t, block("file "+s.signed(db))).udp()}
		},
	}
	policies := map[string]string{
		"round robin": "policy round_robin", "weighted": "policy weighted\nweight 127.1.0.1 3", "standby": "policy weighted\nweight 127.1.0.1 0",
		"random": "policy random", "sticky": "policy sticky", "answers": "answers 1", "prefer": "prefer 127.1.0.3/32",
		"tier": "tier 127.1.0.1\ntier 127.1.0.2", "nodata": "all_down nodata", "servfail": "all_down servfail", "fallback": "all_down fallback 192.0.2.80", "ttl": "ttl 7 3",
	}
	everywhere := []string{"round robin", "weighted", "random", "sticky", "answers", "tier"} // the others are no different below
	for source, lines := range sources {
		for policy, stanza := range policies {
			if source != "signed on the fly" && !slices.Contains(everywhere, policy) {
				continue
			}
			t.Run(source+", "+policy, func(t *testing.T) {
				s := &signer{t, s.base, s.anchor}
				f := newFarm(t, 3, listening)
				db := zone(t, "example.org.", f.as("www")+f.aaaas("www")+"alias IN CNAME www\n@ IN MX 10 www\n@ IN MX 10 ns\n")
				k := startChecked(t, append([]string{rule(stanza, f.check("tcp", ""))}, lines(db)...)...)
				s.validateWhileMembersDie(k, f)
			})
		}
	}
}

// validateWhileMembersDie validates answers with all members up, one down, all down, and all up again.
func (s *signer) validateWhileMembersDie(k *checked, f *farm) {
	s.t.Helper()
	validate := func(dead ...string) {
		s.t.Helper()
		k.verdicts(len(f.addrs)-len(dead), len(dead))
		got := s.validated(k.udp(), "www.example.org", "A")
		if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, f.addrs) {
			s.t.Errorf("answer is %v with %v dead, want all of %v", got, dead, f.addrs)
		}
		signed := members(k.c.ask(query("www.example.org.", dns.TypeA).SetEdns0(4096, true)), dns.TypeA) // delv sorts what it prints
		if len(dead) == 1 && (len(signed) != len(f.addrs) || signed[len(signed)-1] != dead[0]) {
			s.t.Errorf("answer is %v, want the dead one, %s, last", signed, dead[0])
		}
		s.validated(k.udp(), "www.example.org", "AAAA")
		s.validated(k.udp(), "alias.example.org", "A")
		s.validated(k.udp(), "example.org", "MX")
	}
	validate()
	f.kill(1)
	validate(f.addrs[1])
	f.kill(0)
	f.kill(2)
	validate(f.addrs...)
	for i := range f.addrs {
		f.revive(i)
	}
	validate()
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// signings are the ways by which signed answers come up to balance.
var signings = []struct {
	name     string
	onTheFly bool // names of a wildcard, and those that do not exist, are signed as if they were there
	below    func(t *testing.T, z *signedZone) []string
}{
	{"dnssec", true, func(_ *testing.T, z *signedZone) []string { return z.onTheFly() }},
	{"cache and dnssec", true, func(_ *testing.T, z *signedZone) []string { return append(z.onTheFly(), "cache") }},
	{"dnssec-signzone and file", false, func(_ *testing.T, z *signedZone) []string { return []string{z.signedFile()} }},
	{"sign and file", false, func(t *testing.T, z *signedZone) []string {
		dir := t.TempDir()
		return []string{"sign " + z.plain + " {\n key file " + z.base + "\n directory " + dir + "\n }",
			"one_by_one", "file " + filepath.Join(dir, "db.example.org.signed") + " {\n reload 100ms\n }"}
	}},
	{"forward", false, forwarding},
	{"cache and forward", false, func(t *testing.T, z *signedZone) []string { return append(forwarding(t, z), "cache") }},
	{"cache and forward, NSEC3", false, func(t *testing.T, z *signedZone) []string {
		addr := "127.0.0.1:" + freePort(t)
		unbound(t, addr, fmt.Sprintf("\nauth-zone:\n  name: %s\n  zonefile: %q\n  for-upstream: no\n  fallback-enabled: no\n", z.origin, z.sign("-3", "-", "-H", "0")))
		return []string{"forward . " + addr, "cache"}
	}},
}

// forwarding is the line that asks another CoreDNS, which has the zone signed.
func forwarding(t *testing.T, z *signedZone) []string {
	return []string{"forward . " + start(t, block(z.signedFile())).udp()}
}

// signedCase is a name with a rule of its own. Its members are the first of a farm's.
type signedCase struct {
	name     string
	asked    string // the name that is asked for, where that is another
	records  string // besides the addresses
	members  int    // 0: three
	options  []string
	leads    []int  // who leads while all are up; nil: all
	sticky   bool   // one of them leads
	ttl      uint32 // 0: 30
	degraded uint32 // 0: 5; where the first is down
	plain    string // what clients that want no signatures get where all are down: "", "nodata", "servfail" or an address
}

func signedCases(f *farm) []signedCase {
	return []signedCase{
		{name: "roundrobin"},
		{name: "weighted", options: []string{"policy weighted", "weight " + f.addrs[0] + " 2", "weight " + f.addrs[2] + " 0"}, leads: []int{0, 1}},
		{name: "random", options: []string{"policy random"}},
		{name: "sticky", options: []string{"policy sticky"}, sticky: true},
		{name: "prefer", options: []string{"prefer " + f.addrs[2]}, leads: []int{2}},
		{name: "answers", options: []string{"answers 1"}},
		{name: "tier", options: []string{"tier " + f.addrs[0]}, leads: []int{0}},
		{name: "quorum", options: []string{"tier " + f.addrs[0] + " " + f.addrs[1], "min_healthy 2"}, leads: []int{0, 1}},
		{name: "ttl", options: []string{"ttl 7 3"}, ttl: 7, degraded: 3},
		{name: "nodata", options: []string{"all_down nodata"}, plain: "nodata"},
		{name: "servfail", options: []string{"all_down servfail"}, plain: "servfail"},
		{name: "fallback", options: []string{"all_down fallback 192.0.2.80"}, plain: "192.0.2.80"},
		{name: "only", members: 1, options: []string{"all_down servfail"}, plain: "servfail"},
		{name: "wild", asked: "any.wild"},
		{name: "alias", asked: "alias", records: "alias IN CNAME behind.alias\n"},
	}
}

// owner is the owner of a case's addresses.
func (c *signedCase) owner() string {
	switch c.name {
	case "wild":
		return "*.wild"
	case "alias":
		return "behind.alias"
	}
	return c.name
}

func (c *signedCase) question() *dns.Msg {
	name := c.name
	if c.asked != "" {
		name = c.asked
	}
	return query(name+".example.org.", dns.TypeA)
}

func (c *signedCase) size() int {
	if c.members > 0 {
		return c.members
	}
	return 3
}

// some are the addresses of some of the case's members.
func (c *signedCase) some(f *farm, which ...int) (addrs []string) {
	for _, i := range which {
		if i < c.size() {
			addrs = append(addrs, f.addrs[i])
		}
	}
	return addrs
}

// signedServer is a server of signed answers and those who validate them.
type signedServer struct {
	*checked
	*validator
	*farm
	t        *testing.T
	z        *signedZone
	cases    []signedCase
	onTheFly bool
}

// Whoever signed the answers, whatever the policy, and whoever dies and returns: what goes out
// verifies, the dead come last, and who asks for no signatures does not get them.
func TestSignedAnswersValidateWhileMembersDieAndReturn(t *testing.T) {
	for _, signing := range signings {
		t.Run(signing.name, func(t *testing.T) {
			f := newFarm(t, 3, listening)
			s := &signedServer{farm: f, t: t, cases: signedCases(f), onTheFly: signing.onTheFly}
			var records, rules strings.Builder
			for _, c := range s.cases {
				records.WriteString(c.records + as(c.owner(), f.addrs[:c.size()]...))
				fmt.Fprintf(&rules, "balance %s.example.org {\n%s\n%s\n}\n", c.name, f.check("tcp", ""), strings.Join(c.options, "\n"))
			}
			s.z = newSignedZone(t, "example.org.", records.String())
			s.checked = startChecked(t, append(signing.below(t, s.z), rules.String())...)
			eventually(t, "the zone is there", func() bool { return len(ask(t, s.udp(), "only.example.org.", dns.TypeA).Answer) > 0 })
			s.validator = validate(t, s.udp(), s.z)

			s.answerWith()
			f.kill(0)
			s.answerWith(0)
			if n := s.grown(responses("roundrobin.example.org.", "", "sealed")); n == 0 {
				t.Error("no answer was counted as sealed")
			}
			f.kill(1)
			f.kill(2)
			s.answerWith(0, 1, 2)
			if n := s.grown(responses("servfail.example.org.", "", "fail_open")); n == 0 {
				t.Error("no answer was counted as fail_open")
			}
			for i := range 3 {
				f.revive(i)
			}
			s.answerWith()
		})
	}
}

// answerWith waits until some backends are known to be down, and then asks for everything.
func (s *signedServer) answerWith(dead ...int) {
	s.t.Helper()
	s.know(dead)
	validated := s.resolved
	if len(dead) > 0 { // delv as well, which takes a process a question
		validated = s.secure
	}
	for _, c := range s.cases {
		s.signed(&c, dead)
		s.plain(&c, dead)
		s.holds(&c, validated(c.question().Question[0].Name, dns.TypeA), dead)
	}
	for _, name := range []string{"roundrobin", "nodata", "any.wild", "alias"} {
		if reply := validated(name+".example.org.", dns.TypeAAAA); reply.Rcode != dns.RcodeSuccess || len(members(reply, dns.TypeAAAA)) > 0 {
			s.t.Errorf("%s AAAA: want NODATA: %v", name, reply)
		}
	}
	missing := dns.RcodeNameError
	if s.onTheFly {
		missing = dns.RcodeSuccess
	}
	for _, name := range []string{"missing", "missing.servfail"} {
		if reply := validated(name+".example.org.", dns.TypeA); reply.Rcode != missing || len(reply.Answer) > 0 {
			s.t.Errorf("%s: want %s: %v", name, dns.RcodeToString[missing], reply)
		}
	}
}

// know waits until every rule's endpoints are up, except the dead, which are down.
func (s *signedServer) know(dead []int) {
	s.t.Helper()
	var last map[string]float64
	defer func() {
		if s.t.Failed() {
			s.t.Log(last)
		}
	}()
	eventually(s.t, fmt.Sprintf("all are up but %v", dead), func() bool {
		for _, c := range s.cases {
			s.checked.c.Ask(c.question())
		}
		last = counts(s.t, s.metrics)
		return !slices.ContainsFunc(s.cases, func(c signedCase) bool {
			of := func(state string) int {
				return int(last[fmt.Sprintf("coredns_balance_endpoints{state=%q,zone=\"%s.example.org.\"}", state, c.name)])
			}
			downs := len(c.some(s.farm, dead...))
			return of("up") != c.size()-downs || of("down") != downs
		})
	})
}

// signed asks until all who should have led, and checks every answer.
func (s *signedServer) signed(c *signedCase, dead []int) {
	s.t.Helper()
	lead := leads{}
	n := 12
	if c.name == "random" {
		n = 60 // one of three leads none of these by chance once in 10^10
	}
	for range n {
		q := c.question().SetEdns0(4096, true)
		reply := s.checked.c.Ask(q)
		if verify(s.t, s.z.key, reply) == 0 {
			s.t.Fatalf("no signature: %v", reply)
		}
		s.holds(c, reply, dead)
		s.lasts(c, reply, dead)
		lead.add(reply, dns.TypeA)
	}
	if c.name == "wild" && !s.onTheFly {
		s.provesTheWildcard(c)
	}
	want := s.leaders(c, dead)
	got := slices.Sorted(maps.Keys(lead))
	if c.sticky && len(got) == 1 && slices.Contains(want, got[0]) {
		return
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s with %v dead: leads are %v, want %v", c.name, dead, lead, want)
	}
}

// leaders are those who should lead: all if none is left.
func (s *signedServer) leaders(c *signedCase, dead []int) []string {
	first := c.leads
	if first == nil {
		first = []int{0, 1, 2}
	}
	for _, those := range [][]int{first, {0, 1, 2}} {
		if left := c.some(s.farm, without(those, dead)...); len(left) > 0 {
			return left
		}
	}
	return c.some(s.farm, first...)
}

func without(all, some []int) []int {
	return slices.DeleteFunc(slices.Clone(all), func(i int) bool { return slices.Contains(some, i) })
}

// holds fails the test unless an answer has all members, the dead last unless all are.
func (s *signedServer) holds(c *signedCase, reply *dns.Msg, dead []int) {
	s.t.Helper()
	got := members(reply, dns.TypeA)
	if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, s.addrs[:c.size()]) {
		s.t.Fatalf("%s with %v dead: has %v, want all", c.name, dead, got)
	}
	down := c.some(s.farm, dead...)
	if last := got[len(got)-len(down):]; !slices.Equal(slices.Sorted(slices.Values(last)), down) {
		s.t.Fatalf("%s with %v dead: has %v, want these last", c.name, dead, got)
	}
}

// lasts fails the test unless the addresses have the TTL that is due.
func (s *signedServer) lasts(c *signedCase, reply *dns.Msg, dead []int) {
	s.t.Helper()
	want := uint32(30)
	if c.ttl > 0 {
		want = c.ttl
	}
	switch {
	case len(dead) > 0 && c.degraded > 0 && len(dead) < c.size(), c.ttl > 0 && len(dead) > 0:
		want = c.degraded
	case len(dead) > 0:
		want = 5
	}
	for _, rr := range reply.Answer {
		if rr.Header().Rrtype == dns.TypeA && rr.Header().Ttl != want {
			s.t.Fatalf("%s with %v dead: want a TTL of %d: %v", c.name, dead, want, reply)
		}
	}
}

// provesTheWildcard fails the test unless the answer was made from a wildcard, and says that there
// is no such name (RFC 4035, section 5.3.4).
func (s *signedServer) provesTheWildcard(c *signedCase) {
	s.t.Helper()
	reply := s.checked.c.Ask(c.question().SetEdns0(4096, true))
	made := slices.ContainsFunc(reply.Answer, func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return ok && int(sig.Labels) < dns.CountLabel(sig.Hdr.Name)
	})
	if !made || len(dataOf(reply.Ns, dns.TypeNSEC))+len(dataOf(reply.Ns, dns.TypeNSEC3)) == 0 {
		s.t.Errorf("want an answer from a wildcard and its NSEC or NSEC3: %v", reply)
	}
}

// plain checks what a client gets that asks for no signatures.
func (s *signedServer) plain(c *signedCase, dead []int) {
	s.t.Helper()
	reply := s.checked.c.Ask(c.question())
	got := members(reply, dns.TypeA)
	if len(dataOf(reply.Answer, dns.TypeRRSIG)) > 0 {
		s.t.Errorf("%s: nobody asked for signatures: %v", c.name, reply)
	}
	if len(dead) < c.size() || c.plain == "" {
		dying := c.some(s.farm, dead...)
		if len(dead) < c.size() && slices.ContainsFunc(got, func(a string) bool { return slices.Contains(dying, a) }) || len(got) == 0 {
			s.t.Errorf("%s with %v dead: unsigned answer has %v", c.name, dead, got)
		}
		return
	}
	switch c.plain {
	case "nodata", "servfail":
		if want := map[string]int{"nodata": dns.RcodeSuccess, "servfail": dns.RcodeServerFailure}[c.plain]; reply.Rcode != want || len(got) > 0 {
			s.t.Errorf("%s: want %s: %v", c.name, c.plain, reply)
		}
	default:
		if !slices.Equal(got, []string{c.plain}) {
			s.t.Errorf("%s: want %s alone: %v", c.name, c.plain, reply)
		}
	}
}

// What dnssec signs comes up to balance signed: the other way round its signatures would be of what
// is left.
func TestSignersStandBelow(t *testing.T) {
	for _, signer := range []string{"dnssec", "file", "secondary", "forward"} {
		if at, balance := slices.Index(dnsserver.Directives, signer), slices.Index(dnsserver.Directives, "balance"); at < balance {
			t.Errorf("%s is number %d of the plugins and balance %d, want it below", signer, at, balance)
		}
	}
}

// The validators are real: an RRset that lost a member under its signature is bogus to both.
func TestValidatorsRefuseWhatLostAMember(t *testing.T) {
	z := newSignedZone(t, "example.org.", threeAs)
	honest := start(t, block(z.signedFile()))
	cut := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		reply := handOn(t, honest.tcp(), r)
		reply.Answer = slices.DeleteFunc(reply.Answer, func(rr dns.RR) bool {
			a, ok := rr.(*dns.A)
			return ok && a.A.String() == "192.0.2.2"
		})
		w.WriteMsg(reply)
	})
	v := validate(t, cut, z)
	if reply := v.resolves("www.example.org.", dns.TypeA); reply.Rcode != dns.RcodeServerFailure || reply.AuthenticatedData {
		t.Errorf("want SERVFAIL: %v", reply)
	}
	if out := v.delv("www.example.org.", dns.TypeA); strings.Contains(out, "fully validated") || !strings.Contains(out, "RRSIG failed to verify") {
		t.Errorf("delv: %s", out)
	}
	v.secure("ns.example.org.", dns.TypeA)
}

// handOn hands a query on.
func handOn(t *testing.T, addr string, r *dns.Msg) *dns.Msg {
	t.Helper()
	return dial(t, "tcp", addr, "").Ask(r)
}

// A chain leads from a signed zone into one below it, which it vouches for, and into one that has a
// key of its own; on the way out members die.
func TestSignedChainsValidate(t *testing.T) {
	for _, onTheFly := range []bool{false, true} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprintf("on the fly %v, cached %v", onTheFly, cached), func(t *testing.T) {
				f := newFarm(t, 3, listening)
				sub := newSignedZone(t, "sub.example.org.", f.as("www"))
				other := newSignedZone(t, "example.net.", f.as("www")+"back IN CNAME www.example.org.\n")
				z := newSignedZone(t, "example.org.", f.as("www")+"sub IN NS ns.sub\nns.sub IN A 192.0.2.53\n"+sub.ds()+
					"inside IN CNAME www\nbelow IN CNAME www.sub\nbeside IN CNAME www.example.net.\nthere IN CNAME back.example.net.\n")
				port, blocks := freePort(t), []string(nil)
				for _, z := range []*signedZone{z, sub, other} {
					lines := []string{rule(f.check("tcp", "")), z.signedFile()}
					if onTheFly {
						lines = append(lines[:1], z.onTheFly()...)
					}
					if cached {
						lines = append(lines, "cache")
					}
					blocks = append(blocks, blockOf(strings.TrimSuffix(z.origin, ".")+":"+port, lines...))
				}
				s := start(t, strings.Join(blocks, ""))
				v := validate(t, s.udp(), z, other)
				// The plugin file leaves it to the client to follow a chain below a delegation.
				ends := map[string]string{"inside": "inside.example.org.", "below": "www.sub.example.org.", "beside": "beside.example.org.", "there": "there.example.org."}
				for _, dead := range [][]int{nil, {0}, {0, 1, 2}} {
					for _, i := range dead {
						f.kill(i)
					}
					for name, end := range ends {
						endsIn(t, v, f, end, dead)
						reply := v.secure(name+".example.org.", dns.TypeA)
						if got := members(reply, dns.TypeA); !slices.Equal(slices.Sorted(slices.Values(got)), f.addrs) || len(members(reply, dns.TypeCNAME)) == 0 {
							t.Errorf("%s with %v dead: want a chain to all members: %v", name, dead, reply)
						}
					}
				}
			})
		}
	}
}

// endsIn waits until the addresses that a name leads to are put in order for those that are dead.
func endsIn(t *testing.T, v *validator, f *farm, name string, dead []int) {
	t.Helper()
	down, ttl := []string(nil), uint32(30)
	if len(dead) > 0 {
		down, ttl = f.some(dead...), 5
	}
	c := dial(t, "udp", v.asks, "")
	eventually(t, fmt.Sprintf("%s leads to all, %v last, with a TTL of %d", name, dead, ttl), func() bool {
		addrs := slices.DeleteFunc(c.Ask(query(name, dns.TypeA).SetEdns0(4096, true)).Answer, func(rr dns.RR) bool {
			return rr.Header().Rrtype != dns.TypeA
		})
		got := dataOf(addrs, dns.TypeA)
		return len(got) == 3 && slices.Equal(slices.Sorted(slices.Values(got[3-len(down):])), down) && onlyTTL(addrs, ttl)
	})
}

// What an operator says holds for signed RRsets as probes do.
func TestOverridesOfSignedMembers(t *testing.T) {
	for _, signing := range signings {
		t.Run(signing.name, func(t *testing.T) {
			z := newSignedZone(t, "example.org.", threeAs)
			overrides := filepath.Join(t.TempDir(), "overrides")
			s := start(t, block(append(signing.below(t, z), "balance {\n overrides "+overrides+" 100ms\n ttl 30 5\n all_down servfail\n}")...))
			eventually(t, "the zone is there", func() bool { return len(ask(t, s.udp(), "www.example.org.", dns.TypeA).Answer) > 0 })
			v := validate(t, s.udp(), z)
			for _, tc := range []struct {
				lines string
				last  []string // in this order
				ttl   uint32
			}{
				{"192.0.2.1 down\n", []string{"192.0.2.1"}, 5},
				{"192.0.2.1 drain\n", []string{"192.0.2.1"}, 30},
				{"192.0.2.1 down\n192.0.2.2 drain\n", []string{"192.0.2.3", "192.0.2.2", "192.0.2.1"}, 5},
				{"192.0.2.0/24 down\n192.0.2.2 up\n", []string{"192.0.2.2", "192.0.2.1", "192.0.2.3"}, 5},
			} {
				replace(t, overrides, tc.lines)
				c := dial(t, "udp", s.udp(), "")
				eventually(t, fmt.Sprintf("%q holds", tc.lines), func() bool {
					reply := c.Ask(query("www.example.org.", dns.TypeA).SetEdns0(4096, true))
					verify(t, z.key, reply)
					got := members(reply, dns.TypeA)
					return len(got) == 3 && slices.Equal(got[3-len(tc.last):], tc.last) && onlyTTL(reply.Answer, tc.ttl)
				})
				if got := members(v.secure("www.example.org.", dns.TypeA), dns.TypeA); len(got) != 3 || !slices.Equal(got[3-len(tc.last):], tc.last) {
					t.Errorf("%q: the validator has %v, want %v last", tc.lines, got, tc.last)
				}
			}
			replace(t, overrides, "192.0.2.0/24 down\n")
			eventually(t, "unsigned answers fail", func() bool {
				return ask(t, s.udp(), "www.example.org.", dns.TypeA).Rcode == dns.RcodeServerFailure
			})
			if got := members(v.secure("www.example.org.", dns.TypeA), dns.TypeA); len(got) != 3 {
				t.Errorf("all are overridden down: the validator has %v, want all", got)
			}
		})
	}
}

// MX, SRV and HTTPS records stay with their signatures, whoever died.
func TestSignedRecordsThatLeadElsewhereValidate(t *testing.T) {
	for _, signing := range signings {
		t.Run(signing.name, func(t *testing.T) {
			f := newFarm(t, 2, listening)
			z := newSignedZone(t, "example.org.", f.as("a", 0)+f.as("b", 1)+f.as("www")+"_s._tcp IN SRV 1 1 80 a\n_s._tcp IN SRV 1 1 80 b\n"+
				"mail IN MX 10 a\nmail IN MX 10 b\nweb IN HTTPS 1 . alpn=h2 ipv4hint="+strings.Join(f.addrs, ",")+"\n")
			k := startChecked(t, append(signing.below(t, z), rule(f.check("tcp", "")))...)
			eventually(t, "the zone is there", func() bool { return len(k.answer(dns.TypeA)) > 0 })
			v := validate(t, k.udp(), z)
			questions := map[string]uint16{"_s._tcp.example.org.": dns.TypeSRV, "mail.example.org.": dns.TypeMX, "web.example.org.": dns.TypeHTTPS}
			for up := 2; up >= 0; up-- {
				k.verdicts(up, 2-up)
				for name, qtype := range questions {
					reply := k.c.Ask(query(name, qtype).SetEdns0(4096, true))
					verify(t, z.key, reply)
					want := 2
					if qtype == dns.TypeHTTPS {
						want = 1
					}
					secure := v.secure(name, qtype)
					if n, validated := len(dataOf(reply.Answer, qtype)), len(dataOf(secure.Answer, qtype)); n != want || validated != want {
						t.Errorf("%d up: %d records, %d validated, want %d: %v", up, n, validated, want, reply)
					}
					if qtype == dns.TypeHTTPS && !strings.Contains(secure.String(), strings.Join(f.addrs, ",")) {
						t.Errorf("%d up: want the hints that were signed: %v", up, secure)
					}
				}
				if up > 0 {
					f.kill(up - 1)
				}
			}
		})
	}
}

// Below stands a resolver that validates, and says so with AD. That stays with what is in order,
// and with what is signed; it goes where a member went.
func TestADOfAValidatingResolver(t *testing.T) {
	for _, cache := range []string{"", "cache"} {
		t.Run("with "+cache, func(t *testing.T) {
			f := newFarm(t, 3, listening)
			z := newSignedZone(t, "example.org.", f.as("www")+"alias IN CNAME www\n")
			resolver := validate(t, start(t, block(z.signedFile())).udp(), z)
			k := startChecked(t, rule(f.check("tcp", "")), cache, "forward . "+resolver.addr)
			v := validate(t, k.udp(), z)
			check := func(plainMembers int, plainAD bool) {
				t.Helper()
				for _, name := range []string{"www.example.org.", "alias.example.org."} {
					q := query(name, dns.TypeA)
					q.AuthenticatedData = true
					if reply := k.c.Ask(q); len(members(reply, dns.TypeA)) != plainMembers || reply.AuthenticatedData != plainAD {
						t.Errorf("unsigned: want %d members and AD %v: %v", plainMembers, plainAD, reply)
					}
					reply := k.c.Ask(query(name, dns.TypeA).SetEdns0(4096, true))
					if n := verify(t, z.key, reply); n == 0 || len(members(reply, dns.TypeA)) != 3 || !reply.AuthenticatedData {
						t.Errorf("signed: want all members and AD: %v", reply)
					}
					v.secure(name, dns.TypeA)
				}
				for name, rcode := range map[string]int{"missing": dns.RcodeNameError, "alias": dns.RcodeSuccess} {
					if reply := v.secure(name+".example.org.", dns.TypeAAAA); reply.Rcode != rcode {
						t.Errorf("want %s: %v", dns.RcodeToString[rcode], reply)
					}
				}
			}
			k.verdicts(3, 0)
			check(3, true)
			f.kill(0)
			k.verdicts(2, 1)
			check(2, false)
			f.kill(1)
			f.kill(2)
			k.verdicts(0, 3)
			check(3, true)
		})
	}
}

// A server that signs what another one balanced: the dead leave signed answers as well, and what
// all_down says validates. Who asks is told by the client subnet option.
func TestSigningAboveBalance(t *testing.T) {
	f := newFarm(t, 3, listening)
	z := newSignedZone(t, "example.org.", f.as("www")+f.as("nodata")+f.as("servfail")+f.as("fallback")+f.as("site"))
	var rules strings.Builder
	for _, c := range []string{"nodata", "servfail", "fallback 192.0.2.80"} {
		fmt.Fprintf(&rules, "balance %s.example.org {\n%s all_down %s\n}\n", strings.Fields(c)[0], f.check("tcp", ""), c)
	}
	k := startChecked(t, rule(f.check("tcp", ""), "ecs 127.0.0.1",
		"prefer "+f.addrs[1]+" from 127.0.9.0/24", "prefer "+f.addrs[2]+" from 127.0.8.0/24"), rules.String(), "file "+z.plain)
	s := start(t, block("rewrite edns0 subnet set 24 56", "dnssec {\n key file "+z.base+"\n}", "forward . "+k.udp()))
	v := validate(t, s.udp(), z)
	has := func(name string, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s has %v", name, want), func() bool {
			got := members(v.resolves(name, dns.TypeA), dns.TypeA)
			return slices.Equal(slices.Sorted(slices.Values(got)), want)
		})
		v.secure(name, dns.TypeA)
	}
	has("www.example.org.", f.addrs...)
	for range 4 {
		for from, want := range map[string]string{"127.0.9.1": f.addrs[1], "127.0.8.1": f.addrs[2]} {
			if got := members(dial(t, "udp", s.udp(), from).Ask(query("site.example.org.", dns.TypeA).SetEdns0(4096, true)), dns.TypeA); got[0] != want {
				t.Errorf("from %s: %v, want %s first", from, got, want)
			}
		}
	}
	f.kill(0)
	has("www.example.org.", f.addrs[1:]...)
	has("nodata.example.org.", f.addrs[1:]...)
	f.kill(1)
	f.kill(2)
	has("www.example.org.", f.addrs...)
	has("nodata.example.org.")
	has("fallback.example.org.", "192.0.2.80")
	eventually(t, "servfail", func() bool { return v.resolves("servfail.example.org.", dns.TypeA).Rcode == dns.RcodeServerFailure })
	f.revive(1)
	for _, name := range []string{"www", "nodata", "fallback", "servfail"} {
		has(name+".example.org.", f.addrs[1])
	}
}

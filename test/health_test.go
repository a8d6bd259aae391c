// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A backend that fails, in whichever way, leaves the answer, and is in it again when it is back.
// TTLs say whether somebody is missing.
func TestBackendsThatFailLeaveTheAnswer(t *testing.T) {
	procs := processes{}
	fine := serving(saying(http.StatusOK, ""))
	tests := []struct {
		name         string
		open         opener
		fail, repair func(f *farm)
	}{
		{"port closed", fine, func(f *farm) { f.kill(1) }, func(f *farm) { f.revive(1) }},
		{"black hole", fine, func(f *farm) { f.replace(1, blackHole) }, func(f *farm) { f.revive(1) }},
		{"never answers", fine, func(f *farm) { f.replace(1, silent) }, func(f *farm) { f.revive(1) }},
		{"hangs up", fine, func(f *farm) { f.replace(1, listening) }, func(f *farm) { f.revive(1) }},
		{"says 503", fine, func(f *farm) { f.replace(1, serving(saying(503, ""))) }, func(f *farm) { f.revive(1) }},
		{"process killed", procs.open, func(f *farm) { f.kill(1) }, func(f *farm) { f.revive(1) }},
		{"process frozen", procs.open,
			func(f *farm) { procs.signal(f.t, f.addrs[1]+":"+f.port, syscall.SIGSTOP) },
			func(f *farm) { procs.signal(f.t, f.addrs[1]+":"+f.port, syscall.SIGCONT) }},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFarm(t, 3, tc.open)
			k := startChecked(t, rule(f.check("http", "/")), "file "+zone(t, "example.org.", f.as("www")))
			k.verdicts(3, 0)
			k.answers(30, f.addrs...)
			tc.fail(f)
			k.answers(5, f.addrs[0], f.addrs[2])
			k.verdicts(2, 1)
			tc.repair(f)
			k.answers(30, f.addrs...)
			k.verdicts(3, 0)
		})
	}
}

// A dead backend is out within interval + 2 x fast_interval + 1 s, and 3 x timeout more where it is
// a black hole. The bound here is ten times that.
func TestTimeToNotice(t *testing.T) {
	f := newFarm(t, 2, serving(saying(200, "")))
	k := startChecked(t, rule(f.check("http", "/")), "file "+zone(t, "example.org.", f.as("www")))
	for _, tc := range []struct {
		fail  func()
		bound time.Duration
	}{
		{func() { f.kill(1) }, 1400 * time.Millisecond},
		{func() { f.replace(1, blackHole) }, 2150 * time.Millisecond},
	} {
		f.revive(1)
		k.verdicts(2, 0)
		tc.fail()
		began := time.Now()
		k.answers(5, f.addrs[0])
		if took := time.Since(began); took > 10*tc.bound {
			t.Errorf("out after %v, want it within %v", took, tc.bound)
		}
	}
}

// Whatever produces the answer, health acts on it at once: a cache below holds all members.
func TestHealthOverEveryUpstream(t *testing.T) {
	asked := new(atomic.Int64)
	tests := []struct {
		name  string
		chain func(t *testing.T, f *farm) string
	}{
		{"file", func(t *testing.T, f *farm) string { return "file " + zone(t, "example.org.", f.as("www")) }},
		{"hosts", func(_ *testing.T, f *farm) string {
			return "hosts {\n" + strings.Join(f.addrs, " www.example.org\n") + " www.example.org\n}"
		}},
		{"forward", func(t *testing.T, f *farm) string {
			up := start(t, block("loadbalance", "file "+zone(t, "example.org.", f.as("www"))))
			return "forward . " + up.udp() + " {\n prefer_udp\n }"
		}},
		{"cached file", func(t *testing.T, f *farm) string {
			return "cache\n file " + zone(t, "example.org.", f.as("www"))
		}},
		{"cached forward", func(t *testing.T, f *farm) string {
			return "cache {\n disable denial\n }\n forward . " + upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
				m := new(dns.Msg).SetReply(r)
				if r.Question[0].Qtype == dns.TypeA {
					asked.Add(1)
					for _, a := range f.addrs {
						m.Answer = append(m.Answer, rr(t, "www.example.org. 300 IN A "+a))
					}
				}
				w.WriteMsg(m)
			})
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := newFarm(t, 3, listening)
			k := startChecked(t, rule(f.check("tcp", "")), tc.chain(t, f))
			k.verdicts(3, 0)
			first := asked.Load() // more than one where forward was too slow to hear the answer
			for range 2 {
				k.answers(30, f.addrs...)
				f.kill(0)
				k.answers(5, f.addrs[1:]...)
				f.revive(0)
			}
			if n := asked.Load() - first; n > 0 {
				t.Errorf("upstream was asked %d times more, want the cache to answer all but the first", n)
			}
		})
	}
}

// TTLs are lowered, never raised.
func TestTTLOfCheckedAnswers(t *testing.T) {
	f := newFarm(t, 2, listening)
	records := strings.ReplaceAll(f.as("www")+f.as("short")+f.as("shorter"), "\nshort IN", "\nshort 5 IN")
	records = strings.ReplaceAll(records, "\nshorter IN", "\nshorter 3 IN")
	type ttls map[string]uint32
	stanzas := map[string]struct{ up, degraded ttls }{
		"":         {ttls{"www": 30, "short": 5, "shorter": 3}, ttls{"www": 5, "short": 5, "shorter": 3}},
		"ttl 60 4": {ttls{"www": 60, "short": 5, "shorter": 3}, ttls{"www": 4, "short": 4, "shorter": 3}},
		"ttl keep": {ttls{"www": 300, "short": 5, "shorter": 3}, ttls{"www": 300, "short": 5, "shorter": 3}},
	}
	for stanza, want := range stanzas {
		k := startChecked(t, rule(stanza, f.check("tcp", "")), "file "+zone(t, "example.org.", records))
		f.revive(1)
		k.verdicts(2, 0)
		for name, ttl := range want.up {
			k.answersOf(name+".example.org.", dns.TypeA, ttl, f.addrs...)
		}
		f.kill(1)
		k.verdicts(1, 1)
		for name, ttl := range want.degraded {
			k.answersOf(name+".example.org.", dns.TypeA, ttl, f.addrs[0])
		}
		k.stop()
	}
}

// script is a web server that answers by plan, and looks at each request whether www.example.org
// holds the server's address: the result of the request before has been taken in by then.
type script struct {
	mu       sync.Mutex
	statuses []int // the last one is repeated
	looks    int   // how often it looks: what comes then may meet a server that stops
	listed   []bool
	look     func() bool
}

func (s *script) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.statuses[min(len(s.listed), len(s.statuses)-1)]
	if len(s.listed) < s.looks {
		s.listed = append(s.listed, s.look())
	}
	w.WriteHeader(status)
}

// seen returns what was seen so far.
func (s *script) seen() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.listed)
}

// looksFor makes the script look for an address in the server's answers.
func (s *script) looksFor(k *checked, addr string) {
	c := dial(k.t, "udp", k.udp(), "")
	s.look = func() bool {
		reply, err := c.TryAsk(query("www.example.org.", dns.TypeA))
		if err != nil {
			k.t.Error(err)
			return false
		}
		return slices.Contains(members(reply, dns.TypeA), addr)
	}
}

// patient is a timing for tests that count probes: none may fail but those that should.
const patient = "interval 1s\n timeout 900ms\n fast_interval 20ms\n max_interval 1s"

// The first result decides alone; then three failures in a row, or two successes.
func TestVerdictsStepByStep(t *testing.T) {
	steadily(t, 300*time.Millisecond, func() string { return verdictsStepByStep(t) })
}

func verdictsStepByStep(t *testing.T) (wrong string) {
	const yes, no = 200, 500
	want := []bool{true, false, false, false, false, true, true, true, true, true, true, false}
	s := &script{statuses: []int{no, yes, no, yes, yes, no, no, yes, no, no, no}, looks: len(want)}
	f := newFarm(t, 2, serving(saying(yes, "")))
	f.replace(1, serving(s.ServeHTTP))
	k := startChecked(t, rule(healthCheck("http", f.port, "/", patient)), "file "+zone(t, "example.org.", f.as("www")))
	defer k.stop()
	s.looksFor(k, f.addrs[1])
	k.ask(dns.TypeA)
	eventually(t, "all probes are made", func() bool { return len(s.seen()) >= len(want) })
	if got := s.seen()[:len(want)]; !slices.Equal(got, want) {
		return fmt.Sprintf("in the answer before each probe: %v, want %v", got, want)
	}
	if ups, downs := k.grown(transitions("up")), k.grown(transitions("down")); ups != 2 || downs != 2 {
		return fmt.Sprintf("%v transitions up and %v down, want 2 and 2", ups, downs)
	}
	return ""
}

// Addresses that no allow covers get no packet, whoever learned of them, and are served.
func TestAddressesOutsideAllowAreNotProbed(t *testing.T) {
	f := newFarm(t, 2, listening)
	hit := new(atomic.Int64)
	for _, addr := range []string{"127.0.0.1", "127.2.0.1"} {
		t.Cleanup(counting(hit)(t, addr+":"+f.port))
	}
	outside := []string{"10.0.0.5", "127.0.0.1", "127.2.0.1", "169.254.169.254"}
	all := slices.Sorted(slices.Values(append(slices.Clone(f.addrs), outside...)))
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if r.Question[0].Qtype == dns.TypeA {
			for _, a := range all {
				m.Answer = append(m.Answer, rr(t, r.Question[0].Name+" 300 IN A "+a))
			}
		}
		w.WriteMsg(m)
	})
	// The wide ranges hold loopback and link-local addresses, but do not lie inside these ranges.
	for _, allow := range []string{"", "allow 192.0.2.0/24", "allow 64.0.0.0/2 128.0.0.0/1 ::/0\n watch www.example.org"} {
		k := startChecked(t, rule(f.check("tcp", "", allow)), "forward . "+up)
		k.verdicts(2, 0)
		f.kill(1)
		served := slices.DeleteFunc(slices.Clone(all), func(a string) bool { return a == f.addrs[1] })
		k.answers(5, served...)
		f.revive(1)
		k.answers(30, all...)
		if got := k.seriesOf("coredns_balance_endpoint_up"); len(got) != 2 {
			t.Errorf("endpoints are %v, want two", got)
		}
		if k.grown(refused("not_allowed")) == 0 {
			t.Error("no refusal is counted")
		}
		k.stop()
	}
	if hit.Load() != 0 {
		t.Errorf("%d connections to addresses that must not be probed", hit.Load())
	}
}

// allDownTests are what is answered where all members are down, by the lines of the stanza.
var allDownTests = []struct {
	lines string
	a     outcome
	aaaa  outcome
}{
	{"", open, open},
	{"all_down open", open, open},
	{"all_down nodata", nodata, nodata},
	{"all_down servfail", outcome{rcode: dns.RcodeServerFailure}, outcome{rcode: dns.RcodeServerFailure}},
	{"all_down fallback 192.0.2.250 2001:db8::250", outcome{members: []string{"192.0.2.250"}}, outcome{members: []string{"2001:db8::250"}}},
	{"all_down fallback 192.0.2.250 192.0.2.251", outcome{members: []string{"192.0.2.250", "192.0.2.251"}}, nodata},
	{"all_down fallback 2001:db8::250", nodata, outcome{members: []string{"2001:db8::250"}}},
}

// outcome is what an answer holds: members, all of them, or none with an SOA or another rcode.
type outcome struct {
	rcode   int
	all     bool
	soa     bool
	members []string
}

var open, nodata = outcome{all: true}, outcome{soa: true}

func (o outcome) check(t *testing.T, reply *dns.Msg, all []string) {
	t.Helper()
	qtype := reply.Question[0].Qtype
	want := o.members
	if o.all {
		want = all
	}
	got := members(reply, qtype)
	slices.Sort(got)
	if reply.Rcode != o.rcode || !slices.Equal(got, want) || len(reply.Answer) != len(got) {
		t.Errorf("reply is %v, want rcode %d and %v", reply, o.rcode, want)
	}
	if !onlyTTL(reply.Answer, 5) {
		t.Errorf("answer is %v, want TTLs of 5", reply.Answer)
	}
	var soa *dns.SOA
	if len(reply.Ns) > 0 {
		soa, _ = reply.Ns[0].(*dns.SOA)
	}
	if o.soa && (soa == nil || soa.Hdr.Ttl > 5 || min(soa.Hdr.Ttl, soa.Minttl) > 5 || soa.Hdr.Name != "example.org.") {
		t.Errorf("authority is %v, want an SOA with a negative TTL of at most 5", reply.Ns)
	}
}

func TestAllDown(t *testing.T) {
	f := deadFarm(t, 2, listening)
	db := "file " + zone(t, "example.org.", f.as("www")+f.aaaas("www")+f.as("four"))
	mapped := []string{"::ffff:" + f.addrs[0], "::ffff:" + f.addrs[1]}
	for _, tc := range allDownTests {
		t.Run(tc.lines, func(t *testing.T) {
			k := startChecked(t, rule(tc.lines, f.check("tcp", "")), "cache", db)
			k.verdicts(0, 2)
			for range 3 {
				tc.a.check(t, k.ask(dns.TypeA), f.addrs)
				tc.aaaa.check(t, k.ask(dns.TypeAAAA), mapped)
			}
			// What the upstream denied stays denied, as it denied it.
			reply := k.c.Ask(query("four.example.org.", dns.TypeAAAA))
			if soa, ok := reply.Ns[0].(*dns.SOA); reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 0 || !ok || soa.Serial != 2026112301 {
				t.Errorf("no AAAA: reply is %v, want that of file", reply)
			}
			if reply := k.c.Ask(query("none.example.org.", dns.TypeA)); reply.Rcode != dns.RcodeNameError {
				t.Errorf("no such name: reply is %v, want NXDOMAIN", reply)
			}
		})
	}
}

// The negative answer for an alias is about the name at its end.
func TestNodataBehindAnAlias(t *testing.T) {
	f := deadFarm(t, 2, listening)
	k := startChecked(t, rule("all_down nodata", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")+"alias IN CNAME www\n"))
	k.verdicts(0, 2)
	reply := k.c.Ask(query("alias.example.org.", dns.TypeA))
	if got := shape(reply.Answer); !slices.Equal(got, []string{"CNAME alias.example.org. www.example.org."}) || reply.Rcode != dns.RcodeSuccess {
		t.Errorf("reply is %v, want the alias alone", reply)
	}
	if got := fmt.Sprint(shape(reply.Ns)); got != "[SOA example.org.]" {
		t.Errorf("authority is %s, want an SOA", got)
	}
}

// Where the answer fails open, all lead in turn as if they were up.
func TestFailingOpenTakesTurns(t *testing.T) {
	f := deadFarm(t, 3, listening)
	k := startChecked(t, rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(0, 3)
	lead := leads{}
	for range 30 {
		lead.add(k.ask(dns.TypeA), dns.TypeA)
	}
	lead.exactly(t, 3, 10)
}

// An only record is left alone, but where the rule says what to do instead.
func TestOnlyRecords(t *testing.T) {
	f := deadFarm(t, 1, listening)
	db := "file " + zone(t, "example.org.", f.as("www"))
	for lines, want := range map[string]outcome{
		"all_down nodata": nodata, "all_down servfail": {rcode: dns.RcodeServerFailure}, "all_down fallback 192.0.2.250": {members: []string{"192.0.2.250"}},
	} {
		k := startChecked(t, rule(lines, f.check("tcp", "")), db)
		k.verdicts(0, 1)
		want.check(t, k.ask(dns.TypeA), nil)
		k.stop()
	}
	k := startChecked(t, rule(f.check("tcp", "")), db)
	k.verdicts(0, 1)
	k.answers(300, f.addrs...)
	f.revive(0)
	k.verdicts(1, 0)
	k.answers(300, f.addrs...)
}

func TestFamiliesAreJudgedApart(t *testing.T) {
	f := newFarm(t, 4, listening)
	db := zone(t, "example.org.", f.as("www", 0, 1)+f.aaaas("www", 2, 3))
	k := startChecked(t, rule("all_down nodata", f.check("tcp", "")), "file "+db)
	six := func(ttl uint32, want ...string) {
		t.Helper()
		k.answersOf("www.example.org.", dns.TypeAAAA, ttl, want...)
	}
	k.verdicts(4, 0)
	six(30, "::ffff:127.1.0.3", "::ffff:127.1.0.4")
	f.kill(2)
	six(5, "::ffff:127.1.0.4")
	k.answers(30, f.addrs[:2]...)
	f.kill(3)
	six(5)
	nodata.check(t, k.ask(dns.TypeAAAA), nil)
	k.answers(30, f.addrs[:2]...)
	f.kill(0)
	k.answers(5, f.addrs[1])
	f.revive(2)
	six(5, "::ffff:127.1.0.3")
	k.answers(5, f.addrs[1])
}

// Both families have the same backends here: each is probed once, and gone from both.
func TestAnEndpointOfBothFamilies(t *testing.T) {
	f := newFarm(t, 2, listening)
	k := startChecked(t, rule(f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")+f.aaaas("www")))
	k.verdicts(2, 0)
	f.kill(0)
	k.answers(5, f.addrs[1])
	k.answersOf("www.example.org.", dns.TypeAAAA, 5, "::ffff:"+f.addrs[1])
}

func TestTiersFailOverAndBack(t *testing.T) {
	f := newFarm(t, 4, listening)
	k := startChecked(t, rule("tier 127.1.0.1", "tier 127.1.0.2/31", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(4, 0)
	steps := []struct {
		do   func(int)
		who  int
		ttl  uint32
		want []int
	}{
		{f.revive, 0, 30, []int{0}},
		{f.kill, 0, 5, []int{1, 2}}, // a later tier answers, so the TTL is low
		{f.kill, 1, 5, []int{2}},
		{f.kill, 2, 5, []int{3}},
		{f.revive, 1, 5, []int{1}},
		{f.kill, 1, 5, []int{3}},
		{f.kill, 3, 5, []int{0}}, // all down: the first tier and nothing else
		{f.revive, 0, 30, []int{0}},
		{f.revive, 3, 30, []int{0}},
	}
	for _, s := range steps {
		s.do(s.who)
		k.answers(s.ttl, f.some(s.want...)...)
	}
}

func TestMinHealthy(t *testing.T) {
	f := newFarm(t, 5, listening)
	k := startChecked(t, rule("tier 127.1.0.1 127.1.0.2 127.1.0.3", "min_healthy 50%", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(5, 0)
	k.answers(30, f.some(0, 1, 2)...)
	f.kill(0)
	k.answers(5, f.some(1, 2)...)
	f.kill(1) // one of three is less than half
	k.answers(5, f.some(3, 4)...)
	f.kill(3) // one of two is half
	k.answers(5, f.some(4)...)
	f.kill(4) // no tier has enough: the first with anybody
	k.answers(5, f.some(2)...)
	f.revive(0)
	k.answers(5, f.some(0, 2)...)
}

// Members of weight 0 answer where no other can.
func TestStandby(t *testing.T) {
	f := newFarm(t, 3, listening)
	k := startChecked(t, rule("policy weighted", "weight 127.1.0.3 0", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(3, 0)
	k.answers(30, f.some(0, 1)...)
	f.kill(0)
	k.answers(5, f.some(1)...) // D U U
	f.kill(2)
	k.verdicts(1, 2)
	k.answers(5, f.some(1)...) // D U D
	f.revive(2)
	f.kill(1)
	k.answers(5, f.some(2)...) // D D U
	f.kill(2)
	k.answers(5, f.some(0, 1)...) // D D D
	f.revive(0)
	f.revive(1)
	k.answers(30, f.some(0, 1)...) // U U D
	k.verdicts(2, 1)
}

// Shares are over those that are not down.
func TestWeightsOfTheHealthy(t *testing.T) {
	f := newFarm(t, 3, listening)
	k := startChecked(t, rule("policy weighted", "weight 127.1.0.1 3", "weight 127.1.0.3 2", f.check("tcp", "")), "cache", "file "+zone(t, "example.org.", f.as("www")))
	shares := func(want leads) {
		t.Helper()
		lead := leads{}
		for range 60 {
			lead.add(k.ask(dns.TypeA), dns.TypeA)
		}
		if fmt.Sprint(lead) != fmt.Sprint(want) {
			t.Errorf("leads are %v, want %v", lead, want)
		}
	}
	k.verdicts(3, 0)
	shares(leads{"127.1.0.1": 30, "127.1.0.2": 10, "127.1.0.3": 20})
	f.kill(2)
	k.answers(5, f.some(0, 1)...)
	shares(leads{"127.1.0.1": 45, "127.1.0.2": 15})
	f.revive(2)
	k.answers(30, f.addrs...)
	shares(leads{"127.1.0.1": 30, "127.1.0.2": 10, "127.1.0.3": 20})
}

func TestPreferredAndHealthy(t *testing.T) {
	f := newFarm(t, 4, listening)
	k := startChecked(t, rule("prefer 127.1.0.4 127.1.0.2/31", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	leaders := func(want ...string) {
		t.Helper()
		lead := leads{}
		for range 12 {
			lead.add(k.ask(dns.TypeA), dns.TypeA)
		}
		lead.exactly(t, len(want), 12/len(want))
		for _, a := range want {
			if lead[a] == 0 {
				t.Errorf("leads are %v, want %v", lead, want)
			}
		}
	}
	k.verdicts(4, 0)
	leaders(f.addrs[3])
	f.kill(3)
	k.answers(5, f.some(0, 1, 2)...)
	leaders(f.some(1, 2)...)
	f.kill(1)
	k.answers(5, f.some(0, 2)...)
	leaders(f.addrs[2])
	f.kill(2)
	k.answers(5, f.some(0)...)
	f.revive(3)
	k.answers(5, f.some(0, 3)...)
	leaders(f.addrs[3])
}

// The dead do not take a place from the living.
func TestAnswersOfTheHealthy(t *testing.T) {
	f := newFarm(t, 5, listening)
	k := startChecked(t, rule("answers 2", f.check("tcp", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(5, 0)
	f.kill(1)
	f.kill(4)
	k.verdicts(3, 2)
	lead, seen := leads{}, leads{}
	for range 30 {
		reply := k.ask(dns.TypeA)
		lead.add(reply, dns.TypeA)
		if got := members(reply, dns.TypeA); len(got) != 2 || !onlyTTL(reply.Answer, 5) {
			t.Fatalf("answer is %v, want two members with TTL 5", got)
		}
		for _, a := range members(reply, dns.TypeA) {
			seen[a]++
		}
	}
	lead.exactly(t, 3, 10)
	seen.exactly(t, 3, 20)
	f.kill(0)
	f.kill(2)
	k.answers(5, f.addrs[3])
}

// A signed RRset keeps its members: a dead one goes last, and the signature verifies.
func TestSignedAnswersKeepTheDead(t *testing.T) {
	key, base := signingKey(t)
	f := newFarm(t, 4, listening)
	k := startChecked(t, rule(f.check("tcp", "")), "cache", "dnssec {\n key file "+base+"\n }", "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(4, 0)
	f.kill(1)
	k.answers(5, f.some(0, 2, 3)...) // who asks without DO gets no signatures, hence no dead
	lead := leads{}
	for range 12 {
		reply := k.c.Ask(query("www.example.org.", dns.TypeA).SetEdns0(4096, true))
		got := members(reply, dns.TypeA)
		if verify(t, key, reply) != 1 || len(got) != 4 || got[3] != f.addrs[1] || !onlyTTL(reply.Answer, 5) {
			t.Fatalf("reply is %v, want four members, %s last, with TTL 5, and a signature", reply, f.addrs[1])
		}
		lead.add(reply, dns.TypeA)
	}
	lead.exactly(t, 3, 4)
	f.revive(1)
	k.answers(30, f.addrs...)
	if k.grown(responses("example.org.", "", "sealed")) != 12 {
		t.Errorf("%v answers counted as sealed, want 12", k.grown(responses("example.org.", "", "sealed")))
	}
}

// AD says that the RRset was validated, which is not true of a part of it.
func TestADIsClearedWhereTheDeadAreRemoved(t *testing.T) {
	f := newFarm(t, 2, listening)
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.AuthenticatedData = true
		if r.Question[0].Qtype == dns.TypeA {
			for _, a := range f.addrs {
				m.Answer = append(m.Answer, rr(t, "www.example.org. 60 IN A "+a))
			}
		}
		w.WriteMsg(m)
	})
	ad := func(k *checked) bool {
		q := query("www.example.org.", dns.TypeA)
		q.AuthenticatedData = true
		return k.c.Ask(q).AuthenticatedData
	}
	for _, mode := range []string{"open", "nodata", "fallback 192.0.2.250"} {
		f.revive(0)
		f.revive(1)
		k := startChecked(t, rule("all_down "+mode, f.check("tcp", "")), "forward . "+up)
		k.verdicts(2, 0)
		if !ad(k) {
			t.Error("AD is clear though all members are there")
		}
		f.kill(0)
		k.verdicts(1, 1)
		if ad(k) {
			t.Error("AD is set though a member was removed")
		}
		f.kill(1)
		k.verdicts(0, 2)
		if got := ad(k); got != (mode == "open") {
			t.Errorf("all_down %s: AD is %v", mode, got)
		}
		k.stop()
	}
}

// The glue of an SRV record loses its dead addresses while the target has others.
func TestDeadGlueIsRemoved(t *testing.T) {
	f := newFarm(t, 3, listening)
	k := startChecked(t, rule(f.check("tcp", "")), "file "+zone(t, "example.org.",
		"_sip._tcp IN SRV 1 0 5060 a\n_sip._tcp IN SRV 1 0 5060 b\n"+f.as("a", 0, 1)+f.as("b", 2)+f.as("www")))
	glue := func(ttl uint32, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("glue is %v", want), func() bool {
			reply := k.c.Ask(query("_sip._tcp.example.org.", dns.TypeSRV))
			got := dataOf(reply.Extra, dns.TypeA)
			slices.Sort(got)
			if len(members(reply, dns.TypeSRV)) != 2 {
				t.Fatalf("reply is %v, want both SRV records", reply)
			}
			ofA := slices.DeleteFunc(slices.Clone(reply.Extra), func(rr dns.RR) bool { return rr.Header().Name != "a.example.org." })
			return slices.Equal(got, want) && onlyTTL(ofA, ttl)
		})
	}
	k.verdicts(3, 0)
	glue(30, f.addrs...)
	f.kill(0)
	glue(5, f.some(1, 2)...)
	f.revive(0)
	glue(30, f.addrs...)
}

// While backends come and go, no answer is empty, and none fails.
func TestNoAnswerIsEmptyWhileBackendsFlap(t *testing.T) {
	onlyWhole(t, "it takes long")
	for _, options := range []string{"", "answers 1", "policy weighted\nweight 127.1.0.1 0\ntier 127.1.0.2"} {
		f := newFarm(t, 3, listening)
		k := startChecked(t, rule(options, f.check("tcp", "", "rise 1", "fall 1")), "cache", "file "+zone(t, "example.org.", f.as("www")))
		k.verdicts(3, 0)
		crowd := newCrowd(t, k.server, 4)
		stop := crowd.askOn()
		for i := range 3 {
			for j := range f.addrs {
				f.kill((i + j) % 3)
			}
			eventually(t, "all are down", func() bool { return counts(t, k.metrics)[endpoints("down")] == 3 })
			for j := range f.addrs {
				f.revive((i + j) % 3)
			}
			eventually(t, "all are up", func() bool { return counts(t, k.metrics)[endpoints("up")] == 3 })
		}
		crowd.wait(100)
		if lead := stop(); lead["nobody"] != 0 {
			t.Errorf("%q: leads are %v, want no empty answer", options, lead)
		}
		k.stop()
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// rawUpstream is a name server that answers every query with octets: over UDP as they are, over TCP
// behind their length.
func rawUpstream(t *testing.T, reply func(query []byte) []byte) string {
	t.Helper()
	packets, streams := testserver.ListenBoth(t)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	wg.Go(func() {
		query := make([]byte, dns.MaxMsgSize)
		for {
			n, from, err := packets.ReadFrom(query)
			if err != nil {
				return
			}
			packets.WriteTo(reply(query[:n]), from)
		}
	})
	wg.Go(func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() }) // forward keeps it
			c.SetDeadline(time.Now().Add(4 * patience))
			wg.Go(func() { answerRaw(c, reply) })
		}
	})
	t.Cleanup(func() {
		packets.Close()
		streams.Close()
	})
	return packets.LocalAddr().String()
}

func answerRaw(c net.Conn, reply func([]byte) []byte) {
	defer c.Close()
	for {
		var size uint16
		if binary.Read(c, binary.BigEndian, &size) != nil {
			return
		}
		query := make([]byte, size)
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		message := reply(query)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)); err != nil {
			return
		}
	}
}

// malformed returns replies to a query that are wrong in one way each. The question is that of the
// query, at 12.
func malformed(query []byte) map[string][]byte {
	// head is a header with some counts and the question: name, type and class, without OPT.
	end := 12
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	head := func(answers, authority, additional uint16) []byte {
		b := slices.Clone(query[:end+5])
		b[2], b[3] = 0x84, 0
		binary.BigEndian.PutUint16(b[6:], answers)
		binary.BigEndian.PutUint16(b[8:], authority)
		binary.BigEndian.PutUint16(b[10:], additional)
		return b
	}
	a := func(name string, size int, data string) string {
		return name + "\x00\x01\x00\x01\x00\x00\x00\x3c" + string([]byte{byte(size >> 8), byte(size)}) + data
	}
	with := func(b []byte, text ...string) []byte { return append(b, strings.Join(text, "")...) }
	at := len(head(0, 0, 0))
	self := string([]byte{0xC0 | byte(at>>8), byte(at)})
	good := a("\xC0\x0C", 4, "\xC0\x00\x02\x01")
	return map[string][]byte{
		"nothing":                   {},
		"half a header":             query[:6],
		"a header alone":            head(0, 0, 0)[:12],
		"more answers than there":   with(head(3, 0, 0), good),
		"65,535 answers":            with(head(65535, 65535, 65535), good),
		"a name that is itself":     with(head(2, 0, 0), a(self, 4, "\xC0\x00\x02\x01"), good),
		"names that loop":           with(head(2, 0, 0), a(string([]byte{1, 'a', 0xC0 | byte(at>>8), byte(at)}), 4, "\xC0\x00\x02\x01"), good),
		"a pointer ahead":           with(head(2, 0, 0), a("\xFF\xFF", 4, "\xC0\x00\x02\x01"), good),
		"a label type unheard of":   with(head(2, 0, 0), a("\x80abc", 4, "\xC0\x00\x02\x01"), good),
		"an address of 3 octets":    with(head(2, 0, 0), a("\xC0\x0C", 3, "\xC0\x00\x02"), good),
		"an address of 5 octets":    with(head(2, 0, 0), a("\xC0\x0C", 5, "\xC0\x00\x02\x01\x01"), good),
		"an address of none":        with(head(2, 0, 0), a("\xC0\x0C", 0, ""), good),
		"data that is longer":       with(head(2, 0, 0), good, a("\xC0\x0C", 65535, "\xC0")),
		"a CNAME to itself":         with(head(2, 0, 0), "\xC0\x0C\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xC0\x0C", good),
		"garbage behind":            with(head(2, 0, 0), good, good, strings.Repeat("garbage", 50)),
		"two OPT records":           with(head(2, 0, 2), good, good, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"),
		"a client subnet too short": with(head(2, 0, 1), good, good, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x07\x00\x08\x00\x03\x00\x01\x20"),
		"a bad HTTPS record":        with(head(2, 0, 0), good, "\xC0\x0C\x00\x41\x00\x01\x00\x00\x00\x3c\x00\x08\x00\x01\x00\x00\x04\x00\x03\x01"),
	}
}

// hostileRule has all that looks at answers.
const hostileRule = "balance {\n policy sticky\n prefer 10.0.0.0/8 from 127.0.0.0/8\n answers 2\n ttl 30\n all_down nodata\n ecs 127.0.0.0/8\n" +
	" health_check tcp 9 {\n allow 10.0.0.0/8\n }\n}"

// Whatever an upstream sends, over UDP or TCP, a client gets what it sent as far as that is a DNS
// message, else SERVFAIL or FORMERR; and the server answers on, with the same as before to those
// who ask for something else.
func TestMalformedAnswers(t *testing.T) {
	var names []string
	for name := range malformed(append(make([]byte, 12), 0, 0, 1, 0, 1)) {
		names = append(names, name)
	}
	slices.Sort(names)
	up := rawUpstream(t, func(q []byte) []byte {
		m := new(dns.Msg)
		if m.Unpack(q) != nil || !strings.HasPrefix(m.Question[0].Name, "m") {
			reply := new(dns.Msg).SetReply(m)
			reply.Answer = []dns.RR{rr(t, m.Question[0].Name+" 60 IN A 192.0.2.1"), rr(t, m.Question[0].Name+" 60 IN A 192.0.2.2")}
			packed, _ := reply.Pack()
			return packed
		}
		var number int
		fmt.Sscanf(m.Question[0].Name, "m%d.", &number)
		return malformed(q)[names[number]]
	})
	s := start(t, block(hostileRule, "forward . "+up+" {\n max_fails 0\n }"))
	tcp := start(t, block(hostileRule, "forward . "+up+" {\n max_fails 0\n force_tcp\n }"))
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most is waiting: forward hopes that another reply will come
			for _, s := range []*server{s, tcp} {
				q := query(fmt.Sprintf("m%d.example.org.", i), dns.TypeA)
				q.SetEdns0(4096, false)
				checkHostileReply(t, dial(t, "tcp", s.tcp(), "").Ask(q))
				eventually(t, "after it the server answers, within the time that forward has", func() bool {
					return len(members(ask(t, s.udp(), "well.example.org.", dns.TypeA), dns.TypeA)) == 2
				})
			}
		})
	}
}

func checkHostileReply(t *testing.T, reply *dns.Msg) {
	t.Helper()
	switch {
	case len(reply.Answer) == 0 && (reply.Rcode == dns.RcodeServerFailure || reply.Rcode == dns.RcodeFormatError):
	case reply.Rcode != dns.RcodeSuccess || len(reply.Answer) > 2:
		t.Errorf("reply is %v", reply)
	}
	for _, answer := range reply.Answer {
		if a, ok := answer.(*dns.A); ok && len(a.A) > 0 && a.A.String() != "192.0.2.1" {
			t.Errorf("%v was never sent", a)
		}
	}
}

// Queries that are odd are answered, or dropped, and the server answers on.
func TestMalformedQueries(t *testing.T) {
	s := start(t, block(hostileRule, "file "+zone(t, "example.org.", threeAs)))
	good := pack(t, query("www.example.org.", dns.TypeA))
	for name, wire := range malformed(good) {
		conn, err := net.Dial("udp", s.udp())
		if err != nil {
			t.Fatal(err)
		}
		wire = slices.Clone(wire)
		if len(wire) > 2 {
			wire[2] &^= 0x80
		}
		conn.Write(wire)
		conn.Close()
		if got := members(ask(t, s.udp(), "www.example.org.", dns.TypeA), dns.TypeA); len(got) != 2 {
			t.Fatalf("after %s the server answers with %v", name, got)
		}
	}
}

// addressRecords returns n addresses of a family as lines of a zone, and as text, sorted as the
// members are.
func addressRecords(family uint16, n int) (lines string, sorted []string) {
	var b strings.Builder
	for i := range n {
		addr := fmt.Sprintf("127.9.%d.%d", i>>8, i&255)
		if family == dns.TypeAAAA {
			addr = net.ParseIP(fmt.Sprintf("2001:db8::%x", i)).String()
		}
		sorted = append(sorted, addr)
		fmt.Fprintf(&b, "www IN %s %s\n", dns.TypeToString[family], addr)
	}
	return b.String(), sorted
}

// An RRset that fills the largest message rotates as strictly as a small one, from a file and
// through forward. So many AAAA records as A records do not fit: what cannot be sent is cut by the
// server, behind the lead.
func TestRRsetsAsLargeAsAMessage(t *testing.T) {
	as, sortedA := addressRecords(dns.TypeA, 4000)
	fitting, sortedAAAA := addressRecords(dns.TypeAAAA, 2300)
	tooMany, sortedAll := addressRecords(dns.TypeAAAA, 4000)
	for _, tc := range []struct {
		name    string
		records string
		qtype   uint16
		sorted  []string
		cut     bool
	}{
		{"4,000 A", as, dns.TypeA, sortedA, false},
		{"2,300 AAAA", fitting, dns.TypeAAAA, sortedAAAA, false},
		{"4,000 AAAA, 112,000 octets", tooMany, dns.TypeAAAA, sortedAll, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			db := "file " + zone(t, "example.org.", tc.records)
			below := start(t, block(db))
			for upstream, line := range map[string]string{"file": db, "forward": "forward . " + below.tcp() + " {\n force_tcp\n }"} {
				if tc.cut && upstream == "forward" {
					continue // what comes is cut already, and left alone
				}
				s := start(t, block("balance", line))
				c := dial(t, "tcp", s.tcp(), "")
				var led []string
				for range 5 {
					reply := c.Ask(query("www.example.org.", tc.qtype))
					got := members(reply, tc.qtype)
					if len(got) == 0 {
						t.Fatalf("%s: no answer: %v", upstream, reply.MsgHdr)
					}
					led = append(led, got[0])
					if reply.Truncated != tc.cut || !tc.cut && !isRotation(got, tc.sorted) {
						t.Fatalf("%s: %d members, truncated %v", upstream, len(got), reply.Truncated)
					}
				}
				follows(t, tc.sorted, led)
			}
		})
	}
}

// Every option bears RRsets of 4,000 records, and what is kept and probed of them has its bounds.
func TestEveryOptionOnAnRRsetAsLargeAsAMessage(t *testing.T) {
	records, sorted := addressRecords(dns.TypeA, 4000)
	db := "file " + zone(t, "example.org.", records)
	const endpoints = 100
	for name, tc := range map[string]struct {
		options   string
		members   int
		mayBeDown int
	}{
		"round_robin":      {"", 4000, 0},
		"weighted":         {"policy weighted\n weight 127.9.0.0/24 65535\n weight 127.9.1.0/24 3\n", 4000, 0},
		"random":           {"policy random\n", 4000, 0},
		"sticky":           {"policy sticky\n", 4000, 0},
		"prefer":           {"prefer 127.9.1.0/24 127.9.2.0/24\n", 4000, 0},
		"tier":             {"tier 127.9.1.0/24\n", 256, 0},
		"answers":          {"answers 8\n", 8, 0},
		"weighted answers": {"policy weighted\n answers 8\n weight 127.9.0.0/24 65535\n weight 127.9.1.0/24 3\n", 8, 0},
		"health_check":     {fmt.Sprintf("health_check tcp 9 {\n allow 127.9.15.0/24\n max_endpoints %d\n max_in_flight 4\n interval 1h\n timeout 10ms\n }\n", endpoints), 4000, endpoints},
	} {
		t.Run(name, func(t *testing.T) {
			metrics := "127.0.0.1:" + freePort(t)
			s := start(t, block("prometheus "+metrics, "balance {\n "+tc.options+"}", db))
			c := dial(t, "tcp", s.tcp(), "")
			var before, after runtime.MemStats
			var last []string
			for i := range 30 {
				if i == 10 {
					runtime.GC()
					runtime.ReadMemStats(&before)
				}
				last = members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)
				distinct := slices.Clone(last)
				slices.Sort(distinct)
				if down := tc.members - len(last); down < 0 || down > tc.mayBeDown || len(slices.Compact(distinct)) != len(last) {
					t.Fatalf("%d members, want %d, all different", len(last), tc.members)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
				t.Errorf("20 answers more keep %d bytes", grown)
			}
			known := counts(t, metrics)
			if n := known[`coredns_balance_endpoints{state="up",zone="example.org."}`] + known[`coredns_balance_endpoints{state="down",zone="example.org."}`] +
				known[`coredns_balance_endpoints{state="unknown",zone="example.org."}`]; n > endpoints {
				t.Errorf("%v endpoints are probed, want at most %d", n, endpoints)
			}
			if !slices.Contains(sorted, last[0]) {
				t.Errorf("%s was never in the zone", last[0])
			}
		})
	}
}

// An upstream's answer of 65,535 octets passes, in order.
func TestAMessageOf65535Octets(t *testing.T) {
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Answer = []dns.RR{rr(t, r.Question[0].Name+" 60 IN A 192.0.2.1"), rr(t, r.Question[0].Name+" 60 IN A 192.0.2.2")}
		fill := &dns.TXT{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}}
		m.Extra = []dns.RR{fill}
		for m.Len() < dns.MaxMsgSize {
			fill.Txt = append(fill.Txt, strings.Repeat("x", min(255, max(0, dns.MaxMsgSize-m.Len()-1))))
		}
		w.WriteMsg(m)
	})
	s := start(t, block("balance", "forward . "+up+" {\n force_tcp\n }"))
	c := dial(t, "tcp", s.tcp(), "")
	var led []string
	for range 4 {
		reply := c.Ask(query("www.example.org.", dns.TypeA))
		if reply.Truncated || len(reply.Extra) != 1 {
			t.Fatalf("reply of %d octets is cut", reply.Len())
		}
		led = append(led, members(reply, dns.TypeA)[0])
	}
	follows(t, []string{"192.0.2.1", "192.0.2.2"}, led)
}

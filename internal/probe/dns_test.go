// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serveUDP answers every packet with those that answer returns.
func serveUDP(t testing.TB, answer func(query []byte) [][]byte) uint16 {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		packet := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(packet)
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue // of a prober that has left
			}
			if err != nil {
				return
			}
			for _, p := range answer(packet[:n]) {
				conn.WriteTo(p, from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	return portOf(conn.LocalAddr())
}

// answersDNS answers with messages, each what change makes of an empty NOERROR.
func answersDNS(changes ...func(*dns.Msg)) func([]byte) [][]byte {
	return func(query []byte) (packets [][]byte) {
		for _, change := range changes {
			var q, m dns.Msg
			if q.Unpack(query) != nil {
				return nil
			}
			m.SetReply(&q)
			change(&m)
			packed, err := m.Pack()
			if err != nil {
				return nil
			}
			packets = append(packets, packed)
		}
		return packets
	}
}

func noerror(*dns.Msg) {}

func rcode(code int) func(*dns.Msg) { return func(m *dns.Msg) { m.Rcode = code } }

func answersBytes(packets ...string) func([]byte) [][]byte {
	return func([]byte) (all [][]byte) {
		for _, p := range packets {
			all = append(all, []byte(p))
		}
		return all
	}
}

func wrongID(m *dns.Msg)   { m.Id++ }
func wrongName(m *dns.Msg) { m.Question[0].Name = "other.example." }
func wrongType(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX }
func isQuery(m *dns.Msg)   { m.Response = false }
func isNotify(m *dns.Msg)  { m.Opcode = dns.OpcodeNotify }
func bare(m *dns.Msg)      { m.Question = nil }

func withA(m *dns.Msg) {
	m.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
		A:   local.Addr().AsSlice(),
	}}
}

// cut ends a reply in the midst of its record, with or without TC.
func cut(truncated bool) func([]byte) [][]byte {
	return func(query []byte) [][]byte {
		packets := answersDNS(func(m *dns.Msg) { withA(m); m.Truncated = truncated })(query)
		packets[0] = packets[0][:len(packets[0])-3]
		return packets
	}
}

// floods answers with as many packets as a probe reads, each what answer begins with.
func floods(answer func([]byte) [][]byte) func([]byte) [][]byte {
	return func(query []byte) [][]byte {
		return slices.Repeat(answer(query)[:1], maxMisfits)
	}
}

func TestDNS(t *testing.T) {
	const misfit = "no answer within 1s; ignored a reply that does not fit the query"
	unnamed, named := DNS{}, DNS{Name: "Example.org"}
	for _, tc := range []struct {
		name    string
		server  func([]byte) [][]byte
		check   DNS
		timeout time.Duration
		want    string
	}{
		{"any: NOERROR", answersDNS(noerror), unnamed, patience, ""},
		{"any: REFUSED", answersDNS(rcode(dns.RcodeRefused)), unnamed, patience, ""},
		{"any: REFUSED without a question", answersDNS(func(m *dns.Msg) { bare(m); m.Rcode = dns.RcodeRefused }), unnamed, patience, ""},
		{"any: SERVFAIL", answersDNS(rcode(dns.RcodeServerFailure)), unnamed, patience, ""},
		{"named: NOERROR", answersDNS(withA), named, patience, ""},
		{"named: no data", answersDNS(noerror), named, patience, ""},
		{"named: NXDOMAIN", answersDNS(rcode(dns.RcodeNameError)), named, patience, "rcode NXDOMAIN, want NOERROR"},
		{"named: SERVFAIL", answersDNS(rcode(dns.RcodeServerFailure)), named, patience, "rcode SERVFAIL, want NOERROR"},
		{"named: REFUSED without a question", answersDNS(func(m *dns.Msg) { bare(m); m.Rcode = dns.RcodeRefused }), named, patience,
			"rcode REFUSED, want NOERROR"},
		{"named: unheard-of rcode", answersDNS(rcode(14)), named, patience, "rcode 14, want NOERROR"},
		{"named: other case", answersDNS(func(m *dns.Msg) { m.Question[0].Name = "eXample.ORG." }), named, patience, ""},
		{"truncated", answersDNS(func(m *dns.Msg) { m.Truncated = true }), named, patience, ""},
		{"truncated in a record", cut(true), named, patience, ""},
		{"misfits first", answersDNS(wrongID, wrongName, noerror), named, patience, ""},

		{"silent", answersBytes(), unnamed, brief, "no answer within 1s"},
		{"wrong ID", answersDNS(wrongID), unnamed, brief, misfit},
		{"wrong name", answersDNS(wrongName), unnamed, brief, misfit},
		{"wrong type", answersDNS(wrongType), named, brief, misfit},
		{"not a response", answersDNS(isQuery), named, brief, misfit},
		{"not a query's", answersDNS(isNotify), named, brief, misfit},
		{"NOERROR without a question", answersDNS(bare), named, brief, misfit},
		{"cut without TC", cut(false), named, patience, "malformed reply"},
		{"cut in the question", func(q []byte) [][]byte { q[2] |= 0x80; return [][]byte{q[:len(q)-1]} }, named, brief, misfit},
		{"a flood", floods(answersDNS(wrongID)), named, patience,
			"no answer in 64 replies; ignored replies that do not fit the query"},
		{"empty", answersBytes(""), unnamed, brief, misfit},
		{"garbage", answersBytes("x", "garbage garbage garbage"), unnamed, brief,
			"no answer within 1s; ignored replies that do not fit the query"},
		{"an echo", func(q []byte) [][]byte { return [][]byte{q} }, unnamed, brief, misfit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.check.Port = serveUDP(t, tc.server)
			judges(t, must(t)(NewDNS(tc.check)), tc.timeout, tc.want)
		})
	}
}

// The kernel tells a connected socket at once that nobody listens.
func TestDNSRefused(t *testing.T) {
	conn, err := net.Dial("udp", "127.0.0.1:9") // takes the port, so that nobody else does, and listens to one other only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := must(t)(NewDNS(DNS{Port: portOf(conn.LocalAddr())}))
	if got := verdict(t, c, patience); got != "connection refused" {
		t.Errorf("got %q", got)
	}
}

func TestDNSQuery(t *testing.T) {
	asked := make(chan dns.Question, 1)
	port := serveUDP(t, func(query []byte) [][]byte {
		var m dns.Msg
		if m.Unpack(query) == nil && m.RecursionDesired {
			asked <- m.Question[0]
		}
		return answersDNS(noerror)(query)
	})
	for _, tc := range []struct {
		check DNS
		want  dns.Question
	}{
		{DNS{}, dns.Question{Name: ".", Qtype: dns.TypeNS, Qclass: dns.ClassINET}},
		{DNS{Name: "Example.org"}, dns.Question{Name: "example.org.", Qtype: dns.TypeA, Qclass: dns.ClassINET}},
		{DNS{Name: "example.org.", Type: dns.TypeSOA}, dns.Question{Name: "example.org.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET}},
	} {
		tc.check.Port = port
		if got := verdict(t, must(t)(NewDNS(tc.check)), patience); got != "" {
			t.Fatal(got)
		}
		if got := next(t, asked); got != tc.want {
			t.Errorf("asked %v, want %v", got, tc.want)
		}
	}
}

func TestDNSOptions(t *testing.T) {
	for _, tc := range []struct {
		check DNS
		want  string
	}{
		{DNS{}, `port: "0": want 1 to 65535`},
		{DNS{Port: 53, Type: dns.TypeSOA}, `type: "SOA" without a name: want both or neither`},
		{DNS{Port: 53, Name: "a..b"}, `name: "a..b": want a domain name`},
		{DNS{Port: 53, Name: "example.org", Type: dns.TypeAXFR}, `type: "AXFR": want a type of data`},
	} {
		if _, err := NewDNS(tc.check); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}

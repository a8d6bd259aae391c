// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// twins starts two servers that differ in one line: the second has balance too.
func twins(t *testing.T, lines ...string) (without, with *server) {
	t.Helper()
	return start(t, block(lines...)), start(t, block(append([]string{"balance {\n answers 1\n ttl 1\n }"}, lines...)...))
}

// exchange sends a query over TCP and returns the messages that come back, as they are, until a
// question that is sent after it is answered: some queries get no answer, and transfers get many.
func exchange(t *testing.T, addr string, q *dns.Msg) [][]byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	end := query("ns.example.org.", dns.TypeA)
	end.Id = q.Id + 1
	for _, m := range []*dns.Msg{q, end} {
		packed := pack(t, m)
		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
	}
	var messages [][]byte
	for {
		message := readMessage(t, conn)
		if binary.BigEndian.Uint16(message) == end.Id {
			return messages
		}
		messages = append(messages, message)
	}
}

func readMessage(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	var size uint16
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(conn, message); err != nil {
		t.Fatal(err)
	}
	return message
}

func pack(t *testing.T, m *dns.Msg) []byte {
	t.Helper()
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// A zone has its addresses one to a name elsewhere: file hands out the types of a name in no order.
func TestTransfersAreUntouched(t *testing.T) {
	records := threeAs + "two IN AAAA 2001:db8::1\ntwo IN AAAA 2001:db8::2\n"
	records += "mx IN MX 10 a\nmx IN MX 10 b\nalias IN CNAME www\n"
	many := make([]string, 3000) // more than one message
	for i := range many {
		many[i] = net.IPv4(10, 0, byte(i>>8), byte(i)).String()
	}
	records += as("many", many...)
	// The apex must have one type beside the SOA, which goes first.
	db := file(t, "db", "$ORIGIN example.org.\n$TTL 300\n@ IN SOA ns hostmaster 7 7200 3600 1209600 60\n@ IN NS ns\nns IN A 192.0.2.53\n"+records)
	without, with := twins(t, "transfer {\n to *\n }", "file "+db)

	axfr := new(dns.Msg).SetAxfr("example.org.")
	behind := new(dns.Msg).SetIxfr("example.org.", 6, "ns.example.org.", "hostmaster.example.org.")
	current := new(dns.Msg).SetIxfr("example.org.", 7, "ns.example.org.", "hostmaster.example.org.")
	for name, q := range map[string]*dns.Msg{"AXFR": axfr, "IXFR": behind, "IXFR of what is there": current} {
		want, got := exchange(t, without.tcp(), q), exchange(t, with.tcp(), q)
		if !slices.EqualFunc(want, got, bytes.Equal) {
			t.Errorf("%s: %d messages differ from the %d without balance", name, len(got), len(want))
		}
		if q != current && len(want) < 2 {
			t.Errorf("%s: %d messages, want several for the test to tell something", name, len(want))
		}
	}
}

// everything is a zone with what is not ours to touch.
const everything = threeAs + "only IN A 192.0.2.9\ntxt IN TXT one\ntxt IN TXT two\ntxt IN TXT three\n" +
	"sub IN NS ns.sub\nsub IN NS ns2.sub\nns.sub IN A 192.0.2.10\n" +
	"https IN HTTPS 1 . alpn=h2 port=8443\nhttps IN HTTPS 2 . alpn=h3\n" +
	"dangling IN CNAME nowhere\n"

// Whatever is not a choice of members goes out as it came, to the byte.
func TestOtherAnswersAreUntouched(t *testing.T) {
	without, with := twins(t, "chaos", "file "+zone(t, "example.org.", everything))
	edns := func(q *dns.Msg) *dns.Msg { return q.SetEdns0(1232, true) }
	class := func(q *dns.Msg, class uint16) *dns.Msg { q.Question[0].Qclass = class; return q }
	opcode := func(q *dns.Msg, opcode int) *dns.Msg { q.Opcode = opcode; return q }
	tests := map[string]*dns.Msg{
		"one member":         query("only.example.org.", dns.TypeA),
		"one member, EDNS":   edns(query("only.example.org.", dns.TypeA)),
		"NODATA":             query("only.example.org.", dns.TypeAAAA),
		"NODATA, EDNS":       edns(query("only.example.org.", dns.TypeAAAA)),
		"NODATA of many":     query("www.example.org.", dns.TypeMX),
		"NXDOMAIN":           query("nobody.example.org.", dns.TypeA),
		"dangling":           query("dangling.example.org.", dns.TypeA),
		"TXT":                query("txt.example.org.", dns.TypeTXT),
		"HTTPS":              query("https.example.org.", dns.TypeHTTPS),
		"SOA":                query("example.org.", dns.TypeSOA),
		"NS":                 query("example.org.", dns.TypeNS),
		"delegation":         query("www.sub.example.org.", dns.TypeA),
		"ANY":                query("www.example.org.", dns.TypeANY),
		"chaos class":        class(query("www.example.org.", dns.TypeTXT), dns.ClassCHAOS),
		"hesiod class":       class(query("www.example.org.", dns.TypeA), dns.ClassHESIOD),
		"ANY class":          class(query("www.example.org.", dns.TypeA), dns.ClassANY),
		"NOTIFY":             opcode(query("example.org.", dns.TypeSOA), dns.OpcodeNotify),
		"UPDATE":             new(dns.Msg).SetUpdate("example.org."),
		"status":             opcode(query("www.example.org.", dns.TypeA), dns.OpcodeStatus),
		"elsewhere":          query("www.example.com.", dns.TypeA),
		"unknown EDNS":       badVersion(query("www.example.org.", dns.TypeA)),
		"DS":                 query("sub.example.org.", dns.TypeDS),
		"meta type":          query("www.example.org.", dns.TypeMAILB),
		"type of the future": query("www.example.org.", 65280),
	}
	for name, q := range tests {
		want, got := exchange(t, without.tcp(), q), exchange(t, with.tcp(), q)
		if !slices.EqualFunc(want, got, bytes.Equal) {
			t.Errorf("%s: differs from what comes without balance:\n%s", name, cmp.Diff(unpacked(t, want), unpacked(t, got)))
		}
	}
}

func badVersion(q *dns.Msg) *dns.Msg {
	q.SetEdns0(1232, false)
	q.IsEdns0().SetVersion(7)
	return q
}

func unpacked(t *testing.T, messages [][]byte) (text []string) {
	t.Helper()
	for _, packed := range messages {
		m := new(dns.Msg)
		if err := m.Unpack(packed); err != nil {
			t.Fatal(err)
		}
		text = append(text, m.String())
	}
	return text
}

// A balanced answer differs from the one below in the order of its members only.
func TestEverythingButTheOrderStays(t *testing.T) {
	lines := []string{"file " + zone(t, "example.org.", threeAs+"@ IN MX 10 www\n@ IN MX 10 ns\nalias IN CNAME www\n")}
	without, with := start(t, block(lines...)), start(t, block(append(lines, "balance")...))
	edns := func(q *dns.Msg, size uint16, do bool) *dns.Msg {
		q.SetEdns0(size, do)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
		return q
	}
	for _, q := range []*dns.Msg{
		query("www.example.org.", dns.TypeA),
		edns(query("www.example.org.", dns.TypeA), 1232, true),
		edns(query("www.example.org.", dns.TypeA), 4096, false),
		edns(query("alias.example.org.", dns.TypeA), 1232, true),
		edns(query("example.org.", dns.TypeMX), 1232, false),
	} {
		want, got := ask2(t, without, q), ask2(t, with, q)
		sameRecords(t, got.Answer, want.Answer)
		sameRecords(t, got.Ns, want.Ns)
		sameRecords(t, got.Extra, want.Extra)
		if got.MsgHdr != want.MsgHdr || got.Question[0] != want.Question[0] {
			t.Errorf("header is %v %v, want %v %v", got.MsgHdr, got.Question, want.MsgHdr, want.Question)
		}
		if q.IsEdns0() == nil {
			continue
		}
		opt := got.IsEdns0()
		if opt == nil || opt.Do() != q.IsEdns0().Do() || opt.UDPSize() != q.IsEdns0().UDPSize() {
			t.Errorf("OPT is %v, want that of the query %v", opt, q.IsEdns0())
		}
	}
}

func ask2(t *testing.T, s *server, q *dns.Msg) *dns.Msg {
	t.Helper()
	return dial(t, "udp", s.udp(), "").Ask(q.Copy())
}

// A truncated answer is only there to make the client ask again over TCP.
func TestTruncatedAnswersAreUntouched(t *testing.T) {
	up := upstream(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		for _, a := range threeSorted {
			m.Answer = append(m.Answer, rr(t, "www.example.org. 60 IN A "+a))
		}
		m.Truncated = w.LocalAddr().Network() == "udp"
		w.WriteMsg(m)
	})
	s := start(t, block("balance {\n answers 1\n ttl 1\n }", "forward . "+up))
	for range 4 {
		reply := dial(t, "udp", s.udp(), "").Ask(query("www.example.org.", dns.TypeA))
		if got := members(reply, dns.TypeA); !reply.Truncated || !slices.Equal(got, threeSorted) || reply.Answer[0].Header().Ttl != 60 {
			t.Errorf("answer over UDP is %v, want it as it came", reply)
		}
		reply = dial(t, "tcp", s.tcp(), "").Ask(query("www.example.org.", dns.TypeA))
		if got := members(reply, dns.TypeA); reply.Truncated || len(got) != 1 {
			t.Errorf("answer over TCP is %v, want one member", reply)
		}
	}
}

// An answer that CoreDNS itself has to cut for a small client is cut after it was put in order:
// every member leads, and none is lost for good.
func TestAnswersTooLongForTheClient(t *testing.T) {
	var addrs []string
	for i := range 60 {
		addrs = append(addrs, net.IPv4(192, 0, 2, byte(i+1)).String())
	}
	s := start(t, block("balance", "file "+zone(t, "example.org.", as("www", addrs...))))
	c := dial(t, "udp", s.udp(), "")
	lead := leads{}
	for range 120 {
		reply := c.Ask(query("www.example.org.", dns.TypeA))
		if !reply.Truncated {
			t.Fatalf("60 addresses fit into 512 bytes: %v", reply)
		}
		lead.add(reply, dns.TypeA)
	}
	lead.exactly(t, 60, 2)
	if got := members(dial(t, "tcp", s.tcp(), "").Ask(query("www.example.org.", dns.TypeA)), dns.TypeA); len(got) != 60 {
		t.Errorf("answer over TCP has %d members, want 60", len(got))
	}
}

// TSIG signs what goes out. The client checks it.
func TestSignedTransactionsVerify(t *testing.T) {
	const key, secret = "key.example.", "i9M+00yrECfVZG2qCjr4mPpaGim/Bq+IWMiNrLjUO4Y="
	s := start(t, block("tsig {\n secret "+key+" "+secret+"\n require all\n }", "balance {\n ttl 5\n }", "file "+zone(t, "example.org.",
		threeAs+"@ IN MX 10 a\n@ IN MX 10 b\na IN A 192.0.2.1\na IN A 192.0.2.2\nb IN A 192.0.2.3\nb IN AAAA 2001:db8::1\n")))
	for _, network := range []string{"udp", "tcp"} {
		addr := map[string]string{"udp": s.udp(), "tcp": s.tcp()}[network]
		c := dns.Client{Net: network, Timeout: patience, TsigSecret: map[string]string{key: secret}}
		lead, glue := leads{}, leads{}
		for range 20 {
			q := query("example.org.", dns.TypeMX)
			q.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
			reply, _, err := c.Exchange(q, addr) // an error if the signature does not verify
			if err != nil {
				t.Fatal(err)
			}
			if reply.IsTsig() == nil || reply.Rcode != dns.RcodeSuccess || len(dataOf(reply.Extra, dns.TypeA)) != 3 {
				t.Fatalf("reply is %v, want it signed and with glue", reply)
			}
			lead.add(reply, dns.TypeMX)
			glue[dataOf(reply.Extra, dns.TypeA)[0]]++
		}
		lead.exactly(t, 2, 10)
		if len(glue) < 2 {
			t.Errorf("%s: glue leads with %v, want it to change", network, glue)
		}
	}
	if reply := ask(t, s.udp(), "example.org.", dns.TypeMX); reply.Rcode == dns.RcodeSuccess {
		t.Errorf("an unsigned query is answered with %v, want it refused", reply)
	}
}

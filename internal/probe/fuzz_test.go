// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/miekg/dns"
)

// judged holds whatever comes of a reply to what Prober promises.
func judged(t *testing.T, err error) {
	if err != nil {
		checkText(t, explain(t.Context(), time.Now(), err))
	}
}

func FuzzTCPReply(f *testing.F) {
	f.Add([]byte("220 mail.example.org\r\n"), []byte("220 "))
	f.Add([]byte("\xff\x00"), []byte("\x00"))
	f.Fuzz(func(t *testing.T, reply, text []byte) {
		err := await(bytes.NewReader(reply), text)
		judged(t, err)
		if want := bytes.Contains(reply[:min(len(reply), maxRead)], text); want != (err == nil) {
			t.Errorf("up %t, want %t", err == nil, want)
		}
		if slow := await(iotest.OneByteReader(bytes.NewReader(reply)), text); (slow == nil) != (err == nil) {
			t.Errorf("a byte at a time: %v, at once: %v", slow, err)
		}
	})
}

func FuzzHTTPReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 301 Moved\r\nLocation: /\r\n\r\n"))
	f.Add([]byte("HTTP/0.0 200 OK\r\n\r\nok"))
	f.Add([]byte("SSH-2.0-OpenSSH_9.6\r\n"))
	var probes []*httpProbe
	for _, o := range []HTTP{{}, {Method: "HEAD"}, {Body: "ok"}, {BodyRegex: regexp.MustCompile("^ok$")}} {
		o.Port = 80
		probes = append(probes, must(f)(NewHTTP(o)).protocol.(*httpProbe))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		for _, p := range probes {
			header, err := p.judge(bytes.NewReader(reply))
			checkLoad(t, header)
			judged(t, err)
			if err == nil && !bytes.HasPrefix(reply, []byte("HTTP/1.")) {
				t.Errorf("%q is up", reply)
			}
			if _, slow := p.judge(iotest.OneByteReader(bytes.NewReader(reply))); (slow == nil) != (err == nil) {
				t.Errorf("a byte at a time: %v, at once: %v", slow, err)
			}
		}
	})
}

// replaying is a connection that says the same whatever it is told.
type replaying struct {
	io.Reader
	io.Writer
}

func FuzzHTTP2Reply(f *testing.F) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	const ok = "\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88" // HEADERS with :status 200 (RFC 7541, appendix A)
	f.Add([]byte(settings + ok + "\x00\x00\x02\x00\x01\x00\x00\x00\x01ok"))
	f.Add([]byte(settings + "\x00\x00\x08\x06\x00\x00\x00\x00\x0001234567"))
	f.Add([]byte(settings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"))
	f.Add([]byte(settings + "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	web := must(f)(NewHTTP(HTTP{Port: 80, Body: "ok", HTTP2: true})).protocol.(*httpProbe)
	rpc := must(f)(NewGRPC(GRPC{Port: 80})).protocol.(*grpcProbe)
	f.Fuzz(func(t *testing.T, reply []byte) {
		askWeb := func(c io.ReadWriter, endpoint netip.AddrPort) error {
			header, err := web.ask2(c, endpoint)
			checkLoad(t, header)
			return err
		}
		for name, ask := range map[string]func(io.ReadWriter, netip.AddrPort) error{"http": askWeb, "grpc": rpc.ask} {
			err := ask(replaying{bytes.NewReader(reply), io.Discard}, local)
			judged(t, err)
			if err == nil && (len(reply) <= 9 || reply[3] != 4) {
				t.Errorf("%s: %x is up", name, reply)
			}
			if slow := ask(replaying{iotest.OneByteReader(bytes.NewReader(reply)), io.Discard}, local); (slow == nil) != (err == nil) {
				t.Errorf("%s: a byte at a time: %v, at once: %v", name, slow, err)
			}
		}
	})
}

func FuzzDNSReply(f *testing.F) {
	c := must(f)(NewDNS(DNS{Port: 53, Name: "example.org"}))
	p := c.protocol.(*dnsProbe)
	for _, change := range []func(*dns.Msg){noerror, withA, bare, wrongID, rcode(dns.RcodeNameError)} {
		f.Add(answersDNS(change)(p.wire)[0], p.wire[0], p.wire[1])
	}
	f.Fuzz(func(t *testing.T, packet []byte, high, low byte) {
		id := uint16(high)<<8 | uint16(low)
		fits, verdict := p.fits(packet, id), p.judge(packet)
		judged(t, verdict)
		if fits && (len(packet) < 12 || packet[0] != high || packet[1] != low || packet[2]&0x80 == 0) {
			t.Errorf("%x fits a query with ID %x", packet, id)
		}
		var m dns.Msg
		if fits && m.Unpack(packet) == nil && !fitsUnpacked(&m, id) {
			t.Errorf("%x fits, unpacked it does not", packet)
		}
	})
}

// fitsUnpacked is fits in the words of the library.
func fitsUnpacked(m *dns.Msg, id uint16) bool {
	switch {
	case m.Id != id || !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) > 1:
		return false
	case len(m.Question) == 0:
		return m.Rcode&0xf != dns.RcodeSuccess
	}
	q := m.Question[0]
	return strings.EqualFold(q.Name, "example.org.") && q.Qtype == dns.TypeA && q.Qclass == dns.ClassINET
}

func FuzzPrintable(f *testing.F) {
	f.Add("connection refused")
	f.Add(strings.Repeat("\u00e9\x00\xff", 100))
	f.Fuzz(func(t *testing.T, text string) {
		if text != "" {
			checkText(t, reason(printable(text)))
		}
		if got := quote(text); len(got) > maxQuoted+5 || printable(got) != got {
			t.Errorf("quoted as %s", got)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestTCP(t *testing.T) {
	for _, tc := range []struct {
		name    string
		server  func(*net.TCPConn)
		check   TCP
		timeout time.Duration
		want    string
	}{
		{"accepts", silent, TCP{}, patience, ""},
		{"resets after accept", func(c *net.TCPConn) { c.SetLinger(0) }, TCP{Receive: "x"}, patience, "connection reset"},
		{"banner", says("220 mail.example.org ESMTP\r\n"), TCP{Receive: "220 "}, patience, ""},
		{"banner and close", leaves("+OK ready\r\n"), TCP{Receive: "ready"}, patience, ""},
		{"banner a byte at a time", drips("+OK ready\r\n"), TCP{Receive: "ready"}, patience, ""},
		{"any byte may come", leaves("\x00\xff\x00"), TCP{Receive: "\xff\x00"}, patience, ""},
		{"answers", redis, TCP{Send: "PING\r\n", Receive: "+PONG"}, patience, ""},
		{"answers otherwise", redis, TCP{Send: "GET x\r\n", Receive: "+PONG"}, brief,
			`connected, no "+PONG" within 1s; got "-NOAUTH Authentication required.\r\n"`},
		{"wrong banner", leaves("554 go away\r\n"), TCP{Receive: "220 "}, patience,
			`connection closed, no "220 "; got "554 go away\r\n"`},
		{"garbage", leaves("\x16\x03\xff\u00e9\"\n"), TCP{Receive: "220 "}, patience,
			`connection closed, no "220 "; got "\x16\x03\xff\u00e9\"\n"`},
		{"silent", silent, TCP{Receive: "220 "}, brief, `connected, no "220 " within 1s`},
		{"half a banner", says("22"), TCP{Receive: "220 "}, brief, `connected, no "220 " within 1s; got "22"`},
		{"half-open", leaves(""), TCP{Receive: "220 "}, patience, `connection closed, no "220 "`},
		{"reset half-way", resets, TCP{Send: "HELO\r\n", Receive: "250"}, patience, `connection reset`},
		{"endless", endless("", "0123456789"), TCP{Receive: "220 "}, patience,
			`no "220 " in the first 64 KiB; got "012345678901234567890123456789012345678901234567890123456789"...`},
		{"just inside", leaves(strings.Repeat(".", maxRead-3) + "end"), TCP{Receive: "end"}, patience, ""},
		{"just outside", leaves(strings.Repeat(".", maxRead-2) + "end"), TCP{Receive: "end"}, patience,
			`no "end" in the first 64 KiB; got "` + strings.Repeat(".", 60) + `"...`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.check.Port = serve(t, tc.server)
			judges(t, must(t)(NewTCP(tc.check)), tc.timeout, tc.want)
		})
	}
}

// redis answers a ping; anything else needs a password.
func redis(c *net.TCPConn) {
	line, _ := bufio.NewReader(c).ReadString('\n')
	if line == "PING\r\n" {
		io.WriteString(c, "+PONG\r\n")
	} else {
		io.WriteString(c, "-NOAUTH Authentication required.\r\n")
	}
	silent(c)
}

func TestTCPRefused(t *testing.T) {
	for name, check := range map[string]TCP{"connect": {}, "banner": {Receive: "x"}} {
		check.Port = closedPort(t)
		if got := verdict(t, must(t)(NewTCP(check)), patience); got != "connection refused" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// A full backlog swallows the handshake, as a firewall that drops does.
func TestTCPBlackHole(t *testing.T) {
	port := blackHole(t)
	judges(t, must(t)(NewTCP(TCP{Port: port})), brief, "no connection within 1s")
}

// What is sent without a wait for an answer must arrive, reset or no reset.
func TestTCPSendArrives(t *testing.T) {
	text := strings.Repeat("stats\r\n", 1000)
	got := make(chan string, 1)
	port := serve(t, func(c *net.TCPConn) {
		all, err := io.ReadAll(c)
		got <- fmt.Sprintf("%d bytes, %v", len(all), err)
	})
	if got := verdict(t, must(t)(NewTCP(TCP{Port: port, Send: text})), patience); got != "" {
		t.Error(got)
	}
	if got := next(t, got); got != "7000 bytes, <nil>" {
		t.Errorf("the peer read %s", got)
	}
}

// However a peer looks at the end of a probe, it sees a close, not a reset: one that greets, one
// that is slow, and one that has not sent all of a long page.
func TestEndsWithoutReset(t *testing.T) {
	page := "HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n" + strings.Repeat("0123456789abcdef", 2<<20/16)
	for _, tc := range []struct {
		name  string
		says  string
		check func(port uint16) (*Check, error)
	}{
		{"connect", "", func(port uint16) (*Check, error) { return NewTCP(TCP{Port: port}) }},
		{"connect to one that greets", "220 hello\r\n", func(port uint16) (*Check, error) { return NewTCP(TCP{Port: port}) }},
		{"banner", "220 hello\r\n", func(port uint16) (*Check, error) { return NewTCP(TCP{Port: port, Receive: "220"}) }},
		{"proxy", "220 hello\r\n", func(port uint16) (*Check, error) { return NewTCP(TCP{Port: port, Proxy: ProxyV1}) }},
		{"sent", "", func(port uint16) (*Check, error) { return NewTCP(TCP{Port: port, Send: "x"}) }},
		{"page", page, func(port uint16) (*Check, error) { return NewHTTP(HTTP{Port: port}) }},
		{"status", "HTTP/1.1 503 No\r\n\r\nno", func(port uint16) (*Check, error) { return NewHTTP(HTTP{Port: port}) }},
		{"not gRPC", "HTTP/1.1 503 No\r\n\r\nno", func(port uint16) (*Check, error) { return NewGRPC(GRPC{Port: port}) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ends := make(chan error, 1)
			port := serve(t, func(c *net.TCPConn) {
				_, err := io.WriteString(c, tc.says)
				if err == nil {
					_, err = io.Copy(io.Discard, c)
				}
				ends <- err
			})
			var err error
			for range 5 { // a busy machine may stand still for longer than a probe waits for the peer
				verdict(t, must(t)(tc.check(port)), patience)
				if err = next(t, ends); err == nil {
					return
				}
			}
			t.Errorf("the peer saw %v, want a close", err)
		})
	}
}

// A peer that goes on for ever ends with a reset, once a bound is reached.
func TestEndsWithResetWhenFlooded(t *testing.T) {
	ends := make(chan error, 1)
	port := serve(t, func(c *net.TCPConn) {
		endless("", "x")(c)
		_, err := c.Write([]byte("x"))
		ends <- err
	})
	if got := verdict(t, must(t)(NewTCP(TCP{Port: port})), patience); got != "" {
		t.Error(got)
	}
	next(t, ends)
}

// A peer that does not close when we do holds a probe up for a moment only.
func TestEndsWithoutThePeer(t *testing.T) {
	port := serve(t, func(c *net.TCPConn) { <-t.Context().Done() })
	start := time.Now()
	if got := verdict(t, must(t)(NewTCP(TCP{Port: port})), patience); got != "" {
		t.Error(got)
	}
	if took := time.Since(start); took > patience/2 {
		t.Errorf("the probe took %v", took)
	}
}

// The header of the PROXY protocol comes first, also ahead of a TLS handshake.
func TestProxyHeader(t *testing.T) {
	for proxy, want := range map[Proxy]string{
		ProxyV1: "PROXY UNKNOWN\r\n", ProxyV2: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
	} {
		heads := make(chan string, 1)
		port := serve(t, func(c *net.TCPConn) {
			head := make([]byte, len(want)+1)
			n, _ := io.ReadFull(c, head)
			heads <- string(head[:n])
		})
		for name, c := range map[string]struct {
			check *Check
			next  string
		}{
			"tcp":   {must(t)(NewTCP(TCP{Port: port, Proxy: proxy})), ""},
			"send":  {must(t)(NewTCP(TCP{Port: port, Proxy: proxy, Send: "x"})), "x"},
			"http":  {must(t)(NewHTTP(HTTP{Port: port, Proxy: proxy})), "G"},
			"https": {must(t)(NewHTTP(HTTP{Port: port, Proxy: proxy, TLS: &TLS{Insecure: true}})), "\x16"},
			"grpc":  {must(t)(NewGRPC(GRPC{Port: port, Proxy: proxy})), "P"},
			"agent": {must(t)(NewAgent(Agent{Port: port, Proxy: proxy, Send: "A"})), "A"},
		} {
			verdict(t, c.check, patience)
			if got := next(t, heads); got != want+c.next {
				t.Errorf("%s: the peer read %q, want %q", name, got, want+c.next)
			}
		}
	}
	if _, err := NewTCP(TCP{Port: 1, Proxy: 3}); err == nil || err.Error() != "proxy: version 3: want 1 or 2" {
		t.Errorf("got %v", err)
	}
}

func TestTCPOptions(t *testing.T) {
	for _, tc := range []struct {
		check TCP
		want  string
	}{
		{TCP{Port: 1, Source: netip.IPv4Unspecified()}, `source: "0.0.0.0": want a unicast address`},
		{TCP{Port: 1, Source: netip.MustParseAddr("ff02::1")}, `source: "ff02::1": want a unicast address`},
		{TCP{Port: 1, Host: "example.org"}, `host: "example.org" without TLS: want tls or no host`},
		{TCP{Port: 1, Receive: strings.Repeat("x", maxRead+1)}, `receive: text of 65537 bytes: want at most 65536`},
	} {
		if _, err := NewTCP(tc.check); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

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
			`no "+PONG" within 1s; got "-NOAUTH Authentication required.\r\n"`},
		{"wrong banner", leaves("554 go away\r\n"), TCP{Receive: "220 "}, patience,
			`connection closed, no "220 "; got "554 go away\r\n"`},
		{"garbage", leaves("\x16\x03\xff\u00e9\"\n"), TCP{Receive: "220 "}, patience,
			`connection closed, no "220 "; got "\x16\x03\xff\u00e9\"\n"`},
		{"silent", silent, TCP{Receive: "220 "}, brief, `no "220 " within 1s`},
		{"half a banner", says("22"), TCP{Receive: "220 "}, brief, `no "220 " within 1s; got "22"`},
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
	judges(t, must(t)(NewTCP(TCP{Port: port})), brief, "no answer within 1s")
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

// A connection that a probe opens ends with a reset, so that no host keeps it in TIME-WAIT.
func TestTCPEndsWithReset(t *testing.T) {
	ends := make(chan string, 1)
	port := serve(t, func(c *net.TCPConn) {
		_, err := c.Write([]byte("hello"))
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
		ends <- errorText(fmt.Errorf("the end: %w", err))
	})
	for name, check := range map[string]TCP{"connect": {Port: port}, "banner": {Port: port, Receive: "hello"}} {
		if got := verdict(t, must(t)(NewTCP(check)), patience); got != "" {
			t.Errorf("%s: %s", name, got)
		}
		if got := next(t, ends); got != "connection reset" {
			t.Errorf("%s: the peer saw %q, want a reset", name, got)
		}
	}
}

func TestTCPOptions(t *testing.T) {
	for _, tc := range []struct {
		check TCP
		want  string
	}{
		{TCP{}, `port: "0", want 1 to 65535`},
		{TCP{Port: 1, Source: netip.IPv4Unspecified()}, `source: "0.0.0.0", want a unicast address`},
		{TCP{Port: 1, Source: netip.MustParseAddr("ff02::1")}, `source: "ff02::1", want a unicast address`},
		{TCP{Port: 1, Host: "example.org"}, `host: "example.org" without TLS, want tls or no host`},
		{TCP{Port: 1, Receive: strings.Repeat("x", maxRead+1)}, `receive: text of 65537 bytes, want at most 65536`},
	} {
		if _, err := NewTCP(tc.check); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

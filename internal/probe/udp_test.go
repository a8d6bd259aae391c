// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUDP(t *testing.T) {
	for _, tc := range []struct {
		name    string
		server  func([]byte) [][]byte
		timeout time.Duration
		want    string
	}{
		{"answers", answersBytes("all is PONG well"), patience, ""},
		{"answers behind others", answersBytes("a", "", "PONG"), patience, ""},
		{"echoes", func(q []byte) [][]byte { return [][]byte{q} }, brief, `no "PONG" within 1s; got "ping\xff"`},
		{"silent", answersBytes(), brief, `no "PONG" within 1s`},
		{"answers otherwise", answersBytes("NO\x1b[31m"), brief, `no "PONG" within 1s; got "NO\x1b[31m"`},
		{"floods", func([]byte) [][]byte { return slices.Repeat([][]byte{[]byte("x")}, maxMisfits) }, patience, `no "PONG" in 64 replies; got "x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			judges(t, must(t)(NewUDP(UDP{Port: serveUDP(t, tc.server), Send: "ping\xff", Receive: "PONG"})), tc.timeout, tc.want)
		})
	}
}

// The kernel tells a connected socket at once that nobody listens.
func TestUDPRefused(t *testing.T) {
	conn, err := net.Dial("udp", "127.0.0.1:9") // takes the port, and listens to one other only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := must(t)(NewUDP(UDP{Port: portOf(conn.LocalAddr()), Send: "x", Receive: "x"}))
	if got := verdict(t, c, patience); got != "connection refused" {
		t.Errorf("got %q", got)
	}
}

func TestUDPOptions(t *testing.T) {
	for _, tc := range []struct {
		check UDP
		want  string
	}{
		{UDP{Port: 1, Receive: "x"}, "send: nothing: want a text, because without one a datagram has no answer"},
		{UDP{Port: 1, Send: "x"}, "receive: nothing: want a text, because an open port is silent and so is a closed one behind a firewall"},
		{UDP{Port: 1, Send: strings.Repeat("x", 1201), Receive: "x"}, "send: text of 1201 bytes: want at most 1200"},
		{UDP{Port: 1, Send: "x", Receive: strings.Repeat("x", 4097)}, "receive: text of 4097 bytes: want at most 4096"},
	} {
		if _, err := NewUDP(tc.check); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}

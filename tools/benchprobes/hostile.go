// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// hostile are the ways in which a backend can be a burden. Each ends when the prober hangs up. The
// endless ones pause, to leave the processors to the prober.
var hostile = []func(c *net.TCPConn){
	func(*net.TCPConn) {}, // says nothing
	func(c *net.TCPConn) { repeat(c, "x", 50*time.Millisecond) }, // a byte now and then
	func(c *net.TCPConn) { repeat(c, "HTTP/1.1 103 Early Hints\r\n\r\n", time.Millisecond) },
	func(c *net.TCPConn) { // a header without end
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		repeat(c, "X: "+strings.Repeat("x", 1000)+"\r\n", time.Millisecond)
	},
	func(c *net.TCPConn) { // a good status, and a body without end
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		repeat(c, strings.Repeat("x", 4<<10), time.Millisecond)
	},
	func(c *net.TCPConn) { _, _ = io.WriteString(c, httpReply) }, // and never closes
	func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	func(c *net.TCPConn) { _, _ = c.Write(bytes.Repeat([]byte{0, 0xff}, 2000)) }, // no HTTP
}

// harass serves a connection as a kind of hostile backend does.
func harass(conn int, kind func(c *net.TCPConn)) {
	f := os.NewFile(uintptr(conn), "backend")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return
	}
	defer c.Close() //nolint:errcheck // nothing is lost
	if tcp, ok := c.(*net.TCPConn); ok {
		kind(tcp)
	}
	_, _ = io.Copy(io.Discard, c)
}

// repeat writes a text over and over, until the prober has gone.
func repeat(c *net.TCPConn, text string, pause time.Duration) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

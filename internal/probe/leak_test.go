// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
)

// descriptors counts the open ones.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// No reply, and no lack of one, may leave a descriptor or a goroutine behind; TestMain sees
// the goroutines. The first round is for what the runtime opens once and keeps.
func TestNoDescriptorIsLeft(t *testing.T) {
	t.Run("first round", probeEverything)
	before := descriptors(t)
	t.Run("second round", probeEverything)
	after, tick := descriptors(t), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); after > before && time.Now().Before(deadline); after = descriptors(t) {
		<-tick.C // the kernel may have closed what nobody waits for a moment later
	}
	if after > before {
		t.Errorf("%d descriptors were open, now %d are", before, after)
	}
}

// probeEverything runs every check against every kind of server a few times, in a few lanes, as a
// scheduler does. The servers and their descriptors are gone when the test is over.
func probeEverything(t *testing.T) {
	const lanes, each = 4, 5
	for _, c := range everything(t) {
		var running sync.WaitGroup
		for range lanes {
			running.Go(func() {
				for range each {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
					_ = c.Probe(ctx, local)
					cancel()
				}
			})
		}
		running.Wait()
	}
}

func everything(t *testing.T) (checks []*Check) {
	add := func(c *Check, err error) { checks = append(checks, must(t)(c, err)) }
	for _, server := range []func(*net.TCPConn){
		silent, leaves(""), resets, leaves("garbage\r\n\r\n"), says("half"), endless("", "x"),
		repliesWith("HTTP/1.1 204 No Content\r\n\r\n"),
		repliesWith("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		repliesWith("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
		repliesWith("HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\n\r\n"),
		repliesWith("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
		endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
	} {
		port := serve(t, server)
		add(NewTCP(TCP{Port: port}))
		add(NewTCP(TCP{Port: port, Send: "x\r\n"}))
		add(NewTCP(TCP{Port: port, Receive: "ok"}))
		add(NewTCP(TCP{Port: port, TLS: &TLS{Insecure: true}}))
		add(NewHTTP(HTTP{Port: port}))
		add(NewHTTP(HTTP{Port: port, BodyRegex: regexp.MustCompile("ok")}))
		add(NewHTTP(HTTP{Port: port, TLS: &TLS{Insecure: true}}))
		add(NewGRPC(GRPC{Port: port}))
		add(NewHTTP(HTTP{Port: port, HTTP2: true}))
		add(NewAgent(Agent{Port: port}))
	}
	add(NewTCP(TCP{Port: closedPort(t)}))
	add(NewTCP(TCP{Port: blackHole(t)}))
	add(NewTCP(TCP{Port: closedPort(t), Source: netip.MustParseAddr("203.0.113.1")}))
	add(NewGRPC(GRPC{Port: serveGRPC(t, insecure.NewCredentials(), health.NewServer())}))
	add(NewGRPC(GRPC{Port: serveGRPC(t, insecure.NewCredentials(), failing{})}))
	add(NewDNS(DNS{Port: serveUDP(t, answersDNS(noerror))}))
	add(NewDNS(DNS{Port: serveUDP(t, answersBytes("garbage"))}))
	add(NewUDP(UDP{Port: serveUDP(t, answersBytes("garbage")), Send: "x", Receive: "ok"}))
	if c, ok := newICMP(t, ICMP{}); ok {
		add(c, nil)
	}
	return checks
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
)

// processor returns the time that this process or thread spent on processors, in the kernel too.
func processor(b *testing.B, who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure reports the processor time of a probe. The server runs in the same process and has its
// part in it. Probes run in 64 lanes and more, as those of a scheduler do.
func measure(b *testing.B, c *Check) {
	if err := c.Probe(b.Context(), local); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	before := processor(b, unix.RUSAGE_SELF)
	b.RunParallel(func(lane *testing.PB) {
		for lane.Next() {
			ctx, cancel := context.WithTimeout(b.Context(), patience)
			if err := c.Probe(ctx, local); err != nil {
				b.Error(err)
			}
			cancel()
		}
	})
	b.ReportMetric(float64(processor(b, unix.RUSAGE_SELF)-before)/float64(b.N)/1e3, "cpu-us/op")
}

// frugal starts a server which costs as little as a server can, and reports how little: it accepts,
// and if it has a reply reads once, sends it and closes.
func frugal(b *testing.B, reply string) uint16 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.Addr().As4()}); err != nil {
		b.Fatal(err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		b.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	var served time.Duration
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := processor(b, unix.RUSAGE_THREAD)
		defer func() { served = processor(b, unix.RUSAGE_THREAD) - before }()
		request := make([]byte, 4096)
		for {
			conn, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			if reply != "" {
				unix.Read(conn, request)
				unix.Write(conn, []byte(reply))
			}
			unix.Close(conn)
		}
	}()
	b.Cleanup(func() {
		unix.Shutdown(fd, unix.SHUT_RDWR)
		<-done
		unix.Close(fd)
		b.ReportMetric(float64(served)/float64(b.N)/1e3, "server-us/op")
	})
	return uint16(name.(*unix.SockaddrInet4).Port)
}

func BenchmarkTCP(b *testing.B) {
	measure(b, must(b)(NewTCP(TCP{Port: frugal(b, "")})))
}

// BenchmarkConnectAndClose is what the kernel alone takes for a connection: a bare loop beside
// which BenchmarkTCP is to be read.
func BenchmarkConnectAndClose(b *testing.B) {
	port := int(frugal(b, ""))
	before := processor(b, unix.RUSAGE_SELF)
	for b.Loop() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: local.Addr().As4(), Port: port}); err != nil {
			b.Fatal(err)
		}
		unix.Close(fd)
	}
	b.ReportMetric(float64(processor(b, unix.RUSAGE_SELF)-before)/float64(b.N)/1e3, "cpu-us/op")
}

func BenchmarkTCPReceive(b *testing.B) {
	measure(b, must(b)(NewTCP(TCP{Port: frugal(b, "+PONG\r\n"), Send: "PING\r\n", Receive: "+PONG"})))
}

const plainReply = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

func BenchmarkHTTP(b *testing.B) {
	measure(b, must(b)(NewHTTP(HTTP{Port: frugal(b, plainReply), Path: "/healthz"})))
}

func BenchmarkHTTPBody(b *testing.B) {
	measure(b, must(b)(NewHTTP(HTTP{Port: frugal(b, plainReply), Path: "/healthz", Body: "ok"})))
}

func BenchmarkHTTPRefused(b *testing.B) {
	measureOneByOne(b, must(b)(NewHTTP(HTTP{Port: closedPort(b)})))
}

// measureOneByOne is measure without lanes. The verdict does not matter.
func measureOneByOne(b *testing.B, c *Check) {
	b.ReportAllocs()
	before := processor(b, unix.RUSAGE_SELF)
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		_ = c.Probe(ctx, local)
		cancel()
	}
	b.ReportMetric(float64(processor(b, unix.RUSAGE_SELF)-before)/float64(b.N)/1e3, "cpu-us/op")
}

func BenchmarkGRPC(b *testing.B) {
	measure(b, must(b)(NewGRPC(GRPC{Port: serveGRPC(b, insecure.NewCredentials(), health.NewServer())})))
}

func BenchmarkDNS(b *testing.B) {
	measure(b, must(b)(NewDNS(DNS{Port: serveUDP(b, answersDNS(noerror))})))
}

// BenchmarkICMP probes one by one: raw sockets toward one address get each other's replies.
func BenchmarkICMP(b *testing.B) {
	c, err := NewICMP(ICMP{})
	if err != nil {
		b.Log(err)
		return
	}
	measureOneByOne(b, c)
}

// BenchmarkDNSFlood reports what a probe costs whose endpoint sends 2,000 replies that do not fit,
// without what the endpoint costs.
func BenchmarkDNSFlood(b *testing.B) {
	misfit := answersDNS(func(m *dns.Msg) { withA(m); wrongID(m) })
	c := must(b)(NewDNS(DNS{Port: serveUDP(b, func(query []byte) [][]byte {
		return slices.Repeat(misfit(query), 2000)
	})}))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := processor(b, unix.RUSAGE_THREAD)
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 50*time.Millisecond)
		_ = c.Probe(ctx, local)
		cancel()
	}
	b.ReportMetric(float64(processor(b, unix.RUSAGE_THREAD)-before)/float64(b.N)/1e3, "cpu-us/op")
}

func BenchmarkGRPCSettingsFlood(b *testing.B) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	measureOneByOne(b, must(b)(NewGRPC(GRPC{Port: serve(b, endless("", strings.Repeat(settings, 1000)))})))
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
)

// processor returns the time that this process spent on its processors, in the kernel too.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
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
	before := processor(b)
	b.RunParallel(func(lane *testing.PB) {
		for lane.Next() {
			ctx, cancel := context.WithTimeout(b.Context(), patience)
			if err := c.Probe(ctx, local); err != nil {
				b.Error(err)
			}
			cancel()
		}
	})
	b.ReportMetric(float64(processor(b)-before)/float64(b.N)/1e3, "cpu-us/op")
}

// frugal starts a server which costs as little as a server can: it accepts, and where it has a
// reply reads once, sends it and closes.
func frugal(b *testing.B, reply string) uint16 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
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
	go func() {
		defer close(done)
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
	})
	return uint16(name.(*unix.SockaddrInet4).Port)
}

func BenchmarkTCP(b *testing.B) {
	measure(b, must(b)(NewTCP(TCP{Port: frugal(b, "")})))
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
	c := must(b)(NewHTTP(HTTP{Port: closedPort(b)}))
	b.ReportAllocs()
	before := processor(b)
	for b.Loop() {
		_ = c.Probe(b.Context(), local)
	}
	b.ReportMetric(float64(processor(b)-before)/float64(b.N)/1e3, "cpu-us/op")
}

func BenchmarkGRPC(b *testing.B) {
	measure(b, must(b)(NewGRPC(GRPC{Port: serveGRPC(b, insecure.NewCredentials(), health.NewServer())})))
}

func BenchmarkDNS(b *testing.B) {
	measure(b, must(b)(NewDNS(DNS{Port: serveUDP(b, answersDNS(noerror))})))
}

func BenchmarkICMP(b *testing.B) {
	c, err := NewICMP(ICMP{})
	if err != nil {
		b.Log(err)
		return
	}
	measure(b, c)
}

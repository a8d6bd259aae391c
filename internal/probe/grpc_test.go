// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serveGRPC starts a server with a health service, nil for none.
func serveGRPC(t testing.TB, creds credentials.TransportCredentials, service grpc_health_v1.HealthServer) uint16 {
	t.Helper()
	server := grpc.NewServer(grpc.Creds(creds))
	if service != nil {
		grpc_health_v1.RegisterHealthServer(server, service)
	}
	l := listen(t, "127.0.0.1:0")
	var running sync.WaitGroup
	running.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Stop()
		running.Wait()
	})
	return portOf(l.Addr())
}

// failing is a health service that fails with an error, or hangs if there is none.
type failing struct {
	grpc_health_v1.UnimplementedHealthServer
	err error
}

func (f failing) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if f.err == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, f.err
}

func TestGRPC(t *testing.T) {
	states := health.NewServer()
	states.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	states.SetServingStatus("down.v1", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	states.SetServingStatus("odd.v1", grpc_health_v1.HealthCheckResponse_UNKNOWN)
	for _, tc := range []struct {
		name    string
		server  grpc_health_v1.HealthServer
		service string
		want    string
	}{
		{"serving", states, "", ""},
		{"not serving", states, "down.v1", "status NOT_SERVING, want SERVING"},
		{"unknown", states, "odd.v1", "status UNKNOWN, want SERVING"},
		{"unknown service", states, "none.v1", `unknown service "none.v1"`},
		{"unimplemented", nil, "", "the server does not implement grpc.health.v1"},
		{"denied", failing{err: status.Error(codes.PermissionDenied, "keep\nout")}, "", `grpc status PermissionDenied: "keep\nout"`},
		{"unavailable", failing{err: status.Error(codes.Unavailable, "warming up")}, "", `grpc status Unavailable: "warming up"`},
		{"deadline of its own", failing{err: status.Error(codes.DeadlineExceeded, "database")}, "", `grpc status DeadlineExceeded: "database"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			port := serveGRPC(t, insecure.NewCredentials(), tc.server)
			c := must(t)(NewGRPC(GRPC{Port: port, Service: tc.service}))
			if got := verdict(t, c, patience); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestGRPCTimeout(t *testing.T) {
	port := serveGRPC(t, insecure.NewCredentials(), failing{})
	for name, port := range map[string]uint16{
		"service": port, "connection": serve(t, silent), "half a frame": serve(t, says("\x00\x00")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			judges(t, must(t)(NewGRPC(GRPC{Port: port})), brief, "connected, no answer within 1s")
		})
	}
}

func TestGRPCNoServer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server func(*net.TCPConn)
		want   string
	}{
		{"closes", leaves(""), "connection closed, no answer"},
		{"resets", resets, "connection reset"},
		{"http", repliesWith("HTTP/1.1 400 Bad Request\r\n\r\n"), `not an HTTP/2 server; got "HTTP/1.1 400 Bad Request\r\n\r\n"`},
		{"garbage", leaves("SSH-2.0-OpenSSH_9.6\r\n"), `not an HTTP/2 server; got "SSH-2.0-OpenSSH_9.6\r\n"`},
		{"settings only", leaves("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), "connection closed, no answer"},
		{"endless settings", endless("", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"), "too many HTTP/2 frames for an answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := must(t)(NewGRPC(GRPC{Port: serve(t, tc.server)}))
			if got := verdict(t, c, patience); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	if got := verdict(t, must(t)(NewGRPC(GRPC{Port: closedPort(t)})), patience); got != "connection refused" {
		t.Errorf("refused: got %q", got)
	}
}

// An HTTP/2 server without gRPC.
func TestGRPCOnWebServer(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := must(t)(NewGRPC(GRPC{Port: portOf(server.Listener.Addr()), TLS: &TLS{Insecure: true}}))
	const want = `not a gRPC server: status 404, content type "text/plain; charset=utf-8"`
	if got := verdict(t, c, patience); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// seen keeps what the server is told of the call.
type seen struct {
	grpc_health_v1.UnimplementedHealthServer
	metadata chan metadata.MD
}

func (s seen) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.metadata <- md
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func TestGRPCOverTLS(t *testing.T) {
	a := newAuthority(t)
	creds := credentials.NewServerTLSFromCert(new(a.issue(t, "www.example.org", time.Now().Add(-time.Minute))))
	service := seen{metadata: make(chan metadata.MD, 1)}
	port := serveGRPC(t, creds, service)

	c := must(t)(NewGRPC(GRPC{Port: port, Host: "www.example.org", TLS: &TLS{Files: a.trusted(t)}}))
	if got := verdict(t, c, patience); got != "" {
		t.Fatal(got)
	}
	if got := next(t, service.metadata).Get(":authority"); len(got) != 1 || got[0] != "www.example.org" {
		t.Errorf("the authority was %q", got)
	}
	c = must(t)(NewGRPC(GRPC{Port: port, Host: "example.net", TLS: &TLS{Files: a.trusted(t)}}))
	if got, want := verdict(t, c, patience), `tls: certificate is not for "example.net"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestGRPCWithoutALPN(t *testing.T) {
	a := newAuthority(t)
	port := serve(t, overTLS(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "a", time.Now())}}, ""))
	c := must(t)(NewGRPC(GRPC{Port: port, TLS: &TLS{Insecure: true}}))
	if got, want := verdict(t, c, patience), "tls: the peer does not offer HTTP/2 (ALPN h2)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestGRPCOptions(t *testing.T) {
	for _, tc := range []struct {
		check GRPC
		want  string
	}{
		{GRPC{Port: 1, Service: "a b"}, `service: "a b": want a name such as example.v1.Users`},
		{GRPC{Port: 1, Host: "a/b"}, `host: "a/b": want a name or an address, with a port if need be`},
		{GRPC{Port: 1, TLS: &TLS{}}, `tls: no host: want the name in the certificate, or tls_insecure`},
	} {
		if _, err := NewGRPC(tc.check); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}

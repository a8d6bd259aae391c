// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// GRPC is up where Check of grpc.health.v1, the gRPC health checking protocol, says SERVING. All
// else is down, a server without that service and one that does not know Service too.
type GRPC struct {
	Port    uint16     // 1 to 65535
	Service string     // to ask about; "" for the server as a whole
	Host    string     // :authority and name to verify; default the address
	TLS     *TLS       // nil: plaintext; otherwise Host is needed unless insecure
	Source  netip.Addr // to probe from, for endpoints of its family; zero for any
}

type grpcProbe struct {
	*line
	service string
	host    string // "" for the address
}

// NewGRPC builds the check. It fails on options that make no sense and on unreadable files.
func NewGRPC(o GRPC) (*Check, error) {
	if strings.ContainsFunc(o.Service, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("service: %q, want a name such as example.v1.Users", o.Service)
	}
	l, key, err := newLine(o.Port, o.Source, o.TLS, o.Host, "h2")
	if err != nil {
		return nil, err
	}
	return &Check{
		name:     strings.TrimSuffix(fmt.Sprintf("%s:%d/%s", l.scheme("grpc", "grpc+tls"), o.Port, o.Service), "/"),
		key:      fmt.Sprintf("grpc %s service=%q host=%+q", key, o.Service, o.Host),
		port:     o.Port,
		protocol: &grpcProbe{line: l, service: o.Service, host: o.Host},
	}, nil
}

func (p *grpcProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	c, err := p.open(ctx, endpoint)
	if err != nil {
		return err
	}
	defer c.hangUp()
	if t, ok := c.Conn.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "h2" {
		return reason("tls: the peer does not offer HTTP/2 (ALPN h2)")
	}
	return p.ask(ctx, &observed{call: c, reader: limited{Reader: c, left: 2 * maxRead, full: errFlood}}, endpoint)
}

// usualWindow is the window of an HTTP/2 connection where nobody says otherwise (RFC 9113, section 6.9.2), in bytes.
const usualWindow = 1<<16 - 1

var errFlood = reason("more than 128 KiB for an answer")

// ask makes the call over an open connection.
func (p *grpcProbe) ask(ctx context.Context, conn *observed, endpoint netip.AddrPort) error {
	client, err := p.client(conn, endpoint)
	if err != nil {
		return err
	}
	// The server is not told our deadline: it would hurry to report its end, as a status of its own.
	timeless, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	var header, trailer metadata.MD
	answer, err := grpc_health_v1.NewHealthClient(client).Check(timeless,
		&grpc_health_v1.HealthCheckRequest{Service: p.service}, grpc.Header(&header), grpc.Trailer(&trailer))
	_ = client.Close() // waits for its goroutines
	switch {
	case err == nil && answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING:
		return nil
	case err == nil:
		return reason(fmt.Sprintf("status %s, want SERVING", answer.GetStatus()))
	case ctx.Err() != nil:
		return ctx.Err()
	case header["content-type"] != nil || trailer["content-type"] != nil:
		return p.refusal(status.Convert(err))
	}
	return conn.unanswered(status.Convert(err))
}

// client returns a client that has the open connection and cannot make another.
func (p *grpcProbe) client(conn *observed, endpoint netip.AddrPort) (*grpc.ClientConn, error) {
	authority := p.host
	if authority == "" {
		authority = endpoint.String()
	}
	connections := make(chan net.Conn, 1)
	connections <- conn
	close(connections)
	return grpc.NewClient("passthrough:///"+endpoint.String(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if conn, ok := <-connections; ok {
				return conn, nil
			}
			return nil, io.EOF
		}),
		grpc.WithTransportCredentials(conn.credentials()),
		grpc.WithAuthority(authority),
		grpc.WithUserAgent("coredns-balance"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithDisableRetry(),
		grpc.WithMaxHeaderListSize(maxRead),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxRead)),
		// Without a window of a fixed size the client measures the path with PINGs, and races with itself where a peer
		// acknowledges one before it is sent (bdpEstimator of grpc-go 1.84).
		grpc.WithStaticConnWindowSize(usualWindow),
		grpc.WithReadBufferSize(4096),
		grpc.WithWriteBufferSize(4096),
	)
}

// refusal is for a status other than OK that the server gave.
func (p *grpcProbe) refusal(s *status.Status) error {
	switch s.Code() {
	case codes.NotFound:
		return reason("unknown service " + quote(p.service))
	case codes.Unimplemented:
		return reason("the server does not implement grpc.health.v1")
	}
	return statusReason(s)
}

func statusReason(s *status.Status) error {
	return reason(fmt.Sprintf("grpc status %s: %s", s.Code(), quote(s.Message())))
}

// observed is a connection that the gRPC client uses, which tells only in prose what became of it.
// Safe for concurrent use.
type observed struct {
	*call
	reader limited // owned by the one goroutine that reads

	mu    sync.Mutex
	first []byte // as in limited
	err   error  // the first one of a read
}

func (o *observed) Read(p []byte) (int, error) {
	n, err := o.reader.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.first = o.reader.first
	if o.err == nil && !errors.Is(err, net.ErrClosed) {
		o.err = err
	}
	return n, err
}

// Close resets the connection, as every probe does.
func (o *observed) Close() error {
	abort(o.tcp)
	return nil
}

// The deadlines of the client are longer than ours.

func (o *observed) SetDeadline(time.Time) error      { return nil }
func (o *observed) SetReadDeadline(time.Time) error  { return nil }
func (o *observed) SetWriteDeadline(time.Time) error { return nil }

// unanswered says why a call failed to which the server gave no status.
func (o *observed) unanswered(s *status.Status) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	const frameType, settings = 3, 4 // every peer begins with SETTINGS (RFC 9113, section 3.4)
	if len(o.first) > frameType && o.first[frameType] != settings {
		return reason("not an HTTP/2 server; got " + quote(o.first))
	}
	if s.Code() == codes.Unavailable && o.err != nil {
		return o.err
	}
	return statusReason(s)
}

// credentials tell the client that its connection is what it is already: plaintext or TLS.
func (o *observed) credentials() credentials.TransportCredentials {
	if t, ok := o.Conn.(*tls.Conn); ok {
		return established{insecure.NewCredentials(), t.ConnectionState()}
	}
	return insecure.NewCredentials()
}

// established are the credentials of a connection whose TLS handshake is over.
type established struct {
	credentials.TransportCredentials
	state tls.ConnectionState
}

func (e established) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, credentials.TLSInfo{
		State:          e.state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (e established) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (e established) Clone() credentials.TransportCredentials { return e }

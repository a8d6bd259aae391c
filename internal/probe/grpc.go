// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// GRPC is up if Check of grpc.health.v1, the gRPC health checking protocol, says SERVING. All else
// is down, also a server without that service and one that does not know Service.
type GRPC struct {
	Port    uint16     // 0: endpoints name theirs
	Service string     // to ask about; "" for the server as a whole
	Host    string     // :authority and name to verify; default the address
	Proxy   Proxy      // header to begin with
	TLS     *TLS       // nil: plaintext; otherwise Host is needed unless insecure
	Source  netip.Addr // to probe from, for endpoints of its family; zero for any
}

// grpcProbe makes its unary call over call2. The client of grpc-go takes seven goroutines for each
// endpoint, also for a silent one.
type grpcProbe struct {
	*line
	service string
	host    string // "" for the address
	message []byte // the request, with its prefix
}

// NewGRPC builds the check. It fails on options that make no sense and on unreadable files.
func NewGRPC(o GRPC) (*Check, error) {
	if strings.ContainsFunc(o.Service, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("service: %q: want a name such as example.v1.Users", o.Service)
	}
	l, key, err := newLine(o.Port, o.Source, o.Proxy, o.TLS, o.Host, "h2")
	if err != nil {
		return nil, err
	}
	l.speaksFirst = true
	message, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: o.Service})
	if err != nil {
		return nil, err
	}
	return &Check{
		name:     strings.TrimSuffix(fmt.Sprintf("%s:%s/%s", l.scheme("grpc", "grpc+tls"), portText(o.Port), o.Service), "/"),
		key:      fmt.Sprintf("grpc %s service=%q host=%+q", key, o.Service, o.Host),
		port:     o.Port,
		protocol: &grpcProbe{line: l, service: o.Service, host: o.Host, message: withPrefix(message)},
	}, nil
}

const prefixSize = 5 // of a message: a byte that says whether it is compressed, and its length

func withPrefix(message []byte) []byte {
	prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(prefix, message...)
}

func (p *grpcProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	return p.talk(ctx, endpoint, func(c *call) error { return p.ask(c.Conn, endpoint) })
}

// ask makes the call.
func (p *grpcProbe) ask(c io.ReadWriter, endpoint netip.AddrPort) error {
	// The server is not told the deadline. Otherwise it would report the timeout itself, as a
	// status.
	r, err := begin2(c, request2(p.fields(endpoint), p.message))
	if err != nil {
		return err
	}
	defer r.release()
	return p.judge(r)
}

// fields are the header of the call, in the order of the gRPC specification.
func (p *grpcProbe) fields(endpoint netip.AddrPort) []hpack.HeaderField {
	authority := p.host
	if authority == "" {
		authority = endpoint.String()
	}
	return []hpack.HeaderField{
		{Name: ":method", Value: http.MethodPost}, {Name: ":scheme", Value: p.scheme("http", "https")},
		{Name: ":path", Value: grpc_health_v1.Health_Check_FullMethodName}, {Name: ":authority", Value: authority},
		{Name: "te", Value: "trailers"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: userAgent},
	}
}

// judge reads the answer to a call.
func (p *grpcProbe) judge(r *call2) error {
	contentType := r.header.Get("Content-Type")
	if r.status != http.StatusOK || !strings.HasPrefix(contentType, "application/grpc") {
		return reason(fmt.Sprintf("not a gRPC server: status %d, content type %s", r.status, quote(contentType)))
	}
	answer, err := readMessage(body2{r})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err == nil { // the trailer comes behind the message, and may take it back
		if _, err := io.Copy(io.Discard, body2{r}); err != nil {
			return err
		}
	}
	trailer := r.trailer
	if trailer == nil {
		trailer = r.header // an answer without a message has one header only
	}
	switch code := trailer.Get("Grpc-Status"); {
	case code != "0":
		return p.refusal(code, trailer.Get("Grpc-Message"))
	case answer == nil:
		return reason("grpc status OK without an answer")
	case answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		return reason(fmt.Sprintf("status %s, want SERVING", answer.GetStatus()))
	}
	return nil
}

// readMessage reads the message of a unary call. The error is io.EOF if there is none.
func readMessage(body io.Reader) (*grpc_health_v1.HealthCheckResponse, error) {
	var prefix [prefixSize]byte
	if _, err := io.ReadFull(body, prefix[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(prefix[1:])
	if prefix[0] != 0 || size > maxRead {
		return nil, reason("malformed gRPC message")
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(body, message); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	answer := new(grpc_health_v1.HealthCheckResponse)
	if proto.Unmarshal(message, answer) != nil {
		return nil, reason("malformed gRPC message")
	}
	return answer, nil
}

// refusal is for a status other than OK.
func (p *grpcProbe) refusal(code, message string) error {
	number, err := strconv.ParseUint(code, 10, 32)
	if err != nil {
		return reason("grpc status " + quote(code))
	}
	switch c := codes.Code(number); c {
	case codes.NotFound:
		return reason("unknown service " + quote(p.service))
	case codes.Unimplemented:
		return reason("the server does not implement grpc.health.v1")
	default:
		if text, err := url.PathUnescape(message); err == nil {
			message = text
		}
		return reason(fmt.Sprintf("grpc status %s: %s", c, quote(message)))
	}
}

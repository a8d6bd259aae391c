// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 60 * time.Second
	closeTimeout  = 2 * time.Second // for requests in flight
)

// Server serves documents at an address until it is closed.
type Server struct {
	http *http.Server
	done chan struct{}
}

// Listen starts a server. The documents that it serves come from source, which is called by one
// goroutine at a time.
func Listen(addr netip.AddrPort, source func() *Document, explain Explainer) (*Server, error) {
	socket, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, err
	}
	s := &Server{
		http: &http.Server{
			Handler:           marking(newHandler(source, explain, addr.Addr().IsLoopback())),
			ConnContext:       withConn,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       headerTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(newListener(socket)) // ends when it is closed
	}()
	return s, nil
}

// Close ends the server and waits for its end.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.done
}

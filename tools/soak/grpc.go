// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"net"
	"sync"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// clinic is a gRPC server that says how healthy it is, over connections that others accepted. Safe
// for concurrent use.
type clinic struct{ arrivals chan net.Conn }

var _ net.Listener = (*clinic)(nil)

// newClinic starts a clinic, which runs until the process ends.
func newClinic(says grpc_health_v1.HealthCheckResponse_ServingStatus) *clinic {
	c := &clinic{arrivals: make(chan net.Conn)}
	h := grpchealth.NewServer()
	h.SetServingStatus("", says)
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	go s.Serve(c) //nolint:errcheck // never ends
	return c
}

// serve serves a connection until it is closed.
func (c *clinic) serve(conn net.Conn) {
	p := &patient{Conn: conn, gone: make(chan struct{})}
	c.arrivals <- p
	<-p.gone
}

// Accept implements net.Listener.
func (c *clinic) Accept() (net.Conn, error) { return <-c.arrivals, nil }

// Close implements net.Listener.
func (c *clinic) Close() error { return nil }

// Addr implements net.Listener.
func (c *clinic) Addr() net.Addr { return &net.TCPAddr{} }

// patient is a connection that says when it is closed.
type patient struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

// Close implements net.Conn.
func (p *patient) Close() error {
	p.once.Do(func() { close(p.gone) })
	return p.Conn.Close()
}

// SPDX-License-Identifier: Apache-2.0

package statuspage

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxConnections = 64              // at the same time
	patience       = 2 * time.Second // with a request, while a new client waits for its place
)

// listener keeps at most maxConnections open. If all places are taken, a new connection takes that
// of the one that has been idle longest, or of a request older than patience. So nobody keeps
// others away with connections that do nothing. Safe for concurrent use.
type listener struct {
	net.Listener
	left   chan struct{} // receives when a connection was closed
	closed chan struct{}
	once   sync.Once

	sync.Mutex
	open map[*conn]struct{}
}

// conn is an open connection. Its fields are guarded by the listener's lock.
type conn struct {
	net.Conn
	listener *listener
	serving  bool      // a request is being answered
	since    time.Time // when serving changed
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, left: make(chan struct{}, 1), closed: make(chan struct{}), open: make(map[*conn]struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, listener: l, since: time.Now()}
	for {
		wait := l.admit(c)
		if wait <= 0 {
			return c, nil
		}
		select {
		case <-l.left:
		case <-time.After(wait):
		case <-l.closed:
			_ = accepted.Close()
			return nil, net.ErrClosed
		}
	}
}

// admit adds a connection, if need be in place of another. It returns how long to wait before the
// next try, 0 if the connection was added.
func (l *listener) admit(c *conn) time.Duration {
	l.Lock()
	defer l.Unlock()
	if len(l.open) >= maxConnections {
		victim := l.victim()
		if age := time.Since(victim.since); victim.serving && age < patience {
			return patience - age
		}
		delete(l.open, victim)
		_ = victim.Conn.Close()
	}
	l.open[c] = struct{}{}
	return 0
}

// victim returns the connection that makes room first.
func (l *listener) victim() (first *conn) {
	for c := range l.open {
		if first == nil || c.goesBefore(first) {
			first = c
		}
	}
	return first
}

// goesBefore orders connections: the idle before those that serve, the oldest first.
func (c *conn) goesBefore(d *conn) bool {
	if c.serving != d.serving {
		return d.serving
	}
	return c.since.Before(d.since)
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.listener.Lock()
	delete(c.listener.open, c)
	c.listener.Unlock()
	select {
	case c.listener.left <- struct{}{}:
	default:
	}
	return c.Conn.Close()
}

func (c *conn) mark(serving bool) {
	c.listener.Lock()
	defer c.listener.Unlock()
	c.serving, c.since = serving, time.Now()
}

// connKey is where the context of a request has its connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// marking returns a handler that marks the connection as serving while next serves.
func marking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(*conn)
		c.mark(true)
		defer c.mark(false)
		next.ServeHTTP(w, r)
	})
}

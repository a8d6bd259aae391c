// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// h2cServer serves HTTP/2 with prior knowledge, and nothing else.
func h2cServer(t *testing.T, handler http.HandlerFunc) uint16 {
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return portOf(server.Listener.Addr())
}

// h2Server serves HTTP/2 over TLS, and nothing else.
func h2Server(t *testing.T, handler http.HandlerFunc) uint16 {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{NextProtos: []string{"h2"}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return portOf(server.Listener.Addr())
}

// Real servers of HTTP/2 see the request that HTTP/1.1 would have been, and are judged alike.
func TestHTTP2(t *testing.T) {
	long := strings.Repeat("0123456789", 10000)
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ProtoMajor != 2 || r.Host != "www.example.org" || r.UserAgent() == "" || r.Header.Get("X-Probe") != "a b":
			w.WriteHeader(http.StatusTeapot)
		case r.URL.Path == "/limited":
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
		case r.URL.Path == "/early":
			w.WriteHeader(http.StatusEarlyHints)
			w.Write([]byte("ok"))
		case r.URL.Path == "/long":
			w.Write([]byte(long))
		default:
			w.Write([]byte("all is well"))
		}
	}
	for _, tc := range []struct {
		name  string
		check HTTP
		want  string
	}{
		{"200", HTTP{}, ""},
		{"HEAD", HTTP{Method: "HEAD"}, ""},
		{"429", HTTP{Path: "/limited"}, "status 429, want 200-299"},
		{"interim", HTTP{Path: "/early", Body: "ok"}, ""},
		{"body", HTTP{Body: "is well"}, ""},
		{"body differs", HTTP{Body: "ill"}, `body lacks "ill" in its first 64 KiB`},
		{"long body", HTTP{Path: "/long", Body: "ill"}, `body lacks "ill" in its first 64 KiB`},
		{"regex", HTTP{BodyRegex: regexp.MustCompile("^all is well$")}, ""},
	} {
		tc.check.HTTP2, tc.check.Host, tc.check.Header = true, "www.example.org", http.Header{"x-probe": {"a b"}}
		t.Run(tc.name, func(t *testing.T) {
			tc.check.Port, tc.check.TLS = h2cServer(t, handler), nil
			if got := verdict(t, must(t)(NewHTTP(tc.check)), patience); got != tc.want {
				t.Errorf("h2c: got  %s\nwant %s", got, tc.want)
			}
			tc.check.Port, tc.check.TLS = h2Server(t, handler), &TLS{Insecure: true}
			if got := verdict(t, must(t)(NewHTTP(tc.check)), patience); got != tc.want {
				t.Errorf("h2: got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

const emptySettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func TestHTTP2Hostile(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server func(*net.TCPConn)
		want   string
	}{
		{"closes", leaves(""), "connection closed, no answer"},
		{"settings only", leaves(emptySettings), "connection closed, no answer"},
		{"HTTP/1.1", leaves("HTTP/1.1 400 Bad Request\r\n\r\n"), `not an HTTP/2 server; got "HTTP/1.1 400 Bad Request\r\n\r\n"`},
		{"endless settings", endless("", emptySettings), "too many HTTP/2 frames for an answer"},
		{"endless pings", endless(emptySettings, "\x00\x00\x08\x06\x00\x00\x00\x00\x0001234567"), "too many HTTP/2 frames for an answer"},
		{"endless unknown frames", endless(emptySettings, "\x00\x00\x00\xfa\x00\x00\x00\x00\x00"), "too many HTTP/2 frames for an answer"},
		{"endless large frames", endless(emptySettings, "\x00\x04\x00\xfa\x00\x00\x00\x00\x00"+strings.Repeat("x", 1024)),
			"more than 128 KiB for an answer"},
		{"huge frame", leaves(emptySettings + "\xff\x00\x00\x00\x00\x00\x00\x00\x01"), "HTTP/2 frame longer than 16 KiB"},
		{"goaway", leaves(emptySettings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b"),
			"HTTP/2 connection refused: ENHANCE_YOUR_CALM"},
		{"reset of the stream", leaves(emptySettings + "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07"),
			"HTTP/2 stream reset: REFUSED_STREAM"},
		{"another stream", leaves(emptySettings + "\x00\x00\x01\x01\x04\x00\x00\x00\x03\x88"), "HTTP/2 frame HEADERS of an unknown stream"},
		{"no status", leaves(emptySettings + "\x00\x00\x00\x01\x05\x00\x00\x00\x01"), `HTTP/2 status ""`},
		{"garbage in the header", leaves(emptySettings + "\x00\x00\x01\x01\x05\x00\x00\x00\x01\xff"), "malformed HTTP/2: COMPRESSION_ERROR"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := must(t)(NewHTTP(HTTP{Port: serve(t, tc.server), HTTP2: true}))
			if got := verdict(t, c, patience); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// A server that speaks HTTP/2 only gets a hint in place of its raw frames.
func TestHTTPAgainstHTTP2(t *testing.T) {
	const want = "the peer speaks HTTP/2: want the option http2"
	settings := "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80"
	goAway := "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	for name, server := range map[string]func(*net.TCPConn){
		"settings": leaves(emptySettings), "more": leaves(settings + goAway),
	} {
		if got := verdict(t, must(t)(NewHTTP(HTTP{Port: serve(t, server)})), patience); got != want {
			t.Errorf("%s: got %s", name, got)
		}
	}
	a := newAuthority(t)
	port := serve(t, overTLS(&tls.Config{Certificates: []tls.Certificate{a.issue(t, "a", a.cert.NotBefore)}}, ""))
	c := must(t)(NewHTTP(HTTP{Port: port, HTTP2: true, TLS: &TLS{Insecure: true}}))
	if got, want := verdict(t, c, patience), "tls: the peer does not offer HTTP/2 (ALPN h2)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

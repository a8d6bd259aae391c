// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// replies reads a request and sends a text, then closes in good order.
func repliesWith(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			leaves(text)(c)
		}
	}
}

// status is a whole reply.
func status200(body string) string { return "HTTP/1.1 200 OK\r\n\r\n" + body }

const early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"

func TestHTTP(t *testing.T) {
	long := strings.Repeat("0123456789", 10000)
	for _, tc := range []struct {
		name   string
		server func(*net.TCPConn)
		check  HTTP
		want   string
	}{
		{"200", repliesWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), HTTP{}, ""},
		{"HTTP/1.0", repliesWith("HTTP/1.0 200 OK\r\n\r\nok"), HTTP{}, ""},
		{"204", repliesWith("HTTP/1.1 204 No Content\r\n\r\n"), HTTP{}, ""},
		{"299", repliesWith("HTTP/1.1 299 Odd\r\n\r\n"), HTTP{}, ""},
		{"300", repliesWith("HTTP/1.1 300 Odd\r\n\r\n"), HTTP{}, "status 300, want 200-299"},
		{"503", repliesWith("HTTP/1.1 503 Service Unavailable\r\n\r\nno"), HTTP{}, "status 503, want 200-299"},
		{"503 expected", repliesWith("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
			HTTP{Expect: []StatusRange{{200, 299}, {503, 503}}}, ""},
		{"404 of a set", repliesWith("HTTP/1.1 404 Not Found\r\n\r\n"),
			HTTP{Expect: []StatusRange{{200, 204}, {301, 301}, {500, 599}}}, "status 404, want 200-204,301,500-599"},
		{"redirect", repliesWith("HTTP/1.1 301 Moved Permanently\r\nLocation: /ok\r\n\r\n"), HTTP{}, "status 301, want 200-299"},
		{"redirect expected", repliesWith("HTTP/1.1 301 Moved Permanently\r\nLocation: /ok\r\n\r\n"),
			HTTP{Expect: []StatusRange{{301, 302}}}, ""},
		{"interim", repliesWith(early + "HTTP/1.1 100 Continue\r\n\r\n" + status200("")), HTTP{}, ""},
		{"interim, then 500", repliesWith(early + "HTTP/1.1 500 Oops\r\n\r\n"), HTTP{}, "status 500, want 200-299"},
		{"interim only", repliesWith(early), HTTP{}, "connection closed, no answer"},
		{"interim without end", endless("", early), HTTP{}, "headers longer than 64 KiB"},
		{"101", repliesWith("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), HTTP{}, "status 101, want 200-299"},
		{"a byte at a time", drips(status200("")), HTTP{}, ""},
		{"body not awaited", endless(status200(""), "x"), HTTP{}, ""},
		{"body to come", says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), HTTP{}, ""},

		{"body", repliesWith(status200("all is well")), HTTP{Body: "is well"}, ""},
		{"body differs", repliesWith(status200("maintenance")), HTTP{Body: "is well"}, `body lacks "is well" in its first 64 KiB`},
		{"body empty", repliesWith(status200("")), HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"body of length 0", says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nok"), HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"body of a 204", says("HTTP/1.1 204 No Content\r\n\r\nok"), HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"body by length", says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay"), HTTP{Body: "ok"}, ""},
		{"body in chunks", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n8\r\n is well\r\n0\r\n\r\n"),
			HTTP{Body: "all is well"}, ""},
		{"body in chunks differs", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"),
			HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"body in small chunks", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
			HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"body in chunks of mere framing", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;0123456789abcd\r\nx\r\n"),
			HTTP{Body: "ok"}, "body in chunks too small"},
		{"bad chunk", repliesWith("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno"), HTTP{Body: "ok"},
			"invalid byte in chunk length"},
		{"body cut short", repliesWith("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall is"), HTTP{Body: "is well"},
			`connection closed, no "is well"; got "all is"`},
		{"status before body", repliesWith("HTTP/1.1 500 Oops\r\n\r\nok"), HTTP{Body: "ok"}, "status 500, want 200-299"},
		{"endless body", endless(status200(""), "x"), HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"endless body matches", endless(status200("ok"), "x"), HTTP{Body: "ok"}, ""},
		{"endless chunks", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), HTTP{Body: "ok"},
			`body lacks "ok" in its first 64 KiB`},
		{"just inside", repliesWith(status200(long[:maxRead-2] + "ok")), HTTP{Body: "ok"}, ""},
		{"just outside", repliesWith(status200(long[:maxRead-1] + "ok")), HTTP{Body: "ok"}, `body lacks "ok" in its first 64 KiB`},
		{"regex", repliesWith(status200("nodes: 12\n")), HTTP{BodyRegex: regexp.MustCompile(`nodes: [1-9]\d*`)}, ""},
		{"regex differs", repliesWith(status200("nodes: 0\n")), HTTP{BodyRegex: regexp.MustCompile(`nodes: [1-9]\d*`)},
			`body does not match "nodes: [1-9]\\d*" in its first 64 KiB`},
		{"regex, cut short", repliesWith("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"), HTTP{BodyRegex: regexp.MustCompile("^ok$")},
			"connection closed, no end of the body"},
		{"regex, endless", endless(status200(""), "x"), HTTP{BodyRegex: regexp.MustCompile("^x+$")}, ""},

		{"closed", leaves(""), HTTP{}, "connection closed, no answer"},
		{"reset", resets, HTTP{}, "connection reset"},
		{"HTTP/2", leaves("HTTP/2.0 200 OK\r\n\r\n"), HTTP{}, `not an HTTP/1.1 reply: "HTTP/2.0 200 OK"`},
		{"not HTTP", leaves("SSH-2.0-OpenSSH_9.6\r\n"), HTTP{}, `not an HTTP/1.1 reply: "SSH-2.0-OpenSSH_9.6"`},
		{"not HTTP, one line", leaves("go away"), HTTP{}, `not an HTTP/1.1 reply: "go away"`},
		{"garbage", leaves("\x00\x01\xfe\xff\r\n\r\n"), HTTP{}, `not an HTTP/1.1 reply: "\x00\x01\xfe\xff"`},
		{"bad header", leaves("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), HTTP{}, `not an HTTP/1.1 reply: "HTTP/1.1 200 OK"`},
		{"bad length", leaves("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), HTTP{}, `not an HTTP/1.1 reply: "HTTP/1.1 200 OK"`},
		{"cut in the headers", leaves("HTTP/1.1 200 OK\r\nServer: x\r\n"), HTTP{},
			`connection closed, no end of the headers; got "HTTP/1.1 200 OK"`},
		{"endless line", endless("", "x"), HTTP{}, "headers longer than 64 KiB"},
		{"endless headers", endless("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), HTTP{}, "headers longer than 64 KiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.check.Port = serve(t, tc.server)
			if got := verdict(t, must(t)(NewHTTP(tc.check)), patience); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestHTTPRefused(t *testing.T) {
	c := must(t)(NewHTTP(HTTP{Port: closedPort(t)}))
	if got := verdict(t, c, patience); got != "connection refused" {
		t.Errorf("got %q", got)
	}
}

func TestHTTPTimeout(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server func(*net.TCPConn)
		check  HTTP
		want   string
	}{
		{"silent", silent, HTTP{}, "connected, no answer within 1s"},
		{"half a line", says("HTTP/1."), HTTP{}, `connected, no end of the headers within 1s; got "HTTP/1."`},
		{"half the headers", drips("HTTP/1.1 200 OK\r\nServer: x\r\n"), HTTP{}, `connected, no end of the headers within 1s; got "HTTP/1.1 200 OK"`},
		{"half the body", says(status200("all is")), HTTP{Body: "is well"}, `connected, no "is well" within 1s; got "all is"`},
		{"half the body, regex", says(status200("all is")), HTTP{BodyRegex: regexp.MustCompile("well")}, "connected, no end of the body within 1s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.check.Port = serve(t, tc.server)
			judges(t, must(t)(NewHTTP(tc.check)), brief, tc.want)
		})
	}
}

// What a server of net/http reads is what we meant to send.
func TestHTTPRequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r }))
	t.Cleanup(server.Close)
	port := portOf(server.Listener.Addr())

	for _, tc := range []struct {
		name                 string
		check                HTTP
		method, uri, host    string
		userAgent, accept, x string
	}{
		{"default", HTTP{}, "GET", "/", server.Listener.Addr().String(), userAgent, "*/*", ""},
		{"all", HTTP{
			Method: "HEAD", Path: "/healthz?deep=1", Host: "www.example.org:8443",
			Header: http.Header{"user-agent": {"mine"}, "accept": {"text/plain"}, "x-probe": {"a b"}},
		}, "HEAD", "/healthz?deep=1", "www.example.org:8443", "mine", "text/plain", "a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.check.Port = port
			if got := verdict(t, must(t)(NewHTTP(tc.check)), patience); got != "" {
				t.Fatal(got)
			}
			r := next(t, seen)
			got := []string{r.Method, r.RequestURI, r.Host, r.UserAgent(), r.Header.Get("Accept"), r.Header.Get("X-Probe")}
			want := []string{tc.method, tc.uri, tc.host, tc.userAgent, tc.accept, tc.x}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if !r.Close {
				t.Error("the request does not say Connection: close")
			}
		})
	}
}

// The reply to a HEAD announces a body that does not come.
func TestHTTPHead(t *testing.T) {
	port := serve(t, says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
	if got := verdict(t, must(t)(NewHTTP(HTTP{Port: port, Method: "HEAD"})), patience); got != "" {
		t.Error(got)
	}
}

// hostFor leaves out the standard port and puts an IPv6 address into brackets.
func TestHTTPHostIsTheAddress(t *testing.T) {
	for _, tc := range []struct {
		tls      *TLS
		endpoint string
		want     string
	}{
		{nil, "192.0.2.1:80", "192.0.2.1"},
		{nil, "192.0.2.1:8080", "192.0.2.1:8080"},
		{nil, "192.0.2.1:443", "192.0.2.1:443"},
		{nil, "[2001:db8::1]:80", "[2001:db8::1]"},
		{nil, "[2001:db8::1]:8080", "[2001:db8::1]:8080"},
		{&TLS{Insecure: true}, "192.0.2.1:443", "192.0.2.1"},
		{&TLS{Insecure: true}, "192.0.2.1:80", "192.0.2.1:80"},
	} {
		c := must(t)(NewHTTP(HTTP{Port: 1, TLS: tc.tls}))
		if got := c.protocol.(*httpProbe).hostFor(netip.MustParseAddrPort(tc.endpoint)); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.endpoint, got, tc.want)
		}
	}
}

func TestHTTPOptions(t *testing.T) {
	re := regexp.MustCompile("a|b")
	for _, tc := range []struct {
		check HTTP
		want  string
	}{
		{HTTP{Path: "healthz"}, `path: "healthz": want it to begin with / and its special characters escaped`},
		{HTTP{Path: "/a b"}, `path: "/a b": want it to begin with / and its special characters escaped`},
		{HTTP{Path: "/a\r\nHost: b"}, `path: "/a\r\nHost: b": want it to begin with / and its special characters escaped`},
		{HTTP{Path: "/%zz"}, `path: "/%zz": want it to begin with / and its special characters escaped`},
		{HTTP{Path: "http://example.org/"}, `path: "http://example.org/": want it to begin with / and its special characters escaped`},
		{HTTP{Host: "a b"}, `host: "a b": want a name or an address, with a port if need be`},
		{HTTP{Host: "a/b"}, `host: "a/b": want a name or an address, with a port if need be`},
		{HTTP{Host: "a\r\nX: b"}, `host: "a\r\nX: b": want a name or an address, with a port if need be`},
		{HTTP{Method: "POST"}, `method: "POST": want GET or HEAD`},
		{HTTP{Header: http.Header{"host": {"x"}}}, `header: "Host": want the option host for it`},
		{HTTP{Header: http.Header{"Connection": {"keep-alive"}}}, `header: "Connection": want one that does not concern the connection`},
		{HTTP{Header: http.Header{"X Y": {"x"}}}, `header: name "X Y": want letters, digits and hyphens`},
		{HTTP{Header: http.Header{"X": {"a\r\nY: b"}}}, `header X: value "a\r\nY: b": want text on one line`},
		{HTTP{Expect: []StatusRange{{299, 200}}}, `expect: "299-200": want statuses of 100 to 599`},
		{HTTP{Expect: []StatusRange{{600, 600}}}, `expect: "600": want statuses of 100 to 599`},
		{HTTP{Body: "a", BodyRegex: re}, `body: "a" with body_regex "a|b": want one of them`},
		{HTTP{Method: "HEAD", Body: "a"}, `method: "HEAD" with body or body_regex: want GET`},
		{HTTP{Body: strings.Repeat("x", maxRead+1)}, `body: text of 65537 bytes: want at most 65536`},
	} {
		tc.check.Port = 80
		if _, err := NewHTTP(tc.check); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}

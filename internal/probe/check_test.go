// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/http"
	"net/netip"
	"regexp"
	"testing"

	"github.com/miekg/dns"
)

// different are checks whose verdicts may differ, with their names.
func different(t *testing.T) (checks []*Check, names []string) {
	insecure, v4, v6 := &TLS{Insecure: true}, netip.MustParseAddr("127.0.0.7"), netip.MustParseAddr("::1")
	a := newAuthority(t)
	cert, key := a.files(t, a.issue(t, "probe", a.cert.NotBefore))
	add := func(name string) func(*Check, error) {
		return func(c *Check, err error) {
			checks, names = append(checks, must(t)(c, err)), append(names, name)
		}
	}
	add("tcp:1")(NewTCP(TCP{Port: 1}))
	add("tcp:2")(NewTCP(TCP{Port: 2}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Send: "a"}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Send: "\u00e9"}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Send: `\u00e9`}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Receive: "a"}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Send: `a" receive="b`}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Source: v4}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Source: v6}))
	add("tcp+tls:1")(NewTCP(TCP{Port: 1, TLS: insecure}))
	add("tcp+tls:1")(NewTCP(TCP{Port: 1, TLS: insecure, Host: "a"}))
	add("tcp+tls:1")(NewTCP(TCP{Port: 1, TLS: &TLS{}, Host: "a"}))
	add("tcp+tls:1")(NewTCP(TCP{Port: 1, TLS: &TLS{Files: a.trusted(t)}, Host: "a"}))
	add("tcp+tls:1")(NewTCP(TCP{Port: 1, TLS: &TLS{Files: loaded(t, cert, key, "")}, Host: "a"}))
	add("http:1/")(NewHTTP(HTTP{Port: 1}))
	add("http:1/healthz")(NewHTTP(HTTP{Port: 1, Path: "/healthz"}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Host: "a"}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Method: "HEAD"}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Header: http.Header{"X": {"a"}}}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Header: http.Header{"X": {"a", "b"}}}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Expect: []StatusRange{{200, 200}}}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Body: "a"}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, BodyRegex: regexp.MustCompile("a")}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, HTTP2: true}))
	add("http:1/")(NewHTTP(HTTP{Port: 1, Source: v4}))
	add("https:1/")(NewHTTP(HTTP{Port: 1, TLS: insecure}))
	add("https:1/")(NewHTTP(HTTP{Port: 1, TLS: &TLS{}, Host: "a"}))
	add("https:1/")(NewHTTP(HTTP{Port: 1, TLS: &TLS{}, Host: "a:1"}))
	add("grpc:1")(NewGRPC(GRPC{Port: 1}))
	add("grpc:1/a.v1")(NewGRPC(GRPC{Port: 1, Service: "a.v1"}))
	add("grpc:1")(NewGRPC(GRPC{Port: 1, Host: "a"}))
	add("grpc+tls:1")(NewGRPC(GRPC{Port: 1, TLS: insecure}))
	add("dns:53")(NewDNS(DNS{Port: 53}))
	add("dns:53/./A")(NewDNS(DNS{Port: 53, Name: "."}))
	add("dns:53/./NS")(NewDNS(DNS{Port: 53, Name: ".", Type: dns.TypeNS}))
	add("dns:53/example.org./A")(NewDNS(DNS{Port: 53, Name: "example.org"}))
	add("dns:53")(NewDNS(DNS{Port: 53, Source: v6}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Proxy: ProxyV1}))
	add("tcp:1")(NewTCP(TCP{Port: 1, Proxy: ProxyV2}))
	add("udp:1")(NewUDP(UDP{Port: 1, Send: "a", Receive: "b"}))
	add("udp:1")(NewUDP(UDP{Port: 1, Send: "ab", Receive: "b"}))
	add("agent:1")(NewAgent(Agent{Port: 1}))
	add("agent:1")(NewAgent(Agent{Port: 1, Send: "a"}))
	if c, ok := newICMP(t, ICMP{}); ok {
		add("icmp")(c, nil)
	}
	if c, ok := newICMP(t, ICMP{Source: v4}); ok {
		add("icmp")(c, nil)
	}
	return checks, names
}

func TestNamesAndKeys(t *testing.T) {
	checks, names := different(t)
	seen := make(map[string]int)
	for i, c := range checks {
		if c.Name() != names[i] {
			t.Errorf("%s: got the name %s", names[i], c.Name())
		}
		if c.Key() != printableOnly(c.Key()) {
			t.Errorf("the key %q is not printable", c.Key())
		}
		if j, ok := seen[c.Key()]; ok {
			t.Errorf("checks %d and %d have the key %s", j, i, c.Key())
		}
		seen[c.Key()] = i
	}
}

func printableOnly(s string) string {
	return regexp.MustCompile(`[^ -~]`).ReplaceAllString(s, "?")
}

// Options that say the same have one key, whichever way they are written.
func TestEqualKeys(t *testing.T) {
	for _, pair := range [][2]*Check{
		{must(t)(NewHTTP(HTTP{Port: 1})), must(t)(NewHTTP(HTTP{Port: 1, Path: "/", Method: "GET", Expect: []StatusRange{{200, 299}}}))},
		{must(t)(NewHTTP(HTTP{Port: 1, Header: http.Header{"x-a": {"1"}, "B": {"2"}}})),
			must(t)(NewHTTP(HTTP{Port: 1, Header: http.Header{"b": {"2"}, "X-A": {"1"}}}))},
		{must(t)(NewDNS(DNS{Port: 1, Name: "Example.org"})), must(t)(NewDNS(DNS{Port: 1, Name: "example.ORG.", Type: dns.TypeA}))},
		{must(t)(NewTCP(TCP{Port: 1, Source: netip.MustParseAddr("::ffff:127.0.0.7")})),
			must(t)(NewTCP(TCP{Port: 1, Source: netip.MustParseAddr("127.0.0.7")}))},
	} {
		if pair[0].Key() != pair[1].Key() {
			t.Errorf("two keys:\n%s\n%s", pair[0].Key(), pair[1].Key())
		}
	}
}

// What the caller does with its options afterwards changes nothing.
func TestOptionsAreCopied(t *testing.T) {
	o := HTTP{Port: serve(t, repliesWith("HTTP/1.1 500 Oops\r\n\r\n")), Expect: []StatusRange{{500, 500}}}
	c := must(t)(NewHTTP(o))
	o.Expect[0] = StatusRange{200, 200}
	if got := verdict(t, c, patience); got != "" {
		t.Error(got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// issuer is a certificate authority. Immutable once made.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key}
	i.cert = i.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key)
	return i
}

// sign returns a certificate; without a parent, it signs itself.
func (i *issuer) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	i.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return cert
}

// forName issues a certificate for servers and clients of a name.
func (i *issuer) forName(name string) tls.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	cert := i.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, i.cert, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// file writes the issuer's certificate.
func (i *issuer) file() string {
	return file(i.t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})))
}

// pair writes a certificate and its key.
func (i *issuer) pair(c tls.Certificate) (certFile, keyFile string) {
	i.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		i.t.Fatal(err)
	}
	return file(i.t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))),
		file(i.t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

// overTLS is a server that accepts connections over TLS.
func overTLS(config *tls.Config, handle http.HandlerFunc) opener {
	return onListener(func(l net.Listener) (func() error, func() error) {
		s := &http.Server{Handler: handle, ErrorLog: nowhere}
		return func() error { return s.Serve(tls.NewListener(l, config)) }, s.Close
	})
}

func certified(c tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

// healthServer says of a gRPC service how it is.
func healthServer(service string, status grpc_health_v1.HealthCheckResponse_ServingStatus) opener {
	return onListener(func(l net.Listener) (func() error, func() error) {
		s, h := grpc.NewServer(), health.NewServer()
		h.SetServingStatus(service, status)
		grpc_health_v1.RegisterHealthServer(s, h)
		return func() error { return s.Serve(l) }, func() error { s.Stop(); return nil }
	})
}

// nameServer answers over UDP with an rcode.
func nameServer(rcode int) opener {
	return func(t *testing.T, addr string) func() {
		t.Helper()
		packets, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		ready, ended := make(chan struct{}), make(chan struct{})
		s := &dns.Server{PacketConn: packets, NotifyStartedFunc: func() { close(ready) }}
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(r, rcode)) })
		go func() { s.ActivateAndServe(); close(ended) }()
		<-ready
		return func() { s.Shutdown(); <-ended }
	}
}

// repeating sends back what it gets.
var repeating = accepting(func(c net.Conn) { io.Copy(c, c) })

// greeting says something to whoever connects.
func greeting(text string) opener {
	return accepting(func(c net.Conn) { io.WriteString(c, text); io.Copy(io.Discard, c) })
}

// hostOnly answers well where it is asked for one host with one header, else badly.
func hostOnly(w http.ResponseWriter, r *http.Request) {
	if r.Host != "www.example.org" || r.Header.Get("X-Probe") != "a probe" || r.Method != http.MethodHead || r.RequestURI != "/healthz?deep=1" {
		w.WriteHeader(http.StatusForbidden)
	}
}

// Each check tells the first backend, which passes, from all others.
func TestEveryProtocol(t *testing.T) {
	ca, other := newIssuer(t), newIssuer(t)
	fine := certified(ca.forName("www.example.org"))
	certFile, keyFile := ca.pair(ca.forName("balance"))
	clients := fine.Clone()
	clients.ClientAuth, clients.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	clients.ClientCAs.AddCert(ca.cert)
	strangers := fine.Clone()
	strangers.ClientAuth, strangers.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	strangers.ClientCAs.AddCert(other.cert)
	says := func(status int, body string) opener { return serving(saying(status, body)) }
	ok := saying(200, "")
	const serves, refuses = grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING
	tests := []struct {
		name, protocol, rest string
		lines                []string
		backends             []opener // nil: a closed port
	}{
		{"tcp", "tcp", "", nil, []opener{listening, nil, blackHole}},
		{"tcp says", "tcp", "", []string{"receive READY"}, []opener{greeting("NOT YET, BUT NOW READY"), greeting("NOT YET"), silent, listening, nil}},
		{"tcp answers", "tcp", "", []string{`send "are you there"`, `receive "you there"`}, []opener{repeating, greeting("no"), silent, nil}},
		{"http", "http", "", nil, []opener{says(204, ""), says(301, ""), says(404, ""), says(500, ""), listening, silent, greeting("hello"), nil}},
		{"http expect", "http", "/", []string{"expect 200,404,500-503"}, []opener{says(502, ""), says(204, ""), says(504, "")}},
		{"http body", "http", "/", []string{`body "all is well"`}, []opener{says(200, "today all is well."), says(200, "all is lost"), says(500, "all is well")}},
		{"http body late", "http", "/", []string{"body needle"},
			[]opener{says(200, strings.Repeat("x", 65000)+"needle"), says(200, strings.Repeat("x", 1<<17)+"needle")}},
		{"http body_regex", "http", "/", []string{`body_regex "^[0-9]+ workers$"`}, []opener{says(200, "42 workers"), says(200, "no workers")}},
		{"http request", "http", "/healthz?deep=1", []string{"host www.example.org", `header X-Probe "a probe"`, "method HEAD"}, []opener{serving(hostOnly), says(500, "")}},
		{"https", "https", "/", []string{"host www.example.org", "tls " + ca.file()}, []opener{overTLS(fine, ok),
			overTLS(certified(ca.forName("mail.example.org")), ok), overTLS(certified(other.forName("www.example.org")), ok), serving(ok), silent, nil}},
		{"https insecure", "https", "/", []string{"tls_insecure"}, []opener{overTLS(certified(other.forName("mail.example.org")), ok),
			overTLS(fine, saying(500, "")), serving(ok), nil}},
		{"https client", "https", "/", []string{"host www.example.org", "tls " + certFile + " " + keyFile + " " + ca.file()},
			[]opener{overTLS(clients, ok), overTLS(strangers, ok)}},
		{"grpc", "grpc", "", nil, []opener{healthServer("", serves), healthServer("", refuses), serving(ok), listening, silent, nil}},
		{"grpc service", "grpc", "example.v1.Users", nil, []opener{healthServer("example.v1.Users", serves), healthServer("example.v1.Users", refuses),
			healthServer("example.v1.Other", serves)}},
		{"http2", "http", "/", []string{"http2", `body well`}, []opener{overHTTP2(saying(200, "all is well")), says(200, "well"), silent, nil}},
		{"http proxy", "http", "/", []string{"proxy v1"}, []opener{behindProxy(saying(200, "")), listening, silent, nil}},
		{"tcp proxy", "tcp", "", []string{"proxy v2", `receive "\x00\x00\x00"`}, []opener{repeating, silent, nil}},
		{"udp", "udp", "", []string{`send "\xffping"`, `receive "ping"`}, []opener{echoing, nil}},
		{"agent", "agent", "", nil, []opener{greeting("up 75%\n"), greeting("down # disk full\n"), greeting("stopped\n")}},
		{"dns", "dns", "", nil, []opener{nameServer(dns.RcodeRefused), nil}},
		{"dns name", "dns", "health.example.org AAAA", nil, []opener{nameServer(dns.RcodeSuccess), nameServer(dns.RcodeServerFailure), nameServer(dns.RcodeNameError), nil}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f := deadFarm(t, len(tc.backends), nil)
			for i, backend := range tc.backends {
				if backend != nil {
					f.replace(i, backend)
				}
			}
			// Long timeouts: handshakes and the like take their time on a busy machine.
			check := healthCheck(tc.protocol, f.port, tc.rest, append(tc.lines, "interval 1s\n timeout 900ms\n fast_interval 50ms\n max_interval 1s")...)
			k := startChecked(t, rule(check), "file "+zone(t, "example.org.", f.as("www")))
			k.verdicts(1, len(tc.backends)-1)
			k.answers(5, f.addrs[0])
		})
	}
}

// overHTTP2 is a web server that speaks HTTP/2 with prior knowledge, and nothing else.
func overHTTP2(handle http.HandlerFunc) opener {
	return onListener(func(l net.Listener) (func() error, func() error) {
		s := &http.Server{Handler: handle, ErrorLog: nowhere, Protocols: new(http.Protocols)}
		s.Protocols.SetUnencryptedHTTP2(true)
		return func() error { return s.Serve(l) }, s.Close
	})
}

// behindProxy is a web server that wants version 1 of the PROXY protocol.
func behindProxy(handle http.HandlerFunc) opener {
	const header = "PROXY UNKNOWN\r\n"
	return accepting(func(c net.Conn) {
		got := make([]byte, len(header))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != header {
			return
		}
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			w := httptest.NewRecorder()
			handle(w, r)
			w.Result().Write(c)
		}
	})
}

// echoing sends datagrams back.
func echoing(t *testing.T, addr string) func() {
	t.Helper()
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for packet := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			conn.WriteTo(packet[:n], from)
		}
	})
	return func() { conn.Close(); wg.Wait() }
}

// An agent drains its member, and has no say once it is gone.
func TestAgent(t *testing.T) {
	log := newJournal(t)
	f, agents := newFarm(t, 2, listening), newFarm(t, 2, greeting("up\n"))
	k := startChecked(t, rule(f.check("tcp", ""), agents.check("agent", "")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(4, 0)
	k.answers(30, f.addrs...)
	agents.replace(0, greeting("drain # disk swap\n"))
	k.answers(30, f.addrs[1])
	agents.replace(0, greeting("ready\n"))
	k.answers(30, f.addrs...)
	agents.replace(0, greeting("down\n"))
	k.answers(5, f.addrs[1])
	agents.kill(0)
	k.answers(30, f.addrs...)
	for _, line := range []string{`drains: "disk swap"`, "takes new clients again", "is down: the agent says down", "has no say (was down): connection refused"} {
		log.says(line)
	}
}

// With "require any" a member is up as long as one of its checks passes.
func TestAnyCheckMayPass(t *testing.T) {
	one, two := newFarm(t, 2, listening), newFarm(t, 2, listening)
	k := startChecked(t, rule(one.check("tcp", ""), two.check("tcp", ""), "require any"), "file "+zone(t, "example.org.", one.as("www")))
	k.verdicts(4, 0)
	one.kill(0)
	k.verdicts(3, 1)
	k.answers(30, one.addrs...)
	two.kill(0)
	k.verdicts(2, 2)
	k.answers(5, one.addrs[1])
}

// A rate limit is no verdict: what was up stays up.
func TestRateLimit(t *testing.T) {
	f := newFarm(t, 2, serving(saying(200, "")))
	k := startChecked(t, rule(f.check("http", "/")), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(2, 0)
	f.replace(0, serving(saying(429, "")))
	testserver.Eventually(t, "some rate limits", func() bool { return k.grown(probes("http:"+f.port+"/", "inconclusive")) > 5 })
	k.verdicts(2, 0)
	f.replace(0, serving(saying(500, "")))
	k.verdicts(1, 1)
}

// Every address of 127.0.0.0/8 answers echo requests except the broadcast address.
func TestICMP(t *testing.T) {
	k := startChecked(t, rule("health_check icmp {\n allow 127.0.0.0/8\n"+patient+"\n}"),
		"file "+zone(t, "example.org.", as("www", "127.1.0.1", "127.1.0.2", "127.255.255.255")))
	k.verdicts(2, 1)
	k.answers(5, "127.1.0.1", "127.1.0.2")
}

// Where a rule has several checks, all must pass.
func TestAllChecksMustPass(t *testing.T) {
	one, two := newFarm(t, 4, serving(saying(200, ""))), newFarm(t, 4, listening)
	one.kill(1)
	two.kill(2)
	one.kill(3)
	two.kill(3)
	k := startChecked(t, rule(one.check("http", "/"), two.check("tcp", "")), "file "+zone(t, "example.org.", one.as("www")))
	k.verdicts(4, 4)
	k.answers(5, one.addrs[0])
	one.revive(1)
	k.answers(5, one.some(0, 1)...)
	one.revive(3) // the other check still fails
	k.verdicts(6, 2)
	k.answers(5, one.some(0, 1)...)
	two.revive(2)
	two.revive(3)
	k.answers(30, one.addrs...)
	one.replace(0, serving(saying(500, "")))
	k.answers(5, one.some(1, 2, 3)...)
}

// Two stanzas probe one backend by checks of their own: each goes by its own.
func TestStanzasHaveTheirOwnChecks(t *testing.T) {
	f := newFarm(t, 2, serving(saying(500, "")))
	f.replace(0, serving(saying(200, "")))
	k := startChecked(t, rule(f.check("http", "/")), "balance sub.example.org {\n"+f.check("tcp", "")+"}", "balance plain.example.org",
		"file "+zone(t, "example.org.", f.as("www")+f.as("www.sub")+f.as("www.plain")))
	k.verdicts(1, 1)
	k.answers(5, f.addrs[0])
	k.answersOf("www.sub.example.org.", dns.TypeA, 30, f.addrs...)
	k.answersOf("www.plain.example.org.", dns.TypeA, 300, f.addrs...)
	f.kill(0)
	k.answersOf("www.sub.example.org.", dns.TypeA, 5, f.addrs[1])
}

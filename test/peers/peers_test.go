// SPDX-License-Identifier: Apache-2.0

// Package peers has tests of probes against servers that other people wrote: HAProxy and nginx
// behind the PROXY protocol and over HTTP/2, and sshd, which says how a connection ended.
package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/probe"
	"github.com/seed-f1518d44/balance/internal/testserver"
)

const haproxyConfig = `
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend proxied
  bind 127.0.0.1:%[1]d accept-proxy
  http-request return status 200 content-type text/plain string "all is well"
frontend proxied2
  bind 127.0.0.1:%[2]d accept-proxy proto h2
  http-request return status 200 content-type text/plain string "all is well"
`

const nginxConfig = `
daemon off; master_process off; pid nginx.pid; error_log stderr info;
events {}
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen 127.0.0.1:%[1]d proxy_protocol; location / { return 200 "all is well"; } }
  server { listen 127.0.0.1:%[2]d http2; location / { return 200 "all is well"; } }
  server {
    listen 127.0.0.1:%[3]d ssl http2 proxy_protocol; ssl_certificate cert.pem; ssl_certificate_key key.pem;
    location / { return 200 "all is well"; }
  }
  server { listen 127.0.0.1:%[4]d; root pages; }
}
`

// Each server is up if it is spoken to as it wants to be, and down with a reason otherwise.
func TestServersThatWantMore(t *testing.T) {
	dir, ports := t.TempDir(), freePorts(t, 6)
	write(t, dir, "haproxy.cfg", fmt.Sprintf(haproxyConfig, ports[0], ports[1]))
	write(t, dir, "nginx.conf", fmt.Sprintf(nginxConfig, ports[2], ports[3], ports[4], ports[5]))
	certify(t, dir)
	write(t, dir, "pages/long", strings.Repeat("0123456789abcdef", 2<<20/16))
	run(t, dir, "haproxy", "-db", "-f", "haproxy.cfg")
	nginx := run(t, dir, "nginx", "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	for _, port := range ports {
		testserver.Eventually(t, "a server listens", func() bool { return listens(port) })
	}
	haproxy, haproxy2, proxied, h2c, h2, pages := ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]
	well, secure := "is well", &probe.TLS{Insecure: true}
	for _, tc := range []struct {
		name  string
		check probe.HTTP
		want  string
	}{
		{"haproxy, v1", probe.HTTP{Port: haproxy, Proxy: probe.ProxyV1, Body: well}, ""},
		{"haproxy, v2", probe.HTTP{Port: haproxy, Proxy: probe.ProxyV2, Body: well}, ""},
		{"haproxy, v2 and HTTP/2", probe.HTTP{Port: haproxy2, Proxy: probe.ProxyV2, HTTP2: true, Body: well}, ""},
		{"nginx, v1", probe.HTTP{Port: proxied, Proxy: probe.ProxyV1, Body: well}, ""},
		{"nginx, v2", probe.HTTP{Port: proxied, Proxy: probe.ProxyV2, Body: well}, ""},
		{"nginx, no header", probe.HTTP{Port: proxied}, "connection closed, no answer"},
		{"nginx, HTTP/2", probe.HTTP{Port: h2c, HTTP2: true, Body: well}, ""},
		{"nginx, HTTP/1.1", probe.HTTP{Port: h2c}, "the peer speaks HTTP/2: want the option http2"},
		{"nginx, HTTP/2 over TLS", probe.HTTP{Port: h2, HTTP2: true, Proxy: probe.ProxyV1, TLS: secure, Body: well}, ""},
		{"nginx, a long page", probe.HTTP{Port: pages, Path: "/long"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { judges(t, tc.want)(probe.NewHTTP(tc.check)) })
	}
	if log := nginx.Log.String(); strings.Contains(log, "reset by peer") {
		t.Errorf("nginx saw a reset:\n%s", log)
	}
}

// sshd is told that the client has left, not that the connection was reset.
func TestServersSeeNoReset(t *testing.T) {
	dir, port := t.TempDir(), freePorts(t, 1)[0]
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	sshd := run(t, dir, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", filepath.Join(dir, "key"),
		"-o", "PidFile=none", "-o", "UsePAM=no", "-o", fmt.Sprintf("ListenAddress=127.0.0.1:%d", port))
	testserver.Eventually(t, "sshd listens", func() bool { return strings.Contains(sshd.Log.String(), "Server listening") })
	for range 3 {
		judges(t, "")(probe.NewTCP(probe.TCP{Port: port}))
		judges(t, "")(probe.NewTCP(probe.TCP{Port: port, Receive: "SSH-2.0"}))
	}
	testserver.Eventually(t, "sshd logs six ends", func() bool { return strings.Count(sshd.Log.String(), "Connection closed by 127.0.0.1") == 6 })
	if log := sshd.Log.String(); strings.Contains(log, "reset by") {
		t.Errorf("sshd saw a reset:\n%s", log)
	}
}

// judges returns a function that fails the test unless a probe says what is wanted, "" for up.
func judges(t *testing.T, want string) func(*probe.Check, error) {
	return func(c *probe.Check, err error) {
		t.Helper()
		got := ""
		if err == nil {
			err = c.Probe(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// run runs a program until the test ends.
func run(t *testing.T, dir, name string, args ...string) *testserver.Process {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; test/install installs it", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	return testserver.Start(t, cmd)
}

func listens(port uint16) bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) (ports []uint16) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	return ports
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// certify writes a certificate and its key.
func certify(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"www.example.org"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
	dir  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test issuer"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour),
	}
	a.cert, a.key = a.sign(t, template)
	a.file = a.write(t, "ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

// sign makes a certificate, signed by itself if there is no other yet.
func (a *authority) sign(t testing.TB, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(t testing.TB, name, kind string, content []byte) string {
	t.Helper()
	name = filepath.Join(a.dir, name)
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// issue makes a certificate for a name, valid from a time on for an hour.
func (a *authority) issue(t testing.TB, name string, from time.Time) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: from.Add(time.Hour),
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// files writes a certificate and its key.
func (a *authority) files(t testing.TB, c tls.Certificate) (cert, key string) {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, "client.pem", "CERTIFICATE", c.Certificate[0]), a.write(t, "client.key", "PRIVATE KEY", raw)
}

// overTLS lets a server speak TLS.
func overTLS(config *tls.Config, text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		secure := tls.Server(c, config)
		if secure.Handshake() == nil {
			io.WriteString(secure, text)
		}
		io.Copy(io.Discard, secure)
	}
}

func TestTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	now := time.Now().Add(-time.Minute).Truncate(time.Second)
	past := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	future := time.Date(2200, 1, 2, 3, 4, 5, 0, time.UTC)
	good := a.issue(t, "www.example.org", now)
	clientCert, clientKey := a.files(t, a.issue(t, "probe", now))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)

	for _, tc := range []struct {
		name   string
		server *tls.Config
		host   string
		client TLS
		want   string
	}{
		{"verified", &tls.Config{Certificates: []tls.Certificate{good}}, "www.example.org", TLS{Files: a.trusted(t)}, ""},
		{"host with port", &tls.Config{Certificates: []tls.Certificate{good}}, "www.example.org:8443", TLS{Files: a.trusted(t)}, ""},
		{"TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, "www.example.org", TLS{Files: a.trusted(t)}, ""},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
			"www.example.org", TLS{Files: a.trusted(t)}, `tls: the peer says "protocol version not supported"`},
		{"wrong name", &tls.Config{Certificates: []tls.Certificate{good}}, "example.net", TLS{Files: a.trusted(t)},
			`tls: certificate is not for "example.net"`},
		{"wrong name, insecure", &tls.Config{Certificates: []tls.Certificate{good}}, "example.net", TLS{Insecure: true}, ""},
		{"insecure without a name", &tls.Config{Certificates: []tls.Certificate{good}}, "", TLS{Insecure: true}, ""},
		{"unknown issuer", &tls.Config{Certificates: []tls.Certificate{good}}, "www.example.org", TLS{Files: stranger.trusted(t)},
			"tls: certificate of an unknown issuer"},
		{"unknown to the host", &tls.Config{Certificates: []tls.Certificate{good}}, "www.example.org", TLS{},
			"tls: certificate of an unknown issuer"},
		{"expired", &tls.Config{Certificates: []tls.Certificate{a.issue(t, "www.example.org", past)}}, "www.example.org", TLS{Files: a.trusted(t)},
			"tls: certificate expired on 2020-01-02T04:04:05Z"},
		{"expired, insecure", &tls.Config{Certificates: []tls.Certificate{a.issue(t, "www.example.org", past)}}, "", TLS{Insecure: true}, ""},
		{"not yet valid", &tls.Config{Certificates: []tls.Certificate{a.issue(t, "www.example.org", future)}}, "www.example.org", TLS{Files: a.trusted(t)},
			"tls: certificate not valid before 2200-01-02T03:04:05Z"},
		{"client certificate", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
			"www.example.org", TLS{Files: loaded(t, clientCert, clientKey, a.file)}, ""},
		{"no client certificate", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
			"www.example.org", TLS{Files: a.trusted(t)}, `tls: the peer says "certificate required"`},
		{"no client certificate, TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
			"www.example.org", TLS{Files: a.trusted(t)}, `tls: the peer says "handshake failure"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			port := serve(t, overTLS(tc.server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
			for _, c := range []*Check{
				must(t)(NewTCP(TCP{Port: port, Receive: "ok", Host: tc.host, TLS: &tc.client})),
				must(t)(NewHTTP(HTTP{Port: port, Body: "ok", Host: tc.host, TLS: &tc.client})),
			} {
				if got := verdict(t, c, patience); got != tc.want {
					t.Errorf("%s: got  %s\nwant %s", c.Name(), got, tc.want)
				}
			}
		})
	}
}

func TestTLSWithoutPeer(t *testing.T) {
	insecure := &TLS{Insecure: true}
	for _, tc := range []struct {
		name    string
		server  func(*net.TCPConn)
		timeout time.Duration
		want    string
	}{
		{"plaintext", says("220 mail.example.org\r\n"), patience, "tls: the peer does not speak TLS"},
		{"closes", leaves(""), patience, "connection closed, no TLS handshake"},
		{"silent", silent, brief, "connected, no TLS handshake within 1s"},
		{"endless", endless("", "x"), patience, "tls: the peer does not speak TLS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			judges(t, must(t)(NewTCP(TCP{Port: serve(t, tc.server), TLS: insecure})), tc.timeout, tc.want)
		})
	}
}

func TestTLSOptions(t *testing.T) {
	a := newAuthority(t)
	for _, tc := range []struct {
		host string
		tls  TLS
		want string
	}{
		{"", TLS{}, "tls: no host: want the name in the certificate, or tls_insecure"},
		{"a", TLS{Files: a.trusted(t), Insecure: true}, fmt.Sprintf("tls: issuers %q with tls_insecure: want one of them", a.file)},
	} {
		if _, err := NewTCP(TCP{Port: 1, Host: tc.host, TLS: &tc.tls}); err == nil || err.Error() != tc.want {
			t.Errorf("got  %v\nwant %s", err, tc.want)
		}
	}
}

// A renewed client certificate, and another issuer, count from the next probe on. The check stays
// the same one.
func TestTLSFollowsItsFiles(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{a.issue(t, "a", time.Now().Add(-time.Minute))}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
	server.ClientCAs.AddCert(a.cert)
	port := serve(t, overTLS(server, "hello"))
	expired, expiredKey := a.files(t, a.issue(t, "probe", time.Now().Add(-2*time.Hour)))
	files := loaded(t, expired, expiredKey, a.file)
	c := must(t)(NewTCP(TCP{Port: port, Host: "a", Receive: "hello", TLS: &TLS{Files: files}}))
	key := c.Key()
	if got := verdict(t, c, patience); got == "" {
		t.Error("up with an expired certificate")
	}
	fresh := a.issue(t, "probe", time.Now().Add(-time.Minute))
	a.files(t, fresh)
	set(t, files)
	if got := verdict(t, c, patience); got != "" || !files.PairNotAfter().Equal(fresh.Leaf.NotAfter) {
		t.Errorf("%s, valid until %v", got, files.PairNotAfter())
	}
	a.write(t, "ca.pem", "CERTIFICATE", other.cert.Raw)
	set(t, files)
	if got := verdict(t, c, patience); got != "tls: certificate of an unknown issuer" || !files.IssuersNotAfter().Equal(other.cert.NotAfter) {
		t.Errorf("%s, issuers until %v", got, files.IssuersNotAfter())
	}
	if c.Key() != key || !strings.Contains(key, a.file) {
		t.Errorf("the key was %s and is %s", key, c.Key())
	}
}

func TestCredentialsAreChecked(t *testing.T) {
	a, c := newAuthority(t), new(Credentials)
	cert, key := a.files(t, a.issue(t, "probe", time.Now()))
	for _, tc := range []struct {
		err  error
		want string
	}{
		{c.SetPair(read(t, a.file), read(t, key)), "private key does not match public key"},
		{c.SetPair(nil, read(t, key)), "failed to find any PEM data in certificate input"},
		{c.SetIssuers(nil), "no certificate: want PEM"},
		{c.SetIssuers(read(t, key)), "no certificate: want PEM"},
		{c.SetPair(read(t, cert), read(t, key)), "<nil>"},
	} {
		if got := fmt.Sprint(tc.err); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// trusted returns the authority as the issuer to trust.
func (a *authority) trusted(t testing.TB) *Credentials { return loaded(t, "", "", a.file) }

// loaded returns credentials with the content of their files.
func loaded(t testing.TB, cert, key, issuers string) *Credentials {
	t.Helper()
	c := &Credentials{CertFile: cert, KeyFile: key, CAFile: issuers}
	set(t, c)
	return c
}

// set reads the files of credentials.
func set(t testing.TB, c *Credentials) {
	t.Helper()
	if c.CertFile != "" {
		if err := c.SetPair(read(t, c.CertFile), read(t, c.KeyFile)); err != nil {
			t.Fatal(err)
		}
	}
	if c.CAFile != "" {
		if err := c.SetIssuers(read(t, c.CAFile)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

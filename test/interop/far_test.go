// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

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
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// visits are where requests were served, by the host that was asked for. Safe for concurrent use.
type visits struct {
	mu sync.Mutex
	by map[string][]netip.AddrPort
}

var seen = visits{by: map[string][]netip.AddrPort{}}

func (v *visits) add(host string, at netip.AddrPort) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.by[host] = append(v.by[host], at)
}

// take returns the visits to hosts below a name and forgets them.
func (v *visits) take(name string) (all []netip.AddrPort) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for host, served := range v.by {
		if strings.HasSuffix("."+host, "."+name) {
			all = append(all, served...)
			delete(v.by, host)
		}
	}
	return all
}

// backend answers with the address that it was reached at. Paths are for browsers: /frames?URL...
// is a page of those URLs, /chain/N a page that holds the page /chain/N-1 of the same host.
func backend(w http.ResponseWriter, r *http.Request) {
	at := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	host, _, found := strings.Cut(r.Host, ":")
	if found {
		r.Host = host
	}
	w.Header().Set("Connection", "close") // so that every request takes a connection, and an address
	if _, isFrames := strings.CutPrefix(r.URL.Path, "/frames"); isFrames {
		w.Header().Set("Content-Type", "text/html")
		for _, url := range r.URL.Query()["of"] {
			fmt.Fprintf(w, "<iframe src=%q></iframe>", url)
		}
		return
	}
	if r.URL.Path == "/favicon.ico" {
		http.NotFound(w, r)
		return
	}
	seen.add(r.Host, at)
	var left int
	if n, _ := fmt.Sscanf(r.URL.Path, "/chain/%d", &left); n == 1 && left > 0 {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<iframe src=/chain/%d></iframe>", left-1)
		return
	}
	fmt.Fprintln(w, at.Addr())
}

// certificate is the one that all servers here show, for example.org, what is below, what is below
// services, and 10.9.0.1. The authority issued it.
var authority, certificate, certificateKey = func() (ca, cert []byte, key *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "interop"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "example.org"}, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"example.org", "*.example.org"}, IPAddresses: []net.IP{net.ParseIP(router4)},
	}
	for name := range services {
		leaf.DNSNames = append(leaf.DNSNames, "*."+name+".example.org")
	}
	if ca, err = x509.CreateCertificate(rand.Reader, issuer, issuer, &key.PublicKey, key); err != nil {
		panic(err)
	}
	if cert, err = x509.CreateCertificate(rand.Reader, leaf, issuer, &key.PublicKey, key); err != nil {
		panic(err)
	}
	return ca, cert, key
}()

// listenTLS serves the backends over TLS on ports 443 and 8443, in the network of the calling
// thread.
func listenTLS() error {
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: certificateKey}}, NextProtos: []string{"http/1.1"}}
	quiet := log.New(io.Discard, "", 0) // of clients that try TLS and do not know the issuer
	srv := &http.Server{Handler: http.HandlerFunc(backend), ErrorLog: quiet}
	for _, addr := range []string{":443", ":8443"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		go srv.Serve(tls.NewListener(l, config))
	}
	return nil
}

// writeCertificate writes certificate and key for a server to read, and returns their paths.
func writeCertificate(dir string) (cert, key string, err error) {
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalECPrivateKey(certificateKey)
	if err != nil {
		return "", "", err
	}
	err = os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600)
	if err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

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

// visits are the members that served requests, by the host that was asked for. Safe for concurrent use.
type visits struct {
	mu sync.Mutex
	by map[string][]netip.Addr

	overTLS int // of all
}

var seen = visits{by: map[string][]netip.Addr{}}

func (v *visits) add(host string, addr netip.Addr, overTLS bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if overTLS {
		v.overTLS++
	}
	v.by[host] = append(v.by[host], addr)
}

// take returns the visits to hosts below a name and forgets them.
func (v *visits) take(name string) (all []netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for host, addrs := range v.by {
		if strings.HasSuffix("."+host, "."+name) {
			all = append(all, addrs...)
			delete(v.by, host)
		}
	}
	return all
}

// backend answers with the address that it was reached at. Paths are for browsers: /frames?URL... is a page of those URLs,
// /chain/N a page that holds the page /chain/N-1 of the same host.
func backend(w http.ResponseWriter, r *http.Request) {
	addr := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).AddrPort().Addr().Unmap()
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
	seen.add(r.Host, addr, r.TLS != nil)
	var left int
	if n, _ := fmt.Sscanf(r.URL.Path, "/chain/%d", &left); n == 1 && left > 0 {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<iframe src=/chain/%d></iframe>", left-1)
		return
	}
	fmt.Fprintln(w, addr)
}

// certificate is the one that all servers here show, for example.org and what is below, and 10.9.0.1.
var certificate, certificateKey = func() ([]byte, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "interop"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"example.org", "*.example.org", "*.svc.example.org"}, IPAddresses: []net.IP{net.ParseIP(router4)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return der, key
}()

// listenTLS serves the backends over TLS on port 443, in the network of the calling thread.
func listenTLS() error {
	l, err := net.Listen("tcp", ":443")
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: certificateKey}}}
	quiet := log.New(io.Discard, "", 0) // of clients that try TLS and do not know the issuer
	srv := &http.Server{Handler: http.HandlerFunc(backend), ErrorLog: quiet}
	go srv.Serve(tls.NewListener(l, config))
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

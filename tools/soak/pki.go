// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// backendHost is the name in the certificates of backends, serverHost that in the server's.
const (
	backendHost = "backend.test"
	serverHost  = "server.test"
)

// pki is certificates, good and bad ones.
type pki struct {
	roots                          *x509.CertPool
	good, expired, stranger, rogue tls.Certificate // of backends
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "soak"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

// issue returns a certificate for a name that ends at some time.
func (a *authority) issue(name string, end time.Time) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: end.Add(-200 * time.Hour), NotAfter: end, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// newPKI makes the certificates and writes what the server needs into a directory: ca.pem,
// server.pem, server.key.
func newPKI(dir string) (*pki, error) {
	ours, err := newAuthority()
	if err != nil {
		return nil, err
	}
	theirs, err := newAuthority()
	if err != nil {
		return nil, err
	}
	p := &pki{roots: x509.NewCertPool()}
	p.roots.AddCert(ours.cert)
	end := time.Now().Add(100 * time.Hour)
	for _, issue := range []struct {
		into *tls.Certificate
		by   *authority
		name string
		end  time.Time
	}{
		{&p.good, ours, backendHost, end}, {&p.expired, ours, backendHost, time.Now().Add(-time.Hour)},
		{&p.stranger, ours, "other.test", end}, {&p.rogue, theirs, backendHost, end},
	} {
		if *issue.into, err = issue.by.issue(issue.name, issue.end); err != nil {
			return nil, err
		}
	}
	server, err := ours.issue(serverHost, end)
	if err != nil {
		return nil, err
	}
	return p, writePKI(dir, ours.cert, server)
}

func writePKI(dir string, root *x509.Certificate, server tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":     {Type: "CERTIFICATE", Bytes: root.Raw},
		"server.pem": {Type: "CERTIFICATE", Bytes: server.Certificate[0]},
		"server.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o644); err != nil { //nolint:gosec // the server reads it
			return err
		}
	}
	return nil
}

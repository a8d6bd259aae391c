// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Credentials are a client certificate and the issuers to trust, as PEM files hold them. Checks
// that have them go by what was last set, so that a renewed certificate needs no new check. Safe
// for concurrent use.
type Credentials struct {
	CertFile, KeyFile string // "" for no client certificate
	CAFile            string // "" for the issuers that this host trusts

	pair    atomic.Pointer[tls.Certificate]
	issuers atomic.Pointer[issuers]
}

// issuers are the certificates of a CA file. Immutable.
type issuers struct {
	pool     *x509.CertPool
	notAfter time.Time // the earliest
}

// SetPair sets the client certificate, with its chain, and its key.
func (c *Credentials) SetPair(cert, key []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	c.pair.Store(&pair)
	return nil
}

// SetIssuers sets the issuers to trust.
func (c *Credentials) SetIssuers(content []byte) error {
	now := &issuers{pool: x509.NewCertPool()}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate: %s", strings.TrimPrefix(err.Error(), "x509: "))
		}
		now.pool.AddCert(cert)
		if now.notAfter.IsZero() || cert.NotAfter.Before(now.notAfter) {
			now.notAfter = cert.NotAfter
		}
	}
	if now.notAfter.IsZero() {
		return errors.New("no certificate: want PEM")
	}
	c.issuers.Store(now)
	return nil
}

// PairNotAfter returns until when the client certificate is valid, the zero time if there is none.
func (c *Credentials) PairNotAfter() time.Time {
	if pair := c.pair.Load(); pair != nil && pair.Leaf != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}

// IssuersNotAfter returns when the first of the issuers expires, the zero time if there is none.
func (c *Credentials) IssuersNotAfter() time.Time {
	if i := c.issuers.Load(); i != nil {
		return i.notAfter
	}
	return time.Time{}
}

// clientCertificate returns the certificate that a server gets.
func (c *Credentials) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if pair := c.pair.Load(); pair != nil {
		return pair, nil
	}
	return new(tls.Certificate), nil
}

// configured returns a configuration with the issuers of now.
func (c *Credentials) configured(config *tls.Config) *tls.Config {
	i := c.issuers.Load()
	if i == nil {
		return config
	}
	config = config.Clone()
	config.RootCAs = i.pool
	return config
}

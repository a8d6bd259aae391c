// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// TLS says how a probe encrypts. Its zero value verifies the server with the issuers that this
// host trusts. Files are PEM and read once, by the constructor of the check.
type TLS struct {
	CertFile string // client certificate with its chain; "" for none
	KeyFile  string // its private key; given where CertFile is
	CAFile   string // the issuers to trust instead of the host's
	Insecure bool   // accept any certificate for any name
}

// load reads the files. The string identifies them and their content.
func (t *TLS) load(host string, protocols []string) (*tls.Config, string, error) {
	if err := t.validate(host); err != nil {
		return nil, "", err
	}
	config := &tls.Config{
		ServerName: host,
		NextProtos: protocols,
		MinVersion: tls.VersionTLS12,
		// #nosec G402 -- the operator wrote tls_insecure
		InsecureSkipVerify: t.Insecure,
	}
	pair, err := t.loadPair(config)
	if err != nil {
		return nil, "", err
	}
	issuers, err := t.loadIssuers(config)
	if err != nil {
		return nil, "", err
	}
	return config, fmt.Sprintf("(name=%q insecure=%t %s%s)", host, t.Insecure, pair, issuers), nil
}

func (t *TLS) validate(host string) error {
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		return fmt.Errorf("tls: certificate %q with key %q: want both or neither", t.CertFile, t.KeyFile)
	case t.Insecure && t.CAFile != "":
		return fmt.Errorf("tls: issuers %q with tls_insecure: want one of them", t.CAFile)
	case !t.Insecure && host == "":
		return errors.New("tls: no host: want the name in the certificate, or tls_insecure")
	}
	return nil
}

func (t *TLS) loadPair(config *tls.Config) (seen string, err error) {
	if t.CertFile == "" {
		return "", nil
	}
	cert, err := readFile(t.CertFile)
	if err != nil {
		return "", err
	}
	key, err := readFile(t.KeyFile)
	if err != nil {
		return "", err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return "", fmt.Errorf("tls: certificate %q with key %q: %s",
			t.CertFile, t.KeyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	config.Certificates = []tls.Certificate{pair}
	return fmt.Sprintf("cert=%s key=%s ", identity(t.CertFile, cert), identity(t.KeyFile, key)), nil
}

func (t *TLS) loadIssuers(config *tls.Config) (seen string, err error) {
	if t.CAFile == "" {
		return "", nil
	}
	issuers, err := readFile(t.CAFile)
	if err != nil {
		return "", err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(issuers) {
		return "", fmt.Errorf("tls: no certificate in %q: want PEM", t.CAFile)
	}
	return "ca=" + identity(t.CAFile, issuers), nil
}

// maxPEM is how long a file may be, in bytes: the issuers that a host trusts have a fifth of that.
const maxPEM = 1 << 20

func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator named it; a pipe has nobody at its other end
	if err != nil {
		return nil, unreadableFile(name, err)
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("tls: cannot read %q: want a regular file of at most %d bytes", name, maxPEM)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxPEM))
	return content, unreadableFile(name, err)
}

// unreadableFile says which file cannot be read, and why.
func unreadableFile(name string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("tls: cannot read %q: %w", name, path.Err)
	}
	return err
}

// identity is a file's name and a hash of its content.
func identity(name string, content []byte) string {
	return fmt.Sprintf("%q@%x", name, sha256.Sum256(content))
}

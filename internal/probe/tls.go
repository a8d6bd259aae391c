// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// TLS says how a probe encrypts. Its zero value verifies the server with the issuers that this host
// trusts.
type TLS struct {
	Files    *Credentials // nil: no client certificate, and the issuers that this host trusts
	Insecure bool         // accept any certificate for any name
}

// load returns the configuration, which follows the files, and the part of the key that describes
// it: other content of a file is no other check.
func (t *TLS) load(host string, protocols []string) (config *tls.Config, key string, err error) {
	files := t.Files
	if files == nil {
		files = new(Credentials)
	}
	if err := t.validate(files, host); err != nil {
		return nil, "", err
	}
	config = &tls.Config{
		ServerName: host,
		NextProtos: protocols,
		MinVersion: tls.VersionTLS12,
		// #nosec G402 -- the operator wrote tls_insecure
		InsecureSkipVerify: t.Insecure,
	}
	if files.CertFile != "" {
		config.GetClientCertificate = files.clientCertificate
	}
	return config, fmt.Sprintf("(name=%q insecure=%t cert=%q key=%q ca=%q)", host, t.Insecure, files.CertFile, files.KeyFile, files.CAFile), nil
}

func (t *TLS) validate(files *Credentials, host string) error {
	switch {
	case t.Insecure && files.CAFile != "":
		return fmt.Errorf("tls: issuers %q with tls_insecure: want one of them", files.CAFile)
	case !t.Insecure && host == "":
		return errors.New("tls: no host: want the name in the certificate, or tls_insecure")
	}
	return nil
}

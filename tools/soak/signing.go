// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"crypto/ecdsa"
	"fmt"
	"os"
	"path/filepath"

	"github.com/miekg/dns"
)

// signedZone is the zone that the server signs on the fly.
const signedZone = "signed.test."

// signingKeyFile is the path of its key, without the endings .key and .private.
func signingKeyFile(dir string) string { return filepath.Join(dir, "K"+signedZone) }

// newSigningKey makes the key of a zone and writes it into a directory, the way dnssec-keygen does.
func newSigningKey(dir, zone string) (*dns.DNSKEY, error) {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: zoneTTL},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key is %T, want one for ECDSA", private)
	}
	for ending, content := range map[string]string{".key": key.String() + "\n", ".private": key.PrivateKeyString(signer)} {
		if err := os.WriteFile(signingKeyFile(dir)+ending, []byte(content), 0o644); err != nil { //nolint:gosec // the server reads it
			return nil, err
		}
	}
	return key, nil
}

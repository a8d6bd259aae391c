// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newPair returns a certificate and its key in PEM.
func newPair(t *testing.T, notAfter time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// Certificates that are renewed while the server runs count within a minute. What does not fit
// together changes nothing, and is said.
func TestCredentialsAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Truncate(time.Second)
		first, second := now.Add(time.Hour), now.Add(2*time.Hour)
		cert, key := newPair(t, first)
		nextCert, nextKey := newPair(t, second)
		writeFile(t, certFile, cert)
		writeFile(t, keyFile, key)
		writeFile(t, caFile, cert)
		r := parsedRule(t, fmt.Sprintf("balance renewed.example.org {\n health_check https 443 {\n allow 192.0.2.0/24\n host a\n tls %s %s %s\n }\n}", certFile, keyFile, caFile))
		l := &life{rules: []*rule{r}}
		must(t, l.start())
		defer l.stop()
		for _, step := range []struct {
			name       string
			change     func()
			logged     string
			pair, root time.Time
		}{
			{"the first", func() {}, "", first, first},
			{"the certificate alone", func() { writeFile(t, certFile, nextCert) },
				"[ERROR] plugin/balance: CERT: with key KEY: private key does not match public key; what was read before stays in force", first, first},
			{"its key", func() { writeFile(t, keyFile, nextKey) },
				"[INFO] plugin/balance: CERT: certificate in force that is valid until " + second.UTC().Format(time.RFC3339) + "\n[INFO] plugin/balance: CERT is good again and in force", second, first},
			{"issuers", func() { writeFile(t, caFile, nextCert+cert) }, "", second, first},
			{"later issuers", func() { writeFile(t, caFile, nextCert) },
				"[INFO] plugin/balance: CA: certificate in force that is valid until " + second.UTC().Format(time.RFC3339), second, second},
			{"no issuers", func() { writeFile(t, caFile, "") },
				"[ERROR] plugin/balance: CA: no certificate: want PEM; what was read before stays in force", second, second},
		} {
			step.change()
			wait(2*credentialsInterval + time.Second)
			text := regexp.MustCompile(`(?m)^[0-9/]+ [0-9:]+ `).ReplaceAllString(strings.TrimSpace(logged.String()), "")
			said := strings.NewReplacer(certFile, "CERT", keyFile, "KEY", caFile, "CA").Replace(text)
			if logged.Reset(); said != step.logged {
				t.Errorf("%s: logged\n%s\nwant\n%s", step.name, said, step.logged)
			}
			for file, want := range map[string]time.Time{certFile: step.pair, caFile: step.root} {
				if got := metric(t, "coredns_balance_tls_not_after_timestamp_seconds", file); got != float64(want.Unix()) {
					t.Errorf("%s: %s is valid until %v, want %v", step.name, file, got, want.Unix())
				}
			}
		}
	})
}

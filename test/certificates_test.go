// SPDX-License-Identifier: Apache-2.0

package test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/miekg/dns"
)

// A certificate, a key and a CA that are renewed on disk are used without a reload. They are read
// every half a minute.
func TestRenewedCertificatesAreUsed(t *testing.T) {
	t.Parallel()
	ca, other := newIssuer(t), newIssuer(t)
	wanting := certified(ca.forName("www.example.org"))
	wanting.ClientAuth, wanting.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	wanting.ClientCAs.AddCert(ca.cert)
	f := newFarm(t, 2, overTLS(wanting, saying(200, "")))
	cert, key := other.pair(other.forName("balance"))
	trusted := other.file()
	k := startChecked(t, rule("all_down nodata", f.check("https", "/", "host www.example.org", "tls "+cert+" "+key+" "+trusted)), "file "+zone(t, "example.org.", f.as("www")))
	k.verdicts(0, 2)
	nodata.check(t, k.ask(dns.TypeA), nil)
	newCert, newKey := ca.pair(ca.forName("balance"))
	for from, to := range map[string]string{newCert: cert, newKey: key, ca.file(): trusted} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	k.verdicts(2, 0)
	k.answers(30, f.addrs...)
	if series := k.seriesOf("coredns_balance_tls_not_after_timestamp_seconds"); len(series) != 2 {
		t.Errorf("series are %q, want one for the certificate and one for the CA", series)
	}
}

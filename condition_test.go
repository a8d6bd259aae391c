// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// leadIn returns the address that leads for a query with a country in its metadata.
func leadIn(t *testing.T, stanza, country string) string {
	t.Helper()
	h := newHandler(t, stanza, echo)
	ctx := metadata.ContextWithMetadata(t.Context())
	metadata.SetValueFunc(ctx, "geoip/country/code", func() string { return country })
	return firstOf(ctx, t, h)
}

func firstOf(ctx context.Context, t *testing.T, h interface {
	ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error)
}) string {
	t.Helper()
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
	if _, err := h.ServeDNS(ctx, rec, message(t, "when.test. A", "when.test. A 10.1.0.1\nwhen.test. A 10.2.0.1\nwhen.test. A 10.3.0.1")); err != nil {
		t.Fatal(err)
	}
	return rec.Msg.Answer[0].(*dns.A).A.String()
}

func TestPreferWhen(t *testing.T) {
	const stanza = "balance {\n prefer 10.1.0.0/16 when metadata('geoip/country/code') in ['NL','BE']\n prefer 10.2.0.0/16 when metadata('geoip/country/code') == 'DE'\n prefer 10.3.0.0/16\n}"
	for country, want := range map[string]string{"NL": "10.1.0.1", "BE": "10.1.0.1", "DE": "10.2.0.1", "FR": "10.3.0.1", "": "10.3.0.1"} {
		if got := leadIn(t, stanza, country); got != want {
			t.Errorf("a client in %q is led to %s, want %s", country, got, want)
		}
	}
}

// An expression that fails for a query is false, is counted, and is logged once a minute.
func TestPreferWhen_Fails(t *testing.T) {
	h := newHandler(t, "balance {\n prefer 10.2.0.0/16 when incidr(name(), '10.0.0.0/8')\n prefer 10.3.0.0/16\n}", echo)
	before := testutil.ToFloat64(expressionFailures.WithLabelValues("."))
	logged := captureLog(t)
	for range 3 {
		if got := firstOf(t.Context(), t, h); got != "10.3.0.1" {
			t.Errorf("the client is led to %s, want 10.3.0.1", got)
		}
	}
	if got := testutil.ToFloat64(expressionFailures.WithLabelValues(".")) - before; got != 3 {
		t.Errorf("%v failures are counted, want 3", got)
	}
	if n := strings.Count(logged.String(), "prefer ... when (Testfile:2) failed, and counts as false: first argument is not an IP address"); n != 1 {
		t.Errorf("the failure is logged %d times, want once:\n%s", n, logged.String())
	}
}

// BenchmarkPreferWhen is what an expression costs a query.
func BenchmarkPreferWhen(b *testing.B) {
	c, err := parseCondition([]string{"metadata('geoip/country/code') in ['NL','BE']"})
	if err != nil {
		b.Fatal(err)
	}
	ctx := metadata.ContextWithMetadata(b.Context())
	metadata.SetValueFunc(ctx, "geoip/country/code", func() string { return "BE" })
	state := &request.Request{W: &test.ResponseWriter{}, Req: new(dns.Msg).SetQuestion("when.test.", dns.TypeA)}
	b.ReportAllocs()
	for b.Loop() {
		if held, err := c.holds(ctx, state); !held || err != nil {
			b.Fatal(held, err)
		}
	}
}

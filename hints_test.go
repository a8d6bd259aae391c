// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What becomes of the hints of HTTPS and SVCB records.
func TestHints(t *testing.T) {
	both := `h. 300 HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1,192.0.2.2 ech="AAAA" ipv6hint=2001:db8::1`
	tests := []struct {
		name, options, answer, dead string
		want                        string // one of these, apart by " or "
	}{
		{"one down", "", both, "192.0.2.2", `h. 5 HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="192.0.2.1" ech="AAAA" ipv6hint="2001:db8::1"`},
		{
			"none down", "", both, "",
			`h. 30 HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="192.0.2.1,192.0.2.2" ech="AAAA" ipv6hint="2001:db8::1" or ` +
				`h. 30 HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="192.0.2.2,192.0.2.1" ech="AAAA" ipv6hint="2001:db8::1"`,
		},
		{
			"both down, open", "", both, "192.0.2.1 192.0.2.2",
			`h. 5 HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="192.0.2.1,192.0.2.2" ech="AAAA" ipv6hint="2001:db8::1" or ` +
				`h. 5 HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="192.0.2.2,192.0.2.1" ech="AAAA" ipv6hint="2001:db8::1"`,
		},
		{"both down, nodata", "all_down nodata", both, "192.0.2.1 192.0.2.2", `h. 5 HTTPS 1 . alpn="h2,h3" port="8443" ech="AAAA" ipv6hint="2001:db8::1"`},
		{
			"both down, fallback", "all_down fallback 198.51.100.1", both, "192.0.2.1 192.0.2.2",
			`h. 5 HTTPS 1 . alpn="h2,h3" port="8443" ipv4hint="198.51.100.1" ech="AAAA" ipv6hint="2001:db8::1"`,
		},
		{
			"mandatory", "all_down nodata", `h. 300 HTTPS 1 . mandatory=ipv4hint ipv4hint=192.0.2.1`, "192.0.2.1",
			`h. 5 HTTPS 1 . mandatory="ipv4hint" ipv4hint="192.0.2.1"`,
		},
		{"answers", "answers 1", `h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2`, "192.0.2.2", `h. 5 HTTPS 1 . ipv4hint="192.0.2.1"`},
		{"tier", "tier 192.0.2.2", `h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2`, "", `h. 30 HTTPS 1 . ipv4hint="192.0.2.2"`},
		{"prefer", "prefer 192.0.2.2", `h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2`, "", `h. 30 HTTPS 1 . ipv4hint="192.0.2.2,192.0.2.1"`},
		{"another target", "", `h. 300 SVCB 1 t.h. ipv4hint=192.0.2.1,192.0.2.2`, "192.0.2.2", `h. 5 SVCB 1 t.h. ipv4hint="192.0.2.1"`},
		{"an alias", "", `h. 300 HTTPS 0 t.h.`, "", `h. 300 HTTPS 0 t.h.`},
		{"without hints", "", `h. 300 HTTPS 1 . alpn=h2`, "", `h. 300 HTTPS 1 . alpn="h2"`},
		{
			"signed", "", "h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2\n h. 300 RRSIG HTTPS 8 1 300 20300101000000 20200101000000 1 h. AAAA", "192.0.2.2",
			`h. 5 HTTPS 1 . ipv4hint="192.0.2.1,192.0.2.2"`,
		},
		{
			"signed in another spelling", "", "h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2\n H. 300 RRSIG HTTPS 8 1 300 20300101000000 20200101000000 1 h. AAAA", "192.0.2.2",
			`h. 5 HTTPS 1 . ipv4hint="192.0.2.1,192.0.2.2"`,
		},
		{
			"signed, none down", "", "h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2\n h. 300 RRSIG HTTPS 8 1 300 20300101000000 20200101000000 1 h. AAAA", "",
			`h. 30 HTTPS 1 . ipv4hint="192.0.2.1,192.0.2.2"`,
		},
		{
			"signed, and the signature lives shorter", "", "h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2\n h. 2 RRSIG HTTPS 8 1 300 20300101000000 20200101000000 1 h. AAAA", "192.0.2.2",
			`h. 2 HTTPS 1 . ipv4hint="192.0.2.1,192.0.2.2"`,
		},
		{
			"signed, without hints", "", "h. 300 HTTPS 1 . alpn=h2\n h. 300 RRSIG HTTPS 8 1 300 20300101000000 20200101000000 1 h. AAAA", "",
			`h. 300 HTTPS 1 . alpn="h2"`,
		},
		{"last hint gone", "all_down nodata\n ttl 20 3", `h. 300 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1`, "192.0.2.1", `h. 3 HTTPS 1 . alpn="h2"`},
		{"no fallback of the family", "all_down fallback 2001:db8::80", `h. 300 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1`, "192.0.2.1", `h. 5 HTTPS 1 . alpn="h2"`},
		{
			"servfail, another family is up", "all_down servfail", `h. 300 HTTPS 1 . ipv4hint=192.0.2.1 ipv6hint=2001:db8::1`, "192.0.2.1",
			`h. 5 HTTPS 1 . ipv6hint="2001:db8::1"`,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := message(t, "h. HTTPS", tc.answer)
			before := m.String()
			h := judged(t, tc.options, echo, strings.Fields(tc.dead)...)
			for range 4 {
				out := ask(t, h, m)
				got := strings.Join(strings.Fields(strings.Replace(out.Answer[0].String(), "\tIN", "", 1)), " ")
				if !strings.Contains(" or "+tc.want+" or ", " or "+got+" or ") {
					t.Fatalf("record is %s, want %s", got, tc.want)
				}
				if last := out.Answer[len(out.Answer)-1]; last.Header().Ttl != out.Answer[0].Header().Ttl {
					t.Fatalf("TTL of the signature is %d, want that of the record", last.Header().Ttl)
				}
				if _, err := out.Pack(); err != nil || out.Rcode != dns.RcodeSuccess || len(out.Ns) > 0 {
					t.Fatalf("%v in\n%s", err, out)
				}
			}
			if m.String() != before {
				t.Errorf("the input changed to\n%s", m)
			}
		})
	}
}

// A signature of another class, or of another type, signs no hints.
func TestHintsThatAreNotSigned(t *testing.T) {
	for _, sig := range []string{"CH RRSIG HTTPS", "RRSIG SVCB", "RRSIG A"} {
		h := judged(t, "", echo, "192.0.2.2")
		m := message(t, "unsigned.h. HTTPS", "unsigned.h. 300 HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2\n unsigned.h. 300 "+sig+" 8 2 300 20300101000000 20200101000000 1 h. AAAA")
		if got := ask(t, h, m).Answer[0].(*dns.HTTPS).Value[0].String(); got != "192.0.2.1" {
			t.Errorf("%s: the hint is %s, want the one that is up", sig, got)
		}
	}
}

// Hints take turns of their own, strictly, also without a health check.
func TestHintsTakeTurns(t *testing.T) {
	h := newHandler(t, "balance", echo)
	m := message(t, "turns.h. HTTPS", "turns.h. HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2,192.0.2.3 ipv6hint=2001:db8::1,2001:db8::2")
	leads := map[string]int{}
	for range 60 {
		https := ask(t, h, m).Answer[0].(*dns.HTTPS)
		leads[https.Value[0].(*dns.SVCBIPv4Hint).Hint[0].String()]++
		leads[https.Value[1].(*dns.SVCBIPv6Hint).Hint[0].String()]++
	}
	for lead, n := range leads {
		want := 20
		if strings.Contains(lead, ":") {
			want = 30
		}
		if n != want {
			t.Errorf("%s led %d times, want %d", lead, n, want)
		}
	}
}

// Records of one target with the same hints take a turn each, so that the lead of each moves.
func TestHintsOfSeveralRecords(t *testing.T) {
	h := newHandler(t, "balance {\n answers 1\n}", echo)
	m := message(t, "several.h. HTTPS", "several.h. HTTPS 1 . alpn=h3 ipv4hint=192.0.2.1,192.0.2.2\n several.h. HTTPS 2 . port=8443 ipv4hint=192.0.2.1,192.0.2.2")
	leads := map[string]int{}
	for range 40 {
		for _, rr := range ask(t, h, m).Answer {
			leads[rr.String()]++
		}
	}
	if len(leads) != 4 {
		t.Errorf("records are %v, want each with either address", leads)
	}
	for record, n := range leads {
		if n != 20 {
			t.Errorf("%d times %s, want 20", n, record)
		}
	}
}

// Records of one answer that carry the same hints, be they duplicates or for other protocols, take
// one turn together: each address leads equally often in each of them.
func TestSameHintsTakeOneTurn(t *testing.T) {
	h := newHandler(t, "balance", echo)
	for name, answer := range map[string]string{
		"twice.h.":     "twice.h. HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2\n twice.h. HTTPS 1 . ipv4hint=192.0.2.1,192.0.2.2",
		"protocols.h.": "protocols.h. HTTPS 1 . alpn=h3 port=8443 ipv4hint=192.0.2.1,192.0.2.2\n protocols.h. HTTPS 1 . alpn=h2 port=443 ipv4hint=192.0.2.2,192.0.2.1",
	} {
		m := message(t, name+" HTTPS", answer)
		leads := map[string]int{}
		for range 60 {
			both := make([]string, 0, 2)
			for _, rr := range ask(t, h, m).Answer {
				value := rr.(*dns.HTTPS).Value
				both = append(both, value[len(value)-1].String())
			}
			if both[0] != both[1] {
				t.Fatalf("%s: hints are %s, want the same", name, both)
			}
			leads[both[0]]++
		}
		if leads["192.0.2.1,192.0.2.2"] != 30 || leads["192.0.2.2,192.0.2.1"] != 30 {
			t.Errorf("%s: leads are %v, want 30 each", name, leads)
		}
	}
}

// If hints changed, the answer is not the one that was validated, so AD is cleared. If all hints of
// all records are down, the reply is SERVFAIL.
func TestHintsAndTheReply(t *testing.T) {
	m := message(t, "h. HTTPS", "h. HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2\n h. HTTPS 2 t.h. ipv4hint=192.0.2.3")
	m.AuthenticatedData = true
	m.Extra = records(t, "t.h. A 192.0.2.3")
	if out := ask(t, judged(t, "", echo, "192.0.2.1"), m); out.AuthenticatedData {
		t.Errorf("AD is still set in\n%s", out)
	}
	if out := ask(t, judged(t, "all_down servfail", echo, "192.0.2.1", "192.0.2.2"), m); out.Rcode != dns.RcodeSuccess || len(out.Answer) != 2 || len(out.Extra) != 1 {
		t.Errorf("one of two records is up, but the answer is\n%s", out)
	}
	if out := ask(t, judged(t, "all_down servfail", echo, "192.0.2.1", "192.0.2.2", "192.0.2.3"), m); out.Rcode != dns.RcodeServerFailure || out.AuthenticatedData {
		t.Errorf("all are down, but the answer is\n%s", out)
	}
}

// However many hints an answer has, no dead address is among them.
func TestManyHintsHoldNoDead(t *testing.T) {
	h := judged(t, "", echo, "192.0.2.1")
	m := new(dns.Msg).SetQuestion("many.h.", dns.TypeHTTPS)
	for i := range 100 {
		m.Answer = append(m.Answer, records(t, fmt.Sprintf("many.h. 60 HTTPS %d . ipv4hint=192.0.2.1,198.51.100.%d", i+1, i))...)
	}
	for i, rr := range ask(t, h, m).Answer {
		if got, want := rr.(*dns.HTTPS).Value[0].String(), fmt.Sprintf("198.51.100.%d", i); got != want {
			t.Fatalf("record %d has hints %s, want %s", i, got, want)
		}
	}
}

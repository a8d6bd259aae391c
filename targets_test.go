// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/health"
)

// A member whose target is dead leaves with its glue; where all would go, all stay.
func TestDeadTargets(t *testing.T) {
	srv := "_s.h. 300 SRV 1 1 80 a.h.\n _s.h. 300 SRV 1 1 80 b.h.\n _s.h. 300 SRV 2 1 80 c.h."
	glue := "a.h. A 192.0.2.1\n a.h. AAAA 2001:db8::1\n b.h. A 192.0.2.2\n b.h. A 192.0.2.22\n c.h. A 192.0.2.3"
	tests := []struct {
		name, question, answer, extra string
		dead                          string
		targets, glue                 string
		ttl                           uint32
	}{
		{"none", "_s.h. SRV", srv, glue, "", "a.h. b.h. c.h.", "192.0.2.1 192.0.2.2 192.0.2.22 192.0.2.3 2001:db8::1", 30},
		{"both addresses of one", "_s.h. SRV", srv, glue, "192.0.2.2 192.0.2.22", "a.h. c.h.", "192.0.2.1 192.0.2.3 2001:db8::1", 5},
		{"one address of one", "_s.h. SRV", srv, glue, "192.0.2.2", "a.h. b.h. c.h.", "192.0.2.1 192.0.2.22 192.0.2.3 2001:db8::1", 30},
		{"one family of one", "_s.h. SRV", srv, glue, "192.0.2.1", "a.h. b.h. c.h.", "192.0.2.1 192.0.2.2 192.0.2.22 192.0.2.3 2001:db8::1", 30},
		{"a whole priority", "_s.h. SRV", srv, glue, "192.0.2.1 2001:db8::1 192.0.2.2 192.0.2.22", "c.h.", "192.0.2.3", 5},
		{"all", "_s.h. SRV", srv, glue, "192.0.2.1 2001:db8::1 192.0.2.2 192.0.2.22 192.0.2.3", "a.h. b.h. c.h.", "192.0.2.1 192.0.2.2 192.0.2.22 192.0.2.3 2001:db8::1", 5},
		{"without glue", "_s.h. SRV", srv, "", "192.0.2.1", "a.h. b.h. c.h.", "", 30},
		{"another case", "_s.h. SRV", srv, strings.ToUpper(glue), "192.0.2.2 192.0.2.22", "a.h. c.h.", "192.0.2.1 192.0.2.3 2001:db8::1", 5},
		{"MX", "h. MX", "h. 300 MX 10 a.h.\n h. 300 MX 10 b.h.", glue, "192.0.2.2 192.0.2.22", "a.h.", "192.0.2.1 192.0.2.3 2001:db8::1", 5},
		{
			"another class", "_s.h. SRV", srv + "\n _s.h. 300 CH SRV 1 1 80 d.h.\n _s.h. 300 CH RRSIG SRV 8 2 300 20300101000000 20200101000000 1 h. AAAA",
			glue + "\n b.h. CH A 192.0.2.222\n d.h. CH A 192.0.2.4", "192.0.2.2 192.0.2.22 192.0.2.222 192.0.2.4",
			"a.h. c.h. d.h.", "192.0.2.1 192.0.2.222 192.0.2.3 192.0.2.4 2001:db8::1", 5,
		},
		{"an only SRV", "_s.h. SRV", "_s.h. 300 SRV 1 1 80 a.h.", "a.h. A 192.0.2.1", "192.0.2.1", "a.h.", "192.0.2.1", 300},
		{
			"signed", "_s.h. SRV", srv + "\n _s.h. 300 RRSIG SRV 8 2 300 20300101000000 20200101000000 1 h. AAAA", glue, "192.0.2.2 192.0.2.22",
			"a.h. b.h. c.h.", "192.0.2.1 192.0.2.2 192.0.2.22 192.0.2.3 2001:db8::1", 5,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			m := message(t, tc.question, tc.answer)
			m.Extra = records(t, tc.extra)
			before := m.String()
			h := judged(t, "", echo, strings.Fields(tc.dead)...)
			for range 4 {
				out := ask(t, h, m)
				if got := sortedTargets(out.Answer); got != tc.targets {
					t.Fatalf("targets are %s, want %s", got, tc.targets)
				}
				if got := sortedTargets(out.Extra); got != tc.glue {
					t.Fatalf("glue is %s, want %s", got, tc.glue)
				}
				if got := out.Answer[0].Header().Ttl; got != tc.ttl {
					t.Fatalf("TTL is %d, want %d", got, tc.ttl)
				}
			}
			if m.String() != before {
				t.Errorf("the input changed to\n%s", m)
			}
		})
	}
}

// sortedTargets writes what the members of a section lead to.
func sortedTargets(rrs []dns.RR) string {
	var all []string
	for _, rr := range rrs {
		switch m := memberOf(rr); {
		case m.host != "":
			all = append(all, strings.ToLower(m.host))
		case m.addr.IsValid():
			all = append(all, m.addr.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// A target that comes back to life is back, and the turns went on.
func TestDeadTargetReturns(t *testing.T) {
	m := message(t, "_s.h. SRV", "_s.h. SRV 1 1 80 a.h.\n _s.h. SRV 1 1 80 b.h.\n _s.h. SRV 1 1 80 c.h.")
	m.Extra = records(t, "a.h. A 192.0.2.1\n b.h. A 192.0.2.2\n c.h. A 192.0.2.3")
	h := judged(t, "", echo)
	served := h.(*Balance).rules.of(m)
	leads := map[string]int{}
	for i := range 200 {
		switch i % 10 {
		case 0:
			verdictsOf(served).judge()
		case 5:
			verdictsOf(served).judge("192.0.2.2")
		}
		leads[ask(t, h, m).Answer[0].(*dns.SRV).Target]++
	}
	if leads["a.h."] < 70 || leads["c.h."] < 70 || leads["b.h."] < 20 || leads["b.h."] > 40 {
		t.Errorf("with the second dead half of the time the leads are %v", leads)
	}
}

// Glue stays for as long as a record of the answer leads to it, and an answer that lost a dead
// target is counted as filtered, not as failing open.
func TestDeadTargetsAndTheRest(t *testing.T) {
	https := message(t, "h. HTTPS", "h. HTTPS 1 p.h. ipv4hint=192.0.2.1,192.0.2.2\n h. HTTPS 2 q.h.")
	https.Extra = records(t, "q.h. A 192.0.2.2\n q.h. A 192.0.2.3")
	if out := ask(t, judged(t, "", echo, "192.0.2.2", "192.0.2.3"), https); len(out.Extra) != 2 {
		t.Errorf("the glue of a target that is still in the answer is gone:\n%s", out)
	}
	srv := message(t, "_s.h. SRV", "_s.h. SRV 1 1 80 a.h.\n _s.h. SRV 1 1 80 b.h.")
	srv.Extra = records(t, "a.h. A 192.0.2.1\n b.h. A 192.0.2.2")
	filtered, open := metric(t, "coredns_balance_responses_total", "filtered"), metric(t, "coredns_balance_responses_total", "fail_open")
	ask(t, judged(t, "", echo, "192.0.2.2"), srv)
	if metric(t, "coredns_balance_responses_total", "filtered") != filtered+1 || metric(t, "coredns_balance_responses_total", "fail_open") != open {
		t.Error("an answer without a dead target is not counted as filtered")
	}
}

// The page and why show an SRV record's verdict at its own port, wherever the address came from.
func TestPagesShowThePortsOfRecords(t *testing.T) {
	defer inUse.forget()
	set := message(t, "_ports.h. SRV", "_ports.h. 60 SRV 1 1 80 a.h.\n_ports.h. 60 SRV 1 1 81 a.h.\n_ports.h. 60 SRV 1 0 82 b.h.")
	for name, glue := range map[string]string{"glue": "a.h. 60 A 192.0.2.1\nb.h. 60 A 192.0.2.2", "no glue": ""} {
		t.Run(name, func(t *testing.T) {
			set.Extra = records(t, glue)
			h := judged(t, "status\npolicy weighted", plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
				if r.Question[0].Qtype == dns.TypeSRV {
					return answering(set).ServeDNS(ctx, w, r)
				}
				return echo(ctx, w, r)
			}))
			v := verdictsOf(h.(*Balance).rules.only)
			v.ports = true
			for at, verdict := range map[string]health.Verdict{"192.0.2.1:80": health.Up, "192.0.2.1:81": health.Down, "192.0.2.2:82": health.Up} {
				v.known[netip.MustParseAddrPort(at)] = health.Endpoint{At: netip.MustParseAddrPort(at), Verdict: verdict, Since: filewatch.Clock()}
			}
			for _, host := range []string{"a.h.", "b.h."} {
				ask(t, h, message(t, host+" A", host+" 60 A 192.0.2."+map[string]string{"a.h.": "1", "b.h.": "2"}[host]))
			}
			if got := sortedTargets(ask(t, h, set).Answer); got != "a.h. b.h." {
				t.Fatalf("targets are %s, want one record of each", got)
			}
			var shown []string
			for _, m := range shownOf(h, "_ports.h.", inAnswer).Members {
				shown = append(shown, fmt.Sprint(m.Verdict, " ", m.Probes[0].Check, " ", m.Probes[0].Verdict))
			}
			slices.Sort(shown)
			if want := []string{"down tcp:80 at 192.0.2.1:81 down", "up tcp:80 at 192.0.2.1:80 up", "up tcp:80 at 192.0.2.2:82 up"}; !slices.Equal(shown, want) {
				t.Errorf("the page shows %q, want %q", shown, want)
			}
			said := fmt.Sprint(why(t, h, "_ports.h.", dns.TypeSRV, "127.0.0.1").RRsets)
			for _, want := range []string{"192.0.2.1 up for 0s: tcp:80 at port 80", "weight 1 (the record)", "down: all addresses of its target are down at port 81", "the record has weight 0"} {
				if !strings.Contains(said, want) {
					t.Errorf("reasons %s: want %q", said, want)
				}
			}
		})
	}
}

// A record is drained if all addresses of its target are, and stays if one is not.
func TestTargetsThatDrain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	if err := os.WriteFile(file, []byte("192.0.2.2 drain\n192.0.2.3 drain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := message(t, "h. MX", "h. 60 MX 10 a.h.\nh. 60 MX 10 b.h.\nh. 60 MX 10 c.h.")
	m.Extra = records(t, "a.h. 60 A 192.0.2.1\na.h. 60 A 192.0.2.2\nb.h. 60 A 192.0.2.2\nb.h. 60 A 192.0.2.3\nc.h. 60 A 192.0.2.4")
	if got := sortedTargets(ask(t, judged(t, "overrides "+file, echo), m).Answer); got != "a.h. c.h." {
		t.Errorf("targets are %s, want those with an address that does not drain", got)
	}
}

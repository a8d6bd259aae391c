// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// withECS returns a copy of a message with a client subnet.
func withECS(m *dns.Msg, addr string, source uint8) *dns.Msg {
	c := m.Copy()
	ip, family := net.ParseIP(addr), uint16(2)
	if v4 := ip.To4(); v4 != nil {
		ip, family = v4, 1
	}
	c.SetEdns0(1232, false)
	c.IsEdns0().Option = append(c.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: source, Address: ip})
	return c
}

func TestECS(t *testing.T) {
	answer := message(t, "www.h. A", "www.h. A 10.1.0.1\n www.h. A 10.2.0.1")
	nodata := message(t, "www.h. A", "")
	const trusting = "\n ecs 192.0.2.53\n}"
	prefer := "balance {\n prefer 10.1.0.0/16 from 198.51.100.0/24 2001:db8:1::/48\n prefer 10.2.0.0/16 from 203.0.113.0/26" + trusting
	tests := []struct {
		name, stanza, resolver string
		answer                 *dns.Msg
		subnet                 string
		source                 uint8
		lead                   string // "": any
		option                 bool
		scope                  uint8
	}{
		{"prefer", prefer, "192.0.2.53", answer, "198.51.100.0", 24, "10.1.0.1", true, 26},
		{"prefer, another client", prefer, "192.0.2.53", answer, "203.0.113.0", 26, "10.2.0.1", true, 26},
		{"prefer, IPv6", prefer, "192.0.2.53", answer, "2001:db8:1::", 56, "10.1.0.1", true, 48},
		{"not trusted", prefer, "192.0.2.54", answer, "198.51.100.0", 24, "", false, 0},
		{"privacy", prefer, "192.0.2.53", answer, "0.0.0.0", 0, "", true, 0},
		{"an answer for all", prefer, "192.0.2.53", nodata, "198.51.100.0", 24, "", true, 0},
		{"sticky", "balance {\n policy sticky 20 48" + trusting, "192.0.2.53", answer, "198.51.100.0", 24, "", true, 20},
		{"sticky, IPv6", "balance {\n policy sticky 20 48" + trusting, "192.0.2.53", answer, "2001:db8::", 56, "", true, 48},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			query := withECS(tc.answer, tc.subnet, tc.source)
			h := newHandler(t, tc.stanza, answering(tc.answer))
			before := tc.answer.String()
			for range 4 {
				out := askFrom(t, h, query, tc.resolver)
				if tc.lead != "" && out.Answer[0].(*dns.A).A.String() != tc.lead {
					t.Fatalf("lead is %v, want %s", out.Answer[0], tc.lead)
				}
				subnet := subnetOf(out.IsEdns0())
				if (subnet != nil) != tc.option {
					t.Fatalf("the reply carries %v, want an option: %v", subnet, tc.option)
				}
				if subnet != nil && (subnet.SourceScope != tc.scope || subnet.SourceNetmask != tc.source || subnet.Address.String() != tc.subnet) {
					t.Fatalf("the reply carries %v, want %s/%d/%d", subnet, tc.subnet, tc.source, tc.scope)
				}
				if _, err := out.Pack(); err != nil {
					t.Fatal(err)
				}
			}
			if tc.answer.String() != before {
				t.Error("the message that came up was changed")
			}
		})
	}
}

// A zone transfer goes out as it came up, whatever option a resolver puts into its query.
func TestECSOfTransfers(t *testing.T) {
	for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
		m := addressesMsg(3)
		m.Question[0].Qtype = qtype
		h := newHandler(t, "balance {\n policy sticky\n ecs 192.0.2.53\n}", answering(m))
		if out := askFrom(t, h, withECS(m, "198.51.100.0", 24), "192.0.2.53"); out.String() != m.String() {
			t.Errorf("%s: %v goes out, want what came up", dns.TypeToString[qtype], out)
		}
	}
}

// The client that a trusted resolver names is led like one that asks itself; the resolver's own OPT
// record and other options stay.
func TestECSStandsForTheClient(t *testing.T) {
	m := addressesMsg(8)
	h := newHandler(t, "balance {\n policy sticky\n ecs 192.0.2.0/24\n}", answering(m))
	for _, client := range []string{"198.51.100.0", "198.51.101.0", "198.51.102.0", "203.0.113.0"} {
		direct, through := ask4(t, h, m, client), askFrom(t, h, withECS(m, client, 24), "192.0.2.53")
		if got := through.Answer[0].(*dns.A).A.String(); got != direct {
			t.Errorf("client %s is led by %s, through its resolver by %s", client, direct, got)
		}
	}
	withOPT := m.Copy()
	withOPT.SetEdns0(4096, true)
	withOPT.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: "aa"}, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1}}
	out := askFrom(t, newHandler(t, "balance {\n policy sticky\n ecs 192.0.2.0/24\n}", answering(withOPT)), withECS(m, "198.51.100.0", 24), "192.0.2.53")
	if opt := out.IsEdns0(); len(opt.Option) != 2 || !opt.Do() || opt.UDPSize() != 4096 || subnetOf(opt).SourceScope != 24 {
		t.Errorf("OPT is %v, want that of the upstream with the scope in place of its own", opt)
	}
}

// What the upstream says of its own answer's scope stays, and a plugin below that rewrites the
// query's option does not change for whom the client asked.
func TestECSOfOthers(t *testing.T) {
	m := addressesMsg(3)
	tailored := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		out := m.Copy()
		out.SetEdns0(1232, false)
		own := *subnetOf(r.IsEdns0())
		own.Address, own.SourceScope = slices.Clone(own.Address), 28
		out.IsEdns0().Option = []dns.EDNS0{&own}
		subnetOf(r.IsEdns0()).Address[0] = 127
		return dns.RcodeSuccess, w.WriteMsg(out)
	})
	h := newHandler(t, "balance {\n policy sticky\n ecs 192.0.2.53\n}", tailored)
	subnet := subnetOf(askFrom(t, h, withECS(m, "198.51.100.0", 24), "192.0.2.53").IsEdns0())
	if subnet.SourceScope != 28 || subnet.Address.String() != "198.51.100.0" {
		t.Errorf("the reply carries %v, want 198.51.100.0/24/28", subnet)
	}
}

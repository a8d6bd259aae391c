// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A client is led to one host, over A and AAAA, by servers that know nothing of each other; other
// clients to others.
func TestStickyClients(t *testing.T) {
	records := "www IN A 192.0.2.1\nwww IN A 192.0.2.2\nwww IN A 192.0.2.3\nwww IN AAAA 2001:db8::1\nwww IN AAAA 2001:db8::2\nwww IN AAAA 2001:db8::3\n"
	corefile := block("balance {\npolicy sticky 32 128\n}", "file "+zone(t, "example.org.", records))
	servers := []*server{start(t, corefile), start(t, corefile)}
	hosts := map[string]bool{}
	for i := range 24 {
		host := ""
		for _, s := range servers {
			c := dial(t, "udp", s.udp(), fmt.Sprintf("127.0.9.%d", i+1))
			for range 4 {
				a := members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0]
				aaaa := members(c.Ask(query("WWW.example.org.", dns.TypeAAAA)), dns.TypeAAAA)[0]
				number := strings.TrimPrefix(a, "192.0.2.")
				if number != strings.TrimPrefix(aaaa, "2001:db8::") || host != "" && number != host {
					t.Fatalf("client %d is led to %s and %s, before to host %s", i+1, a, aaaa, host)
				}
				host = number
			}
		}
		hosts[host] = true
	}
	if len(hosts) != 3 {
		t.Errorf("24 clients are led to hosts %v, want all three", hosts)
	}
}

// What an operator writes into the file holds against what probes say, and ends when it is gone.
func TestOverridesHoldAgainstProbes(t *testing.T) {
	f := newFarm(t, 3, listening)
	f.kill(2)
	overrides := filepath.Join(t.TempDir(), "overrides")
	k := startChecked(t, rule(f.check("tcp", ""), "overrides "+overrides+" 100ms"), "file "+zone(t, "example.org.", f.as("www")))
	k.ask(dns.TypeA)
	k.answers(5, f.addrs[0], f.addrs[1])
	replace(t, overrides, f.addrs[0]+" down # disk swap\n"+f.addrs[2]+" up\n")
	k.answers(5, f.addrs[1], f.addrs[2])
	replace(t, overrides, f.addrs[0]+" down until "+time.Now().Add(-time.Second).UTC().Format(time.RFC3339)+"\n"+f.addrs[1]+" drain\n")
	k.answers(5, f.addrs[0])
	replace(t, overrides, "www.example.net "+f.addrs[0]+" down\n")
	k.answers(5, f.addrs[0], f.addrs[1])
	replace(t, overrides, f.addrs[0]+" drain\n"+f.addrs[1]+" drain\n")
	k.answers(5, f.addrs[0], f.addrs[1])
	replace(t, overrides, f.addrs[1]+" down\n")
	k.answers(5, f.addrs[0])
	if err := os.Remove(overrides); err != nil {
		t.Fatal(err)
	}
	k.answers(5, f.addrs[0], f.addrs[1])
}

// replace puts a file in place of another, by renaming.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A resolver that is trusted asks for clients near one site or another; one that is not asks for
// itself.
func TestClientSubnets(t *testing.T) {
	s := start(t, block("balance {\nprefer 192.0.2.1 from 198.51.100.0/24\nprefer 192.0.2.2 from 203.0.113.0/24\necs 127.0.0.1\n}",
		"cache", "file "+zone(t, "example.org.", threeAs)))
	asFor := func(from, subnet string) (lead string, scope int) {
		q := query("www.example.org.", dns.TypeA)
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.ParseIP(subnet).To4()})
		reply := dial(t, "udp", s.udp(), from).Ask(q)
		scope = -1
		for _, option := range reply.IsEdns0().Option {
			if e, ok := option.(*dns.EDNS0_SUBNET); ok {
				scope = int(e.SourceScope)
			}
		}
		return members(reply, dns.TypeA)[0], scope
	}
	for range 4 {
		for subnet, want := range map[string]string{"198.51.100.0": "192.0.2.1", "203.0.113.0": "192.0.2.2"} {
			if lead, scope := asFor("127.0.0.1", subnet); lead != want || scope != 24 {
				t.Errorf("for %s the lead is %s with scope %d, want %s and 24", subnet, lead, scope, want)
			}
		}
	}
	seen := map[string]bool{}
	for range 6 {
		lead, scope := asFor("127.0.0.2", "198.51.100.0")
		seen[lead] = true
		if scope >= 0 {
			t.Errorf("a resolver that is not trusted is told scope %d", scope)
		}
	}
	if len(seen) != 3 {
		t.Errorf("a resolver that is not trusted is led by %v, want all in turn", seen)
	}
}

// HTTPS hints and SRV targets follow real backends.
func TestRecordsThatLeadElsewhere(t *testing.T) {
	f := newFarm(t, 2, listening)
	k := startChecked(t, rule(f.check("tcp", "", "watch a.example.org b.example.org")), "file "+zone(t, "example.org.",
		f.as("a", 0)+f.as("b", 1)+"_s._tcp IN SRV 1 1 80 a\n_s._tcp IN SRV 1 1 80 b\nwww IN HTTPS 1 . alpn=h2 ipv4hint="+strings.Join(f.addrs, ",")+"\n"))
	holds := func(name string, qtype uint16, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s %s has %v", name, dns.TypeToString[qtype], want), func() bool {
			reply := k.c.Ask(query(name, qtype))
			text := reply.String()
			for _, addr := range f.addrs {
				wanted := false
				for _, w := range want {
					wanted = wanted || w == addr
				}
				if strings.Contains(text, addr) != wanted {
					return false
				}
			}
			return len(reply.Answer) > 0
		})
	}
	holds("www.example.org.", dns.TypeHTTPS, f.addrs...)
	holds("_s._tcp.example.org.", dns.TypeSRV, f.addrs...)
	f.kill(0)
	holds("www.example.org.", dns.TypeHTTPS, f.addrs[1])
	holds("_s._tcp.example.org.", dns.TypeSRV, f.addrs[1])
	f.revive(0)
	holds("www.example.org.", dns.TypeHTTPS, f.addrs...)
	holds("_s._tcp.example.org.", dns.TypeSRV, f.addrs...)
}

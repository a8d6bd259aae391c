// SPDX-License-Identifier: Apache-2.0

package test

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// geoipDatabase returns the path of the database that CoreDNS tests geoip with: 81.2.69.142 is in
// GB.
func geoipDatabase(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "plugin", "geoip", "testdata", "GeoLite2-City.mmdb")
}

// askForSubnet asks for A records on behalf of a client (RFC 7871).
func askForSubnet(t testing.TB, addr, name, client string) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().Option = append(q.IsEdns0().Option,
		&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, Address: net.ParseIP(client).To4()})
	reply, err := dns.Exchange(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// The country that geoip finds for a client decides which members lead.
func TestPreferWhenCountry(t *testing.T) {
	db := zone(t, "example.org.", "www A 192.0.2.1\nwww A 192.0.2.2\nwww A 192.0.2.3")
	s := start(t, `example.org:0 {
    bind 127.0.0.1
    metadata
    geoip `+geoipDatabase(t)+` {
        edns-subnet
    }
    balance {
        prefer 192.0.2.2 when metadata('geoip/country/code') in ['GB', 'IE']
        prefer 192.0.2.3
        ecs 127.0.0.1
    }
    file `+db+`
}`)
	for client, want := range map[string]string{"81.2.69.142": "192.0.2.2", "203.0.113.7": "192.0.2.3"} {
		reply := askForSubnet(t, s.udp(), "www.example.org.", client)
		if got := members(reply, dns.TypeA)[0]; got != want {
			t.Errorf("%s is led to %s, want %s", client, got, want)
		}
		if subnet, ok := reply.IsEdns0().Option[0].(*dns.EDNS0_SUBNET); !ok || subnet.SourceScope != 32 {
			t.Errorf("%v: want a scope of 32, because the expression may depend on all of the address", reply.IsEdns0())
		}
	}
}

// Without metadata in the block an expression that reads it is never true, and a warning says so.
func TestPreferWhenWithoutMetadata(t *testing.T) {
	db := zone(t, "example.org.", "www A 192.0.2.1\nwww A 192.0.2.2")
	logged := capture(t, func() {
		start(t, `example.org:0 {
    bind 127.0.0.1
    balance {
        prefer 192.0.2.2 when metadata('geoip/country/code') == 'GB'
    }
    file `+db+`
}`)
	})
	const want = `Corefile:4: prefer: no effect, because its metadata is not collected: add the line "metadata" to the server block`
	if !strings.Contains(logged, want) {
		t.Errorf("the log says nothing of the missing metadata:\n%s", logged)
	}
}

// clusterDNS runs a server that knows two zones, and trusts caches at 127.0.0.1 about their
// clients.
func clusterDNS(t *testing.T) *server {
	t.Helper()
	db := zone(t, "example.org.", "www A 127.1.0.1\nwww A 127.1.0.2\nwww A 127.2.0.1\nwww A 127.2.0.2")
	return start(t, `example.org:0 {
    bind 127.0.0.1
    balance {
        locality zone-a 127.1.0.0/16
        locality zone-b 127.2.0.0/16
        prefer locality
        ecs 127.0.0.1
    }
    file `+db+`
}`)
}

// nodeCache runs a NodeLocal DNSCache that asks another server, from 127.0.0.1.
func nodeCache(t *testing.T, s *server, lines string) *server {
	t.Helper()
	return start(t, `.:0 {
    bind 127.0.0.1
    `+lines+`
    forward . `+s.udp()+`
}`)
}

// zonesLed returns the zones that the four members of an answer are in, the first one first.
func zonesLed(t *testing.T, s *server, client string) string {
	t.Helper()
	var zones strings.Builder
	for _, member := range members(dial(t, "udp", s.udp(), client).Ask(query("www.example.org.", dns.TypeA)), dns.TypeA) {
		zones.WriteString(map[string]string{"127.1": "a", "127.2": "b"}[member[:len("127.1")]])
	}
	return zones.String()
}

const podInA, podInB = "127.1.0.77", "127.2.0.77"

// The lines of docs/locality.md: a cache on a node passes the address of its pods on. All pods of
// the node get the answer that the first one got, which is right because they are in one zone.
func TestNodeLocalCachePassesClientOn(t *testing.T) {
	dnsServer := clusterDNS(t)
	for client, want := range map[string]string{podInA: "aabb", podInB: "bbaa"} {
		node := nodeCache(t, dnsServer, "cache 30\nrewrite edns0 subnet set 32 128")
		for range 3 {
			if got := zonesLed(t, node, client); got != want {
				t.Errorf("a pod at %s gets members of %s, want %s", client, got, want)
			}
		}
	}
}

// One cache for the clients of several zones does not work, because CoreDNS' cache ignores the
// scope of an answer. Without the cache it works.
func TestCacheOfSeveralZones(t *testing.T) {
	dnsServer := clusterDNS(t)
	for _, test := range []struct{ lines, a, b string }{
		{"cache 30\nrewrite edns0 subnet set 32 128", "aabb", "aabb"},
		{"rewrite edns0 subnet set 32 128", "aabb", "bbaa"},
	} {
		node := nodeCache(t, dnsServer, test.lines)
		if a, b := zonesLed(t, node, podInA), zonesLed(t, node, podInB); a != test.a || b != test.b {
			t.Errorf("with %q pods get members of %s in zone-a and %s in zone-b, want %s and %s", test.lines, a, b, test.a, test.b)
		}
	}
}

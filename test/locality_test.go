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

// geoipDatabase returns the path of the database that CoreDNS tests geoip with: 81.2.69.142 is in GB.
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

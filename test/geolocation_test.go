// SPDX-License-Identifier: Apache-2.0

package test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Clients, as CoreDNS' test databases of geoip know them.
const (
	inCambridge  = "81.2.69.142" // GB, EU, AS 12345
	unknownPlace = "203.0.113.7"
)

// sites are an RRset with two addresses at each of three sites.
const sites = "www A 192.0.2.1\nwww A 192.0.2.2\nwww A 192.0.2.65\nwww A 192.0.2.66\nwww A 192.0.2.129\nwww A 192.0.2.130"

// siteOf returns the site of an address.
func siteOf(addr string) string {
	return map[string]string{"1": "first", "2": "first", "65": "second", "66": "second", "129": "third", "130": "third"}[strings.TrimPrefix(addr, "192.0.2.")]
}

// located runs a rule above sites, with the country or the network of clients as metadata.
func located(t *testing.T, database, rule string) *server {
	t.Helper()
	return start(t, `example.org:0 {
    bind 127.0.0.1
    metadata
    geoip `+strings.Replace(geoipDatabase(t), "City", database, 1)+` {
        edns-subnet
    }
    balance {
        `+strings.ReplaceAll(rule, "\n", "\n        ")+`
        ecs 127.0.0.1
    }
    file `+zone(t, "example.org.", sites)+`
}`)
}

// The rows of docs/moving.md about geolocation, each tried: what a client in Cambridge gets first,
// and one that no database knows.
func TestMovingFromGeolocation(t *testing.T) {
	for _, test := range []struct {
		row, database, rule  string
		cambridge, elsewhere string // the site that leads; any: each in turn
		records              int
	}{
		{"coredns-gslb geoip: city, then continent", "City",
			"prefer 192.0.2.64/26 192.0.2.128/26 when metadata('geoip/city/name') == 'Cambridge'\nprefer 192.0.2.128/26 when metadata('geoip/continent/code') == 'EU'", "second", "any", 6},
		{"coredns-gslb geoip: asn", "ASN", "prefer 192.0.2.64/26 when metadata('geoip/asn/number') == '12345'", "second", "any", 6},
		{"coredns-gslb geoip_custom, gdnsd metafo, PowerDNS pickclosest", "City",
			"locality first 192.0.2.0/26\nlocality second 192.0.2.64/26 81.2.69.0/24\nlocality third 192.0.2.128/26\nprefer locality only", "second", "any", 2},
		{"gdnsd geoip nets", "City", "prefer 192.0.2.64/26 192.0.2.128/26 from 81.2.69.0/24\nprefer 192.0.2.0/26\nanswers 2", "second", "first", 2},
		{"gdnsd geoip with a database", "City", "prefer 192.0.2.64/26 when metadata('geoip/country/code') in ['GB', 'IE']\nprefer 192.0.2.0/26", "second", "first", 6},
		{"PowerDNS country", "City", "prefer 192.0.2.64/26 when metadata('geoip/country/code') == 'GB'\nanswers 1", "second", "any", 1},
		{"PowerDNS continent", "City", "prefer 192.0.2.64/26 when metadata('geoip/continent/code') == 'EU'\nanswers 1", "second", "any", 1},
		{"PowerDNS asnum", "ASN", "prefer 192.0.2.64/26 when metadata('geoip/asn/number') == '12345'\nanswers 1", "second", "any", 1},
		{"Route 53 geolocation with a default", "City",
			"prefer 192.0.2.128/26 when metadata('geoip/country/code') == 'US'\nprefer 192.0.2.64/26 when metadata('geoip/continent/code') == 'EU'\nprefer 192.0.2.0/26", "second", "first", 6},
	} {
		t.Run(test.row, func(t *testing.T) {
			s := located(t, test.database, test.rule)
			for client, want := range map[string]string{inCambridge: test.cambridge, unknownPlace: test.elsewhere} {
				seen := map[string]bool{}
				for range 6 {
					got := members(askForSubnet(t, s.udp(), "www.example.org.", client), dns.TypeA)
					if client == inCambridge && len(got) != test.records {
						t.Errorf("%d records, want %d", len(got), test.records)
					}
					seen[siteOf(got[0])] = true
				}
				if len(seen) != map[bool]int{true: 3, false: 1}[want == "any"] || want != "any" && !seen[want] {
					t.Errorf("a client at %s is led to %v, want %s", client, seen, want)
				}
			}
		})
	}
}

// Blocks that view tells apart, one for each country, and the one block that takes their place: the
// same site leads.
func TestMovingFromViews(t *testing.T) {
	zone := zone(t, "example.org.", sites)
	below := "balance {\n        prefer SITE\n    }\n    file " + zone
	block := `example.org:0 {
    bind 127.0.0.1
    metadata
    geoip ` + geoipDatabase(t) + ` {
        edns-subnet
    }
    EXPRESSION
    ` + below + "\n}\n"
	british := strings.NewReplacer("EXPRESSION", "view gb {\n        expr metadata('geoip/country/code') == 'GB'\n    }", "SITE", "192.0.2.64/26").Replace(block)
	others := strings.NewReplacer("EXPRESSION", "", "SITE", "192.0.2.0/26").Replace(block)
	views := start(t, strings.ReplaceAll(british+others, ":0", ":"+freePort(t)))
	one := located(t, "City", "prefer 192.0.2.64/26 when metadata('geoip/country/code') == 'GB'\nprefer 192.0.2.0/26")
	for client, want := range map[string]string{inCambridge: "second", unknownPlace: "first"} {
		for name, s := range map[string]*server{"views": views, "one block": one} {
			if got := siteOf(members(askForSubnet(t, s.udp(), "www.example.org.", client), dns.TypeA)[0]); got != want {
				t.Errorf("%s: a client at %s is led to the %s site, want the %s", name, client, got, want)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

// destinations are where a browser goes, by the label of services; those that are not here it does
// not reach.
type destinations map[string][]netip.AddrPort

func at(texts ...string) (all []netip.AddrPort) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddrPort(text))
	}
	return all
}

// own is the A record of services that have one.
var own = at("198.51.100.1:443")

// What Firefox makes of HTTPS records over DoH: the port; the hints if there are no addresses, as
// we leave and order them. Where there are, it depends on which answer is first.
var firefoxOverDoH = destinations{"noaddr": at("198.51.100.5:443", "198.51.100.6:443"), "down": at("198.51.100.6:443"),
	"port": at("198.51.100.1:8443"), "priority": own, "alias": own}

// TestHTTPSRecords sees where browsers go for HTTPS records.
func TestHTTPSRecords(t *testing.T) {
	s := serve(t)
	following := maps.Clone(firefoxOverDoH)
	following["priority"], following["alias"] = at("198.51.100.2:443"), at("198.51.100.2:443")
	for _, b := range []struct {
		name  string
		open  browser
		url   string
		names int // for each of services
		want  destinations
	}{
		{"Chromium", chromium, "http://n%d.%s/", 4, destinations{"hints": own, "port": own, "priority": own, "alias": own}},
		{"Chromium with DoH", chromiumDoH, "http://n%d.%s/", 4, destinations{"hints": own, "port": own, "priority": own, "alias": own}},
		{"Firefox", firefox, "https://n%d.%s/", times, destinations{"port": at("198.51.100.1:8443"), "priority": own, "alias": own}},
		{"Firefox with DoH", firefoxDoH, "https://n%d.%s/", times, firefoxOverDoH},
		{"Firefox that follows targets", firefoxTargets, "https://n%d.%s/", times, following},
	} {
		t.Run(b.name, func(t *testing.T) {
			var wrong []string
			for range attempts {
				if wrong = strays(t, s, b.open, b.url, b.names, b.want); len(wrong) == 0 {
					return
				}
				t.Log(wrong)
			}
			t.Error(wrong)
		})
	}
}

// strays opens some names of each of services in a browser, and says which it visits elsewhere than
// it should.
func strays(t *testing.T, s *server, open browser, url string, names int, want destinations) (wrong []string) {
	t.Helper()
	var urls []string
	for name := range services {
		urls = append(urls, below(name+".example.org", url, names)...)
	}
	seen.take("example.org")
	questions := s.asked("example.org", func() { open.frames(t, urls...) })
	for name := range services {
		if name == "hints" && want[name] == nil {
			continue // it goes to either
		}
		visits := map[netip.AddrPort]int{}
		for _, at := range seen.take(name + ".example.org") {
			if at.Port() != 80 { // of http, where the HTTPS record came too late
				visits[at]++
			}
		}
		if got := slices.SortedFunc(maps.Keys(visits), netip.AddrPort.Compare); !slices.Equal(got, want[name]) {
			wrong = append(wrong, fmt.Sprintf("names below %s are visited at %v, want %v; asked %v", name, visits, want[name], questions))
		}
	}
	return wrong
}

// SPDX-License-Identifier: Apache-2.0

package zonedata

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const zone = `
@        SOA ns hostmaster 1 2 3 4 5
@        NS ns
ns       A 192.0.2.53
www      A 192.0.2.1
www      A 192.0.2.2
www      AAAA 2001:db8::1
Alias    CNAME www
far      CNAME www.elsewhere.test.
loop     CNAME loop
*.apps   A 192.0.2.9
one.apps TXT "no address"
a.b.apps A 192.0.2.10
sub      NS ns.sub
ns.sub   A 192.0.2.54
moved    DNAME elsewhere.test.
_web._tcp SRV 0 1 80 www
_web._tcp SRV 0 1 80 www.elsewhere.test.
`

func load(t *testing.T) *Data {
	t.Helper()
	d := New()
	d.AddZone("Example.org.")
	p := dns.NewZoneParser(strings.NewReader("$TTL 60\n"+zone), "example.org.", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		d.Add("example.org.", rr)
	}
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
	return d
}

func TestFind(t *testing.T) {
	d := load(t)
	for name, want := range map[string]string{
		"WWW.example.org":            "www.example.org. [192.0.2.1 192.0.2.2 2001:db8::1] true",
		"alias.example.org.":         "www.example.org. [192.0.2.1 192.0.2.2 2001:db8::1] true",
		"far.example.org.":           "www.elsewhere.test. [] false",
		"loop.example.org.":          "loop.example.org. [] true",
		"two.apps.example.org.":      "two.apps.example.org. [192.0.2.9] true",
		"deep.two.apps.example.org.": "deep.two.apps.example.org. [192.0.2.9] true",
		"*.apps.example.org.":        "*.apps.example.org. [192.0.2.9] true",
		"one.apps.example.org.":      "one.apps.example.org. [] true",
		"b.apps.example.org.":        "b.apps.example.org. [] true",
		"x.b.apps.example.org.":      "x.b.apps.example.org. [] true",
		"none.example.org.":          "none.example.org. [] true",
		"x.sub.example.org.":         "x.sub.example.org. [] false",
		"x.moved.example.org.":       "x.moved.example.org. [] false",
		"example.com.":               "example.com. [] false",
	} {
		owner, records, known := d.Find(name)
		addrs := []string{}
		for _, r := range records {
			addrs = append(addrs, r.Addr.String())
		}
		if got := fmt.Sprintf("%s %v %v", owner, addrs, known); got != want {
			t.Errorf("%s: got  %s\nwant %s", name, got, want)
		}
	}
}

func TestTargets(t *testing.T) {
	d := load(t)
	for name, want := range map[string]string{
		"_Web._tcp.example.org": "[www.example.org. www.elsewhere.test.]",
		"www.example.org.":      "[]",
	} {
		if got := fmt.Sprint(d.Targets(name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if diff := cmp.Diff([]string{"_web._tcp.example.org."}, d.Services()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	want := []string{
		"*.apps.example.org.", "a.b.apps.example.org.", "alias.example.org.", "far.example.org.", "loop.example.org.",
		"ns.example.org.", "ns.sub.example.org.", "www.example.org.",
	}
	if diff := cmp.Diff(want, load(t).Names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

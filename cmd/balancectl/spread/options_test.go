// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestOptions(t *testing.T) {
	tests := []struct {
		args   string
		check  func(o *options) bool
		server string
	}{
		{"www.example.org @192.0.2.53", func(o *options) bool {
			return o.name == "www.example.org." && o.qtype == dns.TypeA && o.count == 1000 && o.workers == 1 && o.over == "udp"
		}, "192.0.2.53:53"},
		{"@192.0.2.53 www.example.org. aaaa -p 1053", func(o *options) bool { return o.name == "www.example.org." && o.qtype == dns.TypeAAAA }, "192.0.2.53:1053"},
		{"www.example.org -n 5 @192.0.2.53:54 SRV -c 2", func(o *options) bool { return o.count == 5 && o.workers == 2 && o.qtype == dns.TypeSRV }, "192.0.2.53:54"},
		{"a. @192.0.2.53:54 -p 54", nil, "192.0.2.53:54"},
		{"a. @2001:db8::53", nil, "[2001:db8::53]:53"},
		{"a. @[2001:db8::53]", nil, "[2001:db8::53]:53"},
		{"a. @[2001:db8::53]:54", nil, "[2001:db8::53]:54"},
		{"a. @ns.example.org -p 54", nil, "ns.example.org:54"},
		{"a. @ns.example.org:54", nil, "ns.example.org:54"},
		{"-watch a. @192.0.2.53", func(o *options) bool { return o.watch && o.count == 10 && o.every == time.Second }, "192.0.2.53:53"},
		{"-watch -n 3 a. @192.0.2.53", func(o *options) bool { return o.count == 3 }, "192.0.2.53:53"},
	}
	for _, tc := range tests {
		o, err := readOptions(strings.Fields(tc.args), io.Discard)
		if err != nil {
			t.Errorf("%s: %v", tc.args, err)
			continue
		}
		if o.server != tc.server || tc.check != nil && !tc.check(o) {
			t.Errorf("%s: options are %+v, want the server %s", tc.args, o, tc.server)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("www.example.org\n192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"@192.0.2.53":                            `found []: want a name and perhaps a type; -h has more`,
		"a. A b. @192.0.2.":                      `found ["a." "A" "b."]: want a name and perhaps a type; -h has more`,
		"a..b @192.0.2.53":                       `bad name "a..b": want a domain name such as www.example.org`,
		"+short @192.0.2.5":                      `bad name "+short": want a domain name such as www.example.org`,
		"a. TXT @192.0.2.1":                      `unknown type "TXT": want one of A, AAAA, MX, SRV, HTTPS, SVCB`,
		"a. @b @c":                               `found "@b" and "@c": want one server`,
		"a. @b:x":                                `bad server "@b:x": want one such as @192.0.2.53, @192.0.2.53:5353 or @[2001:db8::53]:5353`,
		"a. @b:54 -p 55":                         `found the ports 54 and 55: want one`,
		"a. @b -p 65536":                         `bad port 65536: want one from 1 to 65535`,
		"a. @b -n -1":                            `-n -1: want at least 1`,
		"a. @b -c 1001":                          `-c 1001: want 1 to 1000`,
		"a. @b -over quic":                       `-over "quic": want udp, tcp or both`,
		"a. @b -rate NaN":                        `-rate NaN: want 0, or 1e-06 or more`,
		"a. @b -rate -1":                         `-rate -1: want 0, or 1e-06 or more`,
		"a. @b -rate 1e-12":                      `-rate 1e-12: want 0, or 1e-06 or more`,
		"a. @b -timeout 0s":                      `-timeout 0s and -every 1s: want more than 0`,
		"a. @b -watch -svg x":                    `-watch and -svg do not go together: want one of them`,
		"a. @b -colour":                          `flag provided but not defined: -colour`,
		"a. @b -source 10.0.0.0/8/24":            `invalid value "10.0.0.0/8/24" for flag -source: bad address or CIDR "10.0.0.0/8/24": want one such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32`,
		"a. @b -ecs 10.0.0.0/8/7":                `invalid value "10.0.0.0/8/7" for flag -ecs: bad length "7": want one from 8 to 32`,
		"a. @b -weights 192.0.2.1=x":             `-weights: bad weight "x": want a whole number from 0 to 65535`,
		"a. @b -weights 192.0.2.1=1,192.0.2.1=2": `-weights: "192.0.2.1" is weighted twice: want it once`,
		"a. @b -weights b=1":                     `-weights: "b" is no member of type A: want an address or CIDR of its family`,
		"a. AAAA @b -weights 192.0.2.1=1":        `-weights: "192.0.2.1" is no member of type AAAA: want an address or CIDR of its family`,
		"a. MX @b -weights 192.0.2.1=1":          `-weights: "192.0.2.1" is no member of type MX: want a name`,
		"a. MX @b -weights m.=70000":             `-weights: bad weight "70000" for m.: want a whole number from 0 to 65535`,
		"a. MX @b -weights m=1,M.=1":             `-weights: "M." is weighted twice: want it once`,
		"a. MX @b -weights file":                 `-weights file: a weight file has addresses, and members of type MX are names: want NAME=WEIGHT for each`,
		"a. @b -weights " + bad:                  `-weights: ` + bad + `:2: "192.0.2.1" has no weight: want a whole number from 0 to 65535 behind it`,
		"a. @b -weights " + bad + "x":            `-weights: open ` + bad + `x: no such file or directory`,
	}
	for args, want := range tests {
		_, err := readOptions(strings.Fields(args), io.Discard)
		if err == nil || err.Error() != want {
			t.Errorf("%s: error is\n%v, want\n%s", args, err, want)
		}
	}
}

// The text of -h names every flag.
func TestHelp(t *testing.T) {
	var out strings.Builder
	code := run(t.Context(), []string{"-h"}, streams{out: io.Discard, err: &out})
	for _, flag := range []string{"-n", "-c", "-p", "-over", "-rate", "-timeout", "-source", "-ecs", "-weights", "-json", "-svg", "-watch", "-every"} {
		if !strings.Contains(out.String(), "\n  "+flag) {
			t.Errorf("help does not name %s", flag)
		}
	}
	if code != 0 || !strings.Contains(out.String(), "Exit status") {
		t.Errorf("exit status is %d after\n%s", code, &out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChainWarnings(t *testing.T) {
	tests := []struct {
		name        string
		directives  []string
		loadbalance bool
		want        []string
	}{
		{name: "in its place", directives: []string{"errors", "dns64", "loadbalance", "tsig", "balance", "rewrite", "cache", "file"}},
		{
			name: "above tsig", directives: []string{"balance", "tsig", "rewrite"},
			want: []string{`"balance" stands above "tsig" in this CoreDNS' plugin.cfg, so answers are changed after they were signed: put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`},
		},
		{
			name: "at the end", directives: []string{"tsig", "rewrite", "cache", "file", "forward", "balance"},
			want: []string{`"balance" stands below "rewrite" in this CoreDNS' plugin.cfg, so names are matched after they were rewritten: put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`},
		},
		{
			name: "below cache", directives: []string{"tsig", "cache", "balance", "file"},
			want: []string{`"balance" stands below "cache" in this CoreDNS' plugin.cfg, so clients share cached answers and get no turns of their own: put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`},
		},
		{
			name: "below dnssec", directives: []string{"tsig", "dnssec", "balance", "file"},
			want: []string{`"balance" stands below "dnssec" in this CoreDNS' plugin.cfg, so answers are signed after balance and anew whenever their members change: put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`},
		},
		{
			name: "below acl", directives: []string{"tsig", "acl", "balance", "file"},
			want: []string{`"balance" stands below "acl" in this CoreDNS' plugin.cfg, so what acl answers does not reach it: put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`},
		},
		{
			name: "below file", directives: []string{"tsig", "file", "balance"},
			want: []string{`"balance" stands below "file" in this CoreDNS' plugin.cfg, so most answers never reach it: put the line "balance:github.com/seed-f1518d44/balance" right after "tsig:tsig" and build again`},
		},
		{
			name: "with loadbalance", directives: []string{"loadbalance", "tsig", "balance", "rewrite"}, loadbalance: true,
			want: []string{`"loadbalance" is active in the same server block and shuffles what "balance" put in order: remove its line`},
		},
	}
	for _, tc := range tests {
		if diff := cmp.Diff(tc.want, chainWarnings(tc.directives, tc.loadbalance)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

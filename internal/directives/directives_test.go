// SPDX-License-Identifier: Apache-2.0

package directives

import (
	"slices"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

func TestInsert(t *testing.T) {
	tests := []struct {
		list    []string
		want    []string
		wantErr string
	}{
		{list: []string{"errors", "tsig", "rewrite", "cache"}, want: []string{"errors", "tsig", "balance", "rewrite", "cache"}},
		{list: []string{"tsig", "mine", "rewrite"}, want: []string{"tsig", "balance", "mine", "rewrite"}},
		{list: []string{"errors", "rewrite"}, wantErr: `directives: no "tsig" in the list of 2: want it there, "balance" goes right after it`},
		{list: []string{"errors", "tsig"}, wantErr: `directives: no "rewrite" in the list of 2: want it there, "balance" goes before it`},
		{list: []string{"rewrite", "tsig"}, wantErr: `directives: "rewrite" stands before "tsig": want "balance" between "tsig" and "rewrite"`},
		{list: []string{"tsig", "balance", "rewrite"}, wantErr: `directives: "balance" is in the list already: want it once`},
	}
	for _, tc := range tests {
		before := slices.Clone(tc.list)
		got, err := insert(tc.list)
		if msg := errorText(err); msg != tc.wantErr {
			t.Errorf("insert(%q): error %q, want %q", tc.list, msg, tc.wantErr)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("insert(%q) = %q, want %q", tc.list, got, tc.want)
		}
		if !slices.Equal(tc.list, before) {
			t.Errorf("insert changed its argument to %q", tc.list)
		}
	}
}

// The list of the CoreDNS release that we build on has both anchors.
func TestInsertIntoStockList(t *testing.T) {
	got, err := insert(dnsserver.Directives)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(got, "balance")
	if got[at-1] != "tsig" || got[at+1] != "rewrite" {
		t.Errorf("balance stands between %q and %q, want tsig and rewrite", got[at-1], got[at+1])
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

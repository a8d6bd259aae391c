// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"strings"
	"testing"
)

func TestSeries(t *testing.T) {
	tests := []struct {
		text     string
		networks bool
		want     string // the first ones
	}{
		{"192.0.2.1", false, "192.0.2.1/32 192.0.2.1/32"},
		{"192.0.2.1,192.0.2.9", false, "192.0.2.1/32 192.0.2.9/32 192.0.2.1/32"},
		{"192.0.2.254/31,2001:db8::/127", false, "192.0.2.254/32 192.0.2.255/32 2001:db8::/128 2001:db8::1/128 192.0.2.254/32"},
		{"192.0.2.0/24", true, "192.0.2.0/24 192.0.2.0/24"},
		{"10.0.0.0/8/24", true, "10.0.0.0/24 10.0.1.0/24 10.0.2.0/24"},
		{"10.0.0.0/22/23", true, "10.0.0.0/23 10.0.2.0/23 10.0.0.0/23"},
		{"2001:db8::/32/56", true, "2001:db8::/56 2001:db8:0:100::/56 2001:db8:0:200::/56"},
		{"::/0/3,192.0.2.1", true, "::/3 2000::/3 4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 e000::/3 192.0.2.1/32 ::/3"},
	}
	for _, tc := range tests {
		var s series
		if err := (&seriesFlag{&s, tc.networks}).Set(tc.text); err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		var got []string
		for i := range strings.Fields(tc.want) {
			got = append(got, s.at(uint64(i)).String())
		}
		if got := strings.Join(got, " "); got != tc.want {
			t.Errorf("%s is %s, want %s", tc.text, got, tc.want)
		}
	}
	var wide series
	if err := (&seriesFlag{&wide, true}).Set("10.0.0.0/8/24"); err != nil {
		t.Fatal(err)
	}
	if got := wide.at(65535).String() + " " + wide.at(256).String() + " " + wide.at(65536).String(); got != "10.255.255.0/24 10.1.0.0/24 10.0.0.0/24" {
		t.Errorf("the last, the 257th and the one after the last are %s", got)
	}
}

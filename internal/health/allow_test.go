// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Nothing outside allow is probed.
func TestNothingOutsideAllowIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackends(t)
		sub := in("example.org.")
		sub.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		s := joinedAs(t, b.checkOf(), sub)
		for _, addr := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.5", "::ffff:10.0.0.5", "::1"} {
			if got := s.Seen(endpointAt(addr)); got != Unknown {
				t.Errorf("%s is %v, want unknown", addr, got)
			}
		}
		s.Seen(endpointAt("::ffff:192.0.2.1"))
		wait(time.Minute)
		if b.all() == 0 || len(b.probes) != 1 || b.count(a1) == 0 {
			t.Errorf("probed %v, want only %s", b.probes, a1)
		}
	})
}

func TestMayProbe(t *testing.T) {
	type test struct {
		allow, addr string
		want        bool
	}
	tests := []test{
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"0.0.0.0/0", "127.0.0.1", false},
		{"0.0.0.0/0", "169.254.169.254", false},
		{"0.0.0.0/0", "224.0.0.251", false},
		{"0.0.0.0/0", "0.0.0.0", false},
		{"0.0.0.0/0", "255.255.255.255", false},
		{"0.0.0.0/0", "192.0.2.1", true},
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.1/32", "127.0.0.1", true},
		{"127.0.0.1/32", "127.0.0.2", false},
		{"126.0.0.0/7", "127.0.0.1", false},
		{"::/0", "::1", false},
		{"::/0", "fe80::1", false},
		{"::/0", "ff02::fb", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "192.0.2.1", false},
		{"::1/128", "::1", true},
		{"fe80::/10", "fe80::1", true},
		{"0.0.0.0/0 127.0.0.0/24", "127.0.0.1", true},
		{"::/0", "64:ff9b::7f00:1", false},
		{"::/0", "64:ff9b::a9fe:a9fe", false},
		{"::/0", "64:ff9b::c000:201", true},
		{"::/0", "2002:7f00:1::1", false},
		{"::/0", "2002:c000:201::1", true},
		{"::/0", "::ffff:0:127.0.0.1", false},
		{"::/0", "::127.0.0.1", false},
		{"64:ff9b::/96", "64:ff9b::7f00:1", false},
		{"::/0", "64:ff9b:1::7f00:1", false},
		{"::/0", "64:ff9b:1:7f00:0:100::", false},
		{"64:ff9b:1:ffff::/96", "64:ff9b:1:ffff::a00:1", true},
		{"::/0", "2001::a:b", false},
		{"0.0.0.0/0 ::/0", "::ffff:127.0.0.1", false},
		{"127.0.0.1/32", "::ffff:127.0.0.1", true},
		{"::/0", "::ffff:192.0.2.1", false},
		{"64:ff9b::7f00:0/104", "64:ff9b::7f00:1", true},
		{"::/104", "::1", false}, // allows the IPv6 spelling of 0.0.0.0/8, but ::1 is a guarded range itself
		{"::/104", "::", false},
		{"::/104", "::0.0.0.2", true},
		{"::/127", "::1", false},
	}
	for _, end := range []string{ // the last address of each range, and the one after it
		"0.255.255.255 1.0.0.0", "127.255.255.255 128.0.0.0", "169.254.255.255 169.255.0.0", "239.255.255.255 240.0.0.0",
		"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff 64:ff9b:2::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff 2001:1::",
		"64:ff9b::169.254.255.255 64:ff9b::169.255.0.0", "::ffff:0:239.255.255.255 ::ffff:0:240.0.0.0", "2002:7fff:ffff:ffff:ffff:ffff:ffff:ffff 2002:8000::", "::127.255.255.255 ::128.0.0.0",
	} {
		last, behind, _ := strings.Cut(end, " ")
		tests = append(tests, test{"0.0.0.0/0 ::/0", last, false}, test{"0.0.0.0/0 ::/0", behind, true})
	}
	for _, tc := range tests {
		var allow []netip.Prefix
		for word := range strings.FieldsSeq(tc.allow) {
			allow = append(allow, netip.MustParsePrefix(word))
		}
		if got := MayProbe(allow, netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("allow %s: may probe %s: %v, want %v", tc.allow, tc.addr, got, tc.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import "testing"

// A peer may send any state.
func TestParseOrigin(t *testing.T) {
	for _, o := range []origin{{"dns-1", true}, {"", false}} {
		if got, state, err := parseOrigin(append(o.encode(), "state"...)); err != nil || got != o || string(state) != "state" {
			t.Errorf("%+v, %q, %v; want %+v", got, state, err, o)
		}
	}
	for _, bad := range []string{"", "\x01", "\x01\x05dns", "\x01\xff" + string(make([]byte, 300))} {
		if _, _, err := parseOrigin([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

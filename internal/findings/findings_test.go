// SPDX-License-Identifier: Apache-2.0

package findings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Messages of this plugin, of Caddy and of other plugins, with and without a file and a line.
func TestWrite(t *testing.T) {
	var l List
	l.Warnf("Corefile", "%s", "weights.db:12: twice")
	l.Errorf("Corefile", "%s", "Corefile:10: ttl: found nothing")
	l.Errorf("Corefile", "%s", "Corefile:9 - Error during parsing: Unknown directive 'x'")
	l.Errorf("Corefile", "%s", "plugin/file: /etc/core dns/zones.conf:3 - Error during parsing: y")
	l.Warnf("Corefile", "%s", `plugin/file: Failed to open "open db: no such file": trying again in 1m0s`)
	l.Errorf("Corefile", "%s", "cannot serve dns://.:53 - it is already defined")
	l.Warnf("Corefile", "%s", "weights.db:12: twice")
	l.Notef("Corefile:8", "not compared")
	want := `/etc/core dns/zones.conf:3: error: plugin/file: Error during parsing: y
Corefile: warning: plugin/file: Failed to open "open db: no such file": trying again in 1m0s
Corefile: error: cannot serve dns://.:53 - it is already defined
Corefile:8: note: not compared
Corefile:9: error: Error during parsing: Unknown directive 'x'
Corefile:10: error: ttl: found nothing
weights.db:12: warning: twice
4 errors, 2 warnings
`
	var b strings.Builder
	status, err := l.Write(&b, false)
	if diff := cmp.Diff(want, b.String()); diff != "" || status != Problems || err != nil {
		t.Errorf("status %d, %v, and (-want +got):\n%s", status, err, diff)
	}
}

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		add    func(*List)
		strict bool
		want   int
	}{
		{func(*List) {}, true, Fine},
		{func(l *List) { l.Notef("f", "x") }, true, Fine},
		{func(l *List) { l.Warnf("f", "x") }, false, Fine},
		{func(l *List) { l.Warnf("f", "x") }, true, Problems},
		{func(l *List) { l.Errorf("f", "x") }, false, Problems},
	} {
		var l List
		tc.add(&l)
		if got, err := l.Write(new(strings.Builder), tc.strict); got != tc.want || err != nil {
			t.Errorf("%v, strict %v: status %d, %v: want %d", l.all, tc.strict, got, err, tc.want)
		}
	}
}

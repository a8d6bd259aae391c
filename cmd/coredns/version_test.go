// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"testing"
)

func TestBalanceVersion(t *testing.T) {
	for _, tt := range []struct {
		path, version, want string
	}{
		{module, "v0.1.0", "v0.1.0"},
		{module, "v0.1.1-0.20261123120000-886146d0a0a0+dirty", "v0.1.1-0.20261123120000-886146d0a0a0+dirty"},
		{module, "(devel)", "devel"},
		{module, "", "devel"},
		{"example.org/other", "v1.2.3", "devel"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Path: tt.path, Version: tt.version}}
		if got := balanceVersion(info); got != tt.want {
			t.Errorf("%s %s: version is %q, want %q", tt.path, tt.version, got, tt.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"runtime/debug"
	"slices"
)

const module = "github.com/seed-f1518d44/balance"

// userAgent says what probes, to people who read the log of a server.
var userAgent = "coredns-balance/" + version() + " (health check)"

// version returns the version of this module in the running program, as far as Go knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, m := range slices.Concat([]*debug.Module{&info.Main}, info.Deps) {
		if m.Path == module && m.Version != "(devel)" {
			return cmp.Or(m.Version, "devel")
		}
	}
	return "devel"
}

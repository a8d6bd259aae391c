// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"

	"github.com/coredns/coredns/coremain"
)

const module = "github.com/seed-f1518d44/balance"

// nameBalance says which balance this is if CoreDNS has the commit it was built from: at the end
// of what -version prints, and as the revision in coredns_build_info. CoreDNS' own version stays as
// it is. A build that was given a stamp, as those of the Makefile are, keeps it.
func nameBalance() {
	if info, ok := debug.ReadBuildInfo(); ok && coremain.GitCommit == "" {
		coremain.GitCommit = "balance-" + balanceVersion(info)
	}
}

// balanceVersion returns the version that Go itself knows, which "go install" gives, or "devel" if
// it knows none.
func balanceVersion(info *debug.BuildInfo) string {
	if info.Main.Path != module || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

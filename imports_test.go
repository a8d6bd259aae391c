// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// knowCoreDNS are the packages under internal/ that may import CoreDNS.
var knowCoreDNS = []string{"directives"}

// The walls between packages: nothing under internal/ imports the root, and only a few packages
// import CoreDNS, whether directly or through another package.
func TestImports(t *testing.T) {
	const root = "github.com/seed-f1518d44/balance"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./internal/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		all := strings.Fields(line)
		name := strings.TrimPrefix(all[0], root+"/internal/")
		if slices.Contains(all[1:], root) {
			t.Errorf("internal/%s imports the root", name)
		}
		i := slices.IndexFunc(all, func(path string) bool { return strings.HasPrefix(path, "github.com/coredns/") })
		if i > 0 && !slices.Contains(knowCoreDNS, name) {
			t.Errorf("internal/%s imports %s", name, all[i])
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

// What test/coredns/run adds to package test of CoreDNS.

package test

import (
	"os"
	"slices"
	"strings"

	"github.com/coredns/coredns/core/dnsserver"

	_ "github.com/seed-f1518d44/balance" // the balance plugin
)

func init() {
	at := slices.Index(dnsserver.Directives, "rewrite")
	dnsserver.Directives = slices.Insert(dnsserver.Directives, at, "balance")
}

// balanced returns a Corefile with the stanza in the environment at the start of every server
// block.
func balanced(corefile string) string {
	var b strings.Builder
	depth := 0
	for line := range strings.Lines(corefile) {
		b.WriteString(line)
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[len(words)-1] == "{":
			if snippet := words[0][0] == '('; depth == 0 && !snippet {
				b.WriteString(os.Getenv("BALANCE") + "\n")
			}
			depth++
		case words[0] == "}":
			depth--
		}
	}
	return b.String()
}

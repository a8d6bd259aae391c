// SPDX-License-Identifier: Apache-2.0

// Command coredns is CoreDNS with every plugin it is released with and balance in its place in the
// chain. Its flags, its Corefile and its behaviour are those of the stock server; -version says
// behind CoreDNS' own version which balance it is.
package main

import (
	"log"

	_ "github.com/coredns/coredns/core/plugin" // every stock plugin
	"github.com/coredns/coredns/coremain"

	_ "github.com/seed-f1518d44/balance" // the balance plugin
	"github.com/seed-f1518d44/balance/internal/directives"
)

func main() {
	if err := directives.Install(); err != nil {
		log.Fatal(err)
	}
	nameBalance()
	coremain.Run()
}

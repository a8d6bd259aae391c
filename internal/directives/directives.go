// SPDX-License-Identifier: Apache-2.0

// Package directives puts the balance directive where it belongs in CoreDNS' list of directives,
// which is the order in which a query meets the plugins.
package directives

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
)

const (
	name   = "balance"
	before = "tsig" // signs what balance wrote: it must stand above
	// The first plugin that must stand below: balance sees the client's own question.
	after = "rewrite"
)

// Install puts balance into CoreDNS' list of directives between tsig and rewrite. Call it once,
// before any server starts. If there is no such place, it returns an error and leaves the list
// alone.
func Install() error {
	list, err := insert(dnsserver.Directives)
	if err != nil {
		return err
	}
	return dnsserver.SetDirectives(list)
}

// insert returns list with balance after tsig. It never falls back to another place: a balance
// at the end of the chain would see no query at all.
func insert(list []string) ([]string, error) {
	if slices.Contains(list, name) {
		return nil, fmt.Errorf("directives: %q is in the list already: want it once", name)
	}
	above, below := slices.Index(list, before), slices.Index(list, after)
	switch {
	case above < 0:
		return nil, fmt.Errorf("directives: no %q in the list of %d: want it there, %q goes right after it", before, len(list), name)
	case below < 0:
		return nil, fmt.Errorf("directives: no %q in the list of %d: want it there, %q goes before it", after, len(list), name)
	case below < above:
		return nil, fmt.Errorf("directives: %q stands before %q: want %q between %q and %q", after, before, name, before, after)
	}
	return slices.Insert(slices.Clone(list), above+1, name), nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "slices"

// variant is a setting under which servers are measured beside each other.
type variant struct {
	name        string
	environment []string
	pgo         bool
}

// comparisons are the values of -compare. The first variant is what the others are compared with.
var comparisons = map[string][]variant{
	"gc": {
		{name: "GOGC=100", environment: []string{"GOGC=100"}},
		{name: "GOGC=200", environment: []string{"GOGC=200"}},
		{name: "GOGC=400", environment: []string{"GOGC=400"}},
		// As if there were no stack primer.
		{name: "adaptivestackstart=0", environment: []string{"GODEBUG=adaptivestackstart=0"}},
	},
	"pgo": {
		{name: "pgo=off"},
		{name: "pgo", pgo: true},
	},
}

// comparedServers are the servers that are measured under each variant: balance, and its neighbours
// in the tables.
var comparedServers = []string{
	fileServer, loadbalanceServer, "file+balance", balanceServer, "file+cache+balance weighted", probingServer,
}

// compared returns servers under each variant.
func compared(variants []variant) []Server {
	var all []Server
	for _, s := range servers {
		if !slices.Contains(comparedServers, s.Name) {
			continue
		}
		name := s.Name
		base := name + " " + variants[0].name
		for _, v := range variants {
			s.Name, s.Base = name+" "+v.name, base
			s.Environment, s.PGO = v.environment, v.pgo
			all = append(all, s)
		}
	}
	return all
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"testing"

	"github.com/miekg/dns"
)

// A block may name a zone more than once: on two ports, or by dns:// and tls://.
func TestAZoneOnTwoPortsOfABlock(t *testing.T) {
	s := start(t, blockOf("example.org:"+freePort(t)+" example.org:"+freePort(t), "balance", "hosts {\n"+threeHosts("www.example.org")+"}"))
	var order []string
	for i := range 6 {
		order = append(order, members(ask(t, s.udps()[i%2], "www.example.org.", dns.TypeA), dns.TypeA)[0])
	}
	follows(t, threeSorted, order)
}

// Nobody leads more often than others because Corefiles are reloaded while queries are in flight.
func TestTurnsAreExactOverReloadsUnderLoad(t *testing.T) {
	onlyWhole(t, "it takes long")
	corefile := block("balance", "file "+zone(t, "example.org.", threeAs))
	s := start(t, corefile)
	crowd := newCrowd(t, s, 8)
	stop := crowd.askOn()
	for range 100 {
		crowd.wait(16)
		if err := s.restart(corefile); err != nil {
			t.Error(err)
		}
	}
	stop().even(t, 3, 1)
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "slices"

// Order is the rule that successive answers must follow.
type Order int

// What an answer leads with.
const (
	Any      Order = iota // whatever
	Moves                 // not always the same
	Strict                // each address equally often, to the answer
	Weighted              // each as often as its weight says, to the answer
	Sticky                // always the same for one client, not the same for all clients
)

// Server is what can be measured. Immutable.
type Server struct {
	Name    string
	Order   Order
	Records int  // in an answer; 0: all of the name
	Probes  bool // health checks must have found all up before it is measured
	Settles bool // its own health checks take a while, so that the first answers need not be right
	Full    bool // has all names for every work, otherwise for the work that asks for them

	// Set for one that is compared with itself under another setting.
	Base        string   // its name there
	Environment []string // for its process
	PGO         bool     // CoreDNS built with a profile

	program string // that must be installed, "" for our own
	prepare func(*site) (argv []string, err error)
}

// site is what a server runs with: a directory of its own with its configuration, and ports.
type site struct {
	server      Server
	environment []string // of its process
	names       []zoneName
	dir         string
	port        int // DNS, on 127.0.0.1
	metrics     int // CoreDNS' ports for prometheus, health, ready and pprof
	health      int
	ready       int
	pprof       int
	backends    int // port of the backends on every address
	coredns     string
	profiled    bool
}

// References of the ratios.
const (
	fileServer        = "file"
	loadbalanceServer = "file+cache+loadbalance"
	balanceServer     = "file+cache+balance"
	probingServer     = "file+cache+balance, 10,000 endpoints"
	restingServer     = "file+cache+balance, 10,000 endpoints at rest"
)

// servers are measured, and are in the tables in this order.
var servers = slices.Concat([]Server{
	{Name: "floor: Go UDP echo of a packed answer", prepare: prepareFloor},
}, corednsServers, peers)

// worksOf returns the works that a server is measured with.
func (s Server) worksOf(works []Work) []Work {
	if !s.Probes || s.Full {
		return works
	}
	return inZone(works, false) // the rest is what its sibling with all names does
}

// recordsOf returns how many records an answer has.
func (s Server) recordsOf(w Work) int {
	if s.Records > 0 {
		return s.Records
	}
	return w.Addresses
}

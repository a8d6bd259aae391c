// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// probeInterval is that of all health checks, in seconds.
const probeInterval = 5

var (
	withCache       = "cache 3600 {\n success 100000 3600\n }\n"
	roundRobin      = "balance\n"
	weighted        = "balance {\n policy weighted\n weights weights 0\n }\n"
	lbRoundRobin    = "loadbalance round_robin\n"
	lbWeighted      = "loadbalance weighted weights {\n reload 0\n }\n"
	withHealthCheck = healthCheck(fmt.Sprintf("interval %ds", probeInterval))
	// The endpoints are probed once, as they become known.
	withChecksAtRest = healthCheck("interval 24h", "max_interval 24h")
)

func healthCheck(timing ...string) string {
	return "balance {\n health_check tcp BACKENDS {\n allow 127.1.0.0/16\n " + strings.Join(timing, "\n ") + "\n }\n }\n"
}

// corednsServers differ in the plugins above file.
var corednsServers = []Server{
	coredns(fileServer, Any, ""),
	coredns("file+loadbalance", Moves, lbRoundRobin),
	coredns("file+loadbalance weighted", Moves, lbWeighted),
	coredns("file+balance", Strict, roundRobin),
	coredns("file+balance weighted", Weighted, weighted),
	coredns("file+cache", Any, withCache),
	coredns(loadbalanceServer, Moves, withCache, lbRoundRobin),
	coredns("file+cache+loadbalance weighted", Moves, withCache, lbWeighted),
	coredns(balanceServer, Strict, roundRobin, withCache),
	coredns("file+cache+balance weighted", Weighted, weighted, withCache),
	coredns("file+cache+balance random", Moves, "balance {\n policy random\n }\n", withCache),
	coredns("file+cache+balance sticky", Sticky, "balance {\n policy sticky\n }\n", withCache),
	coredns("file+cache+balance, answers 1", Strict, "balance {\n answers 1\n }\n", withCache).answering(1),
	coredns("file+cache+balance, health_check", Strict, withHealthCheck, withCache).probing(false),
	coredns(probingServer, Strict, withHealthCheck, withCache).probing(true),
	coredns(restingServer, Strict, withChecksAtRest, withCache).probing(true),
}

// coredns returns a CoreDNS with these plugins above file.
func coredns(name string, order Order, plugins ...string) Server {
	return Server{Name: name, Order: order, prepare: func(s *site) ([]string, error) {
		return prepareCoreDNS(s, strings.Join(plugins, ""))
	}}
}

func (s Server) answering(records int) Server {
	s.Records = records
	return s
}

func (s Server) probing(all bool) Server {
	s.Probes, s.Full = true, all
	return s
}

// corefileFormat has what a deployment has around the plugins that differ.
const corefileFormat = `%s:%d {
 bind 127.0.0.1
 errors
 prometheus 127.0.0.1:%d
 health 127.0.0.1:%d
 ready 127.0.0.1:%d
 bufsize 1232
 minimal
%s file zone
}
`

func prepareCoreDNS(s *site, plugins string) ([]string, error) {
	plugins = strings.ReplaceAll(plugins, "BACKENDS", strconv.Itoa(s.backends))
	if s.profiled {
		plugins += fmt.Sprintf("pprof 127.0.0.1:%d\n", s.pprof)
	}
	text := fmt.Sprintf(corefileFormat, origin, s.port, s.metrics, s.health, s.ready, plugins)
	program, err := filepath.Abs(s.coredns)
	if err != nil {
		return nil, err
	}
	return []string{program, "-conf", "Corefile"}, s.write(map[string]string{
		"Corefile": text,
		"zone":     zoneFile(s.names, plainRecords),
		"weights":  weightFile(s.names),
	})
}

// write writes files into the site's directory, and makes directories of names that end in a slash.
func (s *site) write(files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o750); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

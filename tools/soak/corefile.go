// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// The addresses of the server, in its own namespace.
const (
	dnsAddress     = "127.0.0.1:5300"
	tlsAddress     = "127.0.0.1:5853"
	metricsAddress = "127.0.0.1:9153"
	pprofAddress   = "127.0.0.1:6053"
	forwardAddress = "127.0.0.1:5400" // of the upstream
)

// pollEvery is how often the server reads the weight file and the overrides.
const pollEvery = "200ms"

// variant is a Corefile. The zero value is the one that the server starts with.
type variant struct {
	name     string
	ttl      string // option ttl of the rules with a health_check
	interval string // of the health checks
	cache    bool   // one more cache
	extra    bool   // one more stanza
	reload   bool   // the reload plugin
	serial   int    // makes the Corefile differ if nothing else does
	broken   func(corefile string) string
}

// String returns its name.
func (v variant) String() string { return cmp.Or(v.name, "the first one") }

// changes are good Corefiles that differ from the first one. No answer may get worse because of
// them.
var changes = []variant{
	{name: "other TTLs", ttl: "ttl 20 4"},
	{name: "a cache more", cache: true},
	{name: "a stanza more", extra: true},
	{name: "another interval", interval: "1100ms"},
}

// breakages are Corefiles that the server refuses, each at another stage of its start.
var breakages = []variant{
	{name: "bad option", broken: replace("policy weighted", "policy heaviest")},
	{name: "unknown plugin", broken: replace("sticky.test:5300 {", "sticky.test:5300 {\n  no_such_plugin")},
	{name: "torn", broken: func(c string) string { return c[:strings.LastIndex(c, "health_check")+20] }},
	{name: "file missing", broken: replace("/weights "+pollEvery, "/no-weights "+pollEvery)},
	{name: "cannot listen", broken: func(c string) string {
		return c + "last.test:5300 {\n  bind 192.0.2.1\n  balance {\n    ttl 5\n  }\n  whoami\n}\n"
	}},
}

func replace(what, by string) func(string) string {
	return func(corefile string) string { return strings.Replace(corefile, what, by, 1) }
}

// corefile returns the variant, for files in a directory and on a disk.
func (v variant) corefile(dir, disk string, farms []*farm) string {
	b := new(strings.Builder)
	more := ""
	if v.reload {
		more = "\n  reload 2s 0s"
	}
	block := func(address string, lines ...string) {
		fmt.Fprintf(b, "%s {\n  bind 127.0.0.1\n  errors\n  prometheus %s%s\n  %s\n}\n", address, metricsAddress, more, strings.Join(lines, "\n  "))
		more = ""
	}
	db := func(zone string) string { return "file " + filepath.Join(dir, "db."+zone) }
	cache := "local" // any plugin that changes nothing
	if v.cache {
		cache = "cache 30"
	}
	extra := ""
	if v.extra {
		extra = "balance extra.file.test {\n    ttl 20\n  }"
	}
	block("file.test:5300", "pprof "+pprofAddress, fmt.Sprintf("nsid %d", v.serial), "balance", extra,
		"balance weighted.file.test {\n    policy weighted\n    weights "+disk+"/weights "+pollEvery+"\n  }",
		"balance over.file.test {\n    overrides "+disk+"/overrides "+pollEvery+"\n  }", cache, db("file.test"))
	block("sticky.test:5300", "balance {\n    policy sticky\n  }", cache, db("sticky.test"))
	var pools []string
	for _, f := range farms {
		pools = append(pools, v.pool(f.name+".pool.test", dir, f))
	}
	targets := farms[slices.IndexFunc(farms, func(f *farm) bool { return f.name == farmOfTargets })]
	pools = append(pools, v.pool("observed.pool.test", dir, targets, "observe"))
	block("pool.test:5300", append(pools, db("pool.test"))...)
	forward := "forward . " + forwardAddress + " {\n    max_fails 2\n    health_check 500ms\n    expire 1s\n  }"
	block("up.test:5300", "balance", v.pool("pool.up.test", dir, farms[0]), v.pool("targets.up.test", dir, targets), forward)
	block("signed.test:5300", v.pool("signed.test", dir, targets), cache, "dnssec {\n    key file "+signingKeyFile(dir)+"\n  }", db("signed.test"))
	block("cached.test:5300", "balance", "cache 5 {\n    servfail 1s\n  }", forward)
	block("tls://dot.test:5853", "tls "+dir+"/server.pem "+dir+"/server.key", "balance", v.pool("pool.dot.test", dir, farms[1]), db("dot.test"))
	if v.broken != nil {
		return v.broken(b.String())
	}
	return b.String()
}

// pool returns the stanza of a zone whose members are a farm's, with more lines.
func (v variant) pool(zone, dir string, f *farm, more ...string) string {
	interval := f.timing.interval.String()
	if v.interval != "" && !f.held { // connections are held as long as the check is the same
		interval = v.interval
	}
	hold := ""
	if f.held {
		hold = "\n      hold"
	}
	rest := map[string]string{
		"tcp":   fmt.Sprintf("tcp %d {\n      receive \"all is fine\"", f.port),
		"http":  fmt.Sprintf("http %d /healthz {\n      body \"all is fine\"", f.port),
		"https": fmt.Sprintf("https %d /healthz {\n      body \"all is fine\"\n      host %s\n      tls %s/ca.pem", f.port, backendHost, dir),
		"grpc":  fmt.Sprintf("grpc %d {", f.port),
		"dns":   fmt.Sprintf("dns %d health.test {", f.port),
		"icmp":  "icmp {",
	}[f.protocol]
	return fmt.Sprintf("balance %s {\n    status\n    %s%s\n    health_check %s\n      allow %s\n      interval %s\n      timeout %s\n      fast_interval %s\n      max_interval %s%s\n    }\n  }",
		zone, v.ttl, strings.Join(append([]string{""}, more...), "\n    "), rest, f.network, interval, f.timing.timeout, f.timing.fast, f.timing.maxInterval, hold)
}

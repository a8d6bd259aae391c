// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// peers are other name servers, as Debian has them, each with one thread that answers.
var peers = []Server{
	{Name: "gdnsd, plain", Order: Moves, program: "gdnsd", prepare: prepareGdnsd(plainRecords)},
	{Name: "gdnsd multifo", Order: Moves, program: "gdnsd", prepare: prepareGdnsd(dynamic("multifo"))},
	{Name: "gdnsd weighted", Order: Moves, Records: 1, program: "gdnsd", prepare: prepareGdnsd(dynamic("weighted"))},
	{Name: "PowerDNS, plain", Order: Any, program: "pdns_server", prepare: preparePowerDNS("no", fixedRecords)},
	{Name: "PowerDNS pickrandom", Order: Moves, Records: 1, program: "pdns_server", prepare: preparePowerDNS("yes", pickrandom)},
	{Name: "PowerDNS pickrandom, shared", Order: Moves, Records: 1, program: "pdns_server", prepare: preparePowerDNS("shared", pickrandom)},
	{Name: "PowerDNS ifportup, shared", Order: Moves, Settles: true, Records: 1, program: "pdns_server", prepare: preparePowerDNS("shared", ifportup)},
	{Name: "PowerDNS ifportup all, shared", Order: Any, Settles: true, program: "pdns_server", prepare: preparePowerDNS("shared", ifportupAll)},
	{Name: "BIND cyclic", Order: Moves, program: "named", prepare: prepareBIND},
}

const gdnsdConfig = `options => {
  listen => "127.0.0.1:%d"
  udp_threads => 1
  tcp_threads => 1
  run_dir => "%s/run"
  state_dir => "%s/state"
}
service_types => {
  backends => { plugin => tcp_connect, port => %d, interval => %d, timeout => 2 }
}
plugins => {
  multifo => { service_types => backends%s
  }
  weighted => { service_types => up%s
  }
}
`

// dynamic has a plugin of gdnsd answer for a name.
func dynamic(plugin string) func(zoneName) string {
	return func(n zoneName) string { return fmt.Sprintf("%s DYNA %s!%s\n", n.label, plugin, n.label) }
}

func prepareGdnsd(record func(zoneName) string) func(*site) ([]string, error) {
	return func(s *site) ([]string, error) {
		var multifo, weighted strings.Builder
		zone := zoneFile(s.names, record)
		for _, n := range s.names {
			if strings.Contains(zone, "multifo!") {
				fmt.Fprintf(&multifo, "\n    %s => { %s }", n.label, resource(n, func(i int) string { return n.addrs[i].String() }))
			}
			if strings.Contains(zone, "weighted!") {
				fmt.Fprintf(&weighted, "\n    %s => { %s }", n.label, resource(n, func(i int) string { return fmt.Sprintf("[ %s, %d ]", n.addrs[i], weight(i)) }))
			}
		}
		// The name of a file is that of its zone.
		return []string{"gdnsd", "-c", s.dir, "start"}, s.write(map[string]string{
			"config":      fmt.Sprintf(gdnsdConfig, s.port, s.dir, s.dir, s.backends, probeInterval, multifo.String(), weighted.String()),
			"zones/bench": zone,
			"run/":        "", "state/": "", "geoip/": "",
		})
	}
}

// resource returns the addresses of a name as gdnsd's plugins read them.
func resource(n zoneName, value func(i int) string) string {
	values := make([]string, len(n.addrs))
	for i := range values {
		values[i] = fmt.Sprintf("a%d => %s", i, value(i))
	}
	return strings.Join(values, ", ")
}

const powerdnsConfig = `launch=bind
bind-config=%s/named.conf
local-address=127.0.0.1
local-port=%d
enable-lua-records=%s
lua-health-checks-interval=%d
receiver-threads=1
distributor-threads=1
socket-dir=%s
daemon=no
guardian=no
write-pid=no
disable-syslog=yes
loglevel=3
security-poll-suffix=
`

// luaRecord returns a LUA record for the A records of a name. The addresses replace %s in the code.
func luaRecord(n zoneName, format string) string {
	quoted := make([]string, len(n.addrs))
	for i, a := range n.addrs {
		quoted[i] = "'" + a.String() + "'"
	}
	return fmt.Sprintf("%s IN LUA A (\"%s\")\n", n.label, fmt.Sprintf(format, strings.Join(quoted, ",")))
}

func fixedRecords(n zoneName, _ int) string { return plainRecords(n) }

func pickrandom(n zoneName, _ int) string { return luaRecord(n, "pickrandom({%s})") }

func ifportup(n zoneName, port int) string {
	return luaRecord(n, fmt.Sprintf("ifportup(%d, {%%s})", port))
}

func ifportupAll(n zoneName, port int) string {
	return luaRecord(n, fmt.Sprintf("ifportup(%d, {%%s}, {selector='all'})", port))
}

func preparePowerDNS(lua string, record func(n zoneName, port int) string) func(*site) ([]string, error) {
	return func(s *site) ([]string, error) {
		zone := zoneFile(s.names, func(n zoneName) string { return record(n, s.backends) })
		return []string{"pdns_server", "--config-dir=" + s.dir}, s.write(map[string]string{
			"pdns.conf":  fmt.Sprintf(powerdnsConfig, s.dir, s.port, lua, probeInterval, s.dir),
			"named.conf": fmt.Sprintf("zone \"bench\" { type master; file \"%s\"; };\n", filepath.Join(s.dir, "zone")),
			"zone":       zone,
		})
	}
}

const bindConfig = `options {
  directory "%s";
  listen-on port %d { 127.0.0.1; };
  listen-on-v6 { none; };
  pid-file none;
  session-keyfile none;
  recursion no;
  dnssec-validation no;
  notify no;
  minimal-responses yes;
  rrset-order { order cyclic; };
};
controls { };
zone "bench" { type primary; file "zone"; };
`

func prepareBIND(s *site) ([]string, error) {
	return []string{"named", "-g", "-n", "1", "-c", filepath.Join(s.dir, "named.conf")}, s.write(map[string]string{
		"named.conf": fmt.Sprintf(bindConfig, s.dir, s.port),
		"zone":       zoneFile(s.names, plainRecords),
	})
}

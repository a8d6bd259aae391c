// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/zonedata"
)

// A dry run knows the members of names that file, auto and hosts serve.

// inventing are the plugins that answer names which are in no zone file.
var inventing = []string{"rewrite", "template", "autopath", "dynupdate"}

// zonesOf returns the records of a server block's zone files and hosts files. c is the controller
// of any server block, with which to find the configuration of this one.
func zonesOf(c caddy.Controller, index int, block caddyfile.ServerBlock) *zonedata.Data {
	data := zonedata.New()
	if slices.ContainsFunc(inventing, func(name string) bool { return block.Tokens[name] != nil }) {
		return data
	}
	c.ServerBlockIndex, c.ServerBlockKeyIndex = index, 0
	s := &zoneSource{data, dnsserver.GetConfig(&c), block.Keys}
	for _, l := range linesOf(block.Tokens["file"]) {
		s.addFile(&l)
	}
	for _, l := range linesOf(block.Tokens["hosts"]) {
		s.addHosts(&l)
	}
	if block.Tokens["auto"] != nil {
		s.addAuto()
	}
	return data
}

// linesOf returns the lines of a directive in a server block.
func linesOf(tokens []caddyfile.Token) (lines []line) {
	c := &caddy.Controller{Dispenser: caddyfile.NewDispenserTokens("", tokens)}
	for c.Next() {
		l, err := readLine(c)
		if err != nil { // the plugin itself reads it otherwise
			return lines
		}
		lines = append(lines, l)
	}
	return lines
}

// has reports whether the block of a line has an option.
func (l *line) has(option string) bool {
	return slices.ContainsFunc(l.block, func(inner line) bool { return inner.name == option })
}

// zoneSource fills data from the plugins of a server block.
type zoneSource struct {
	data   *zonedata.Data
	config *dnsserver.Config
	keys   []string // of the block
}

// addFile adds the zones of a line "file DBFILE [ZONES...]".
func (s *zoneSource) addFile(l *line) {
	if len(l.args) == 0 {
		return
	}
	for _, zone := range plugin.OriginsFromArgsOrServerBlock(l.args[1:], s.keys) {
		if s.addTransferred("file", zone) && !l.has("fallthrough") {
			s.data.AddZone(zone)
		}
	}
}

// addAuto adds the zones of auto, which reads its directory when a server starts.
func (s *zoneSource) addAuto() {
	auto, ok := s.config.Handler("auto").(interface {
		Walk() error
		Names() []string
	})
	if !ok || auto.Walk() != nil {
		return
	}
	for _, zone := range auto.Names() {
		if s.addTransferred("auto", zone) {
			s.data.AddZone(zone)
		}
	}
}

// addTransferred adds the records of a zone that a plugin has, and reports whether it has the zone.
func (s *zoneSource) addTransferred(name, zone string) bool {
	from, ok := s.config.Handler(name).(interface {
		Transfer(zone string, serial uint32) (<-chan []dns.RR, error) // as for the plugin transfer
	})
	if !ok {
		return false
	}
	messages, err := from.Transfer(zone, 0)
	if err != nil {
		return false
	}
	for records := range messages {
		for _, rr := range records {
			s.data.Add(zone, rr)
		}
	}
	return true
}

// hostsOptions are the words in the block of hosts that begin no entry.
var hostsOptions = []string{"fallthrough", "fallthrough_unsupported", "no_reverse", "ttl", "reload"}

// addHosts adds the entries of "hosts [FILE [ZONES...]] { ... }". hosts has no zone of its own to
// hand out, so its file is read here.
func (s *zoneSource) addHosts(l *line) {
	path, zones := "/etc/hosts", l.args
	if len(l.args) > 0 {
		path, zones = pathIn(s.config.Root, l.args[0]), l.args[1:]
	}
	content, err := filewatch.ReadRegular(path)
	var entries strings.Builder
	entries.Write(content)
	for _, inner := range l.block {
		if !slices.Contains(hostsOptions, inner.name) {
			entries.WriteString("\n" + inner.name + " " + strings.Join(inner.args, " "))
		}
	}
	zones = plugin.OriginsFromArgsOrServerBlock(zones, s.keys)
	for entry := range strings.Lines(entries.String()) {
		s.addEntry(entry, zones)
	}
	for _, zone := range zones {
		if (err == nil || len(l.args) == 0) && !l.has("fallthrough") {
			s.data.AddZone(zone)
		}
	}
}

// addEntry adds a line "ADDRESS NAME..." of a hosts file.
func (s *zoneSource) addEntry(entry string, zones []string) {
	entry, _, _ = strings.Cut(entry, "#")
	words := strings.Fields(entry)
	if len(words) < 2 {
		return
	}
	ip := net.ParseIP(words[0])
	if ip == nil {
		return
	}
	for _, name := range words[1:] {
		name = names.Spell(name)
		hdr := dns.RR_Header{Name: name, Rrtype: dns.TypeA}
		var rr dns.RR = &dns.A{Hdr: hdr, A: ip}
		if ip.To4() == nil {
			rr = &dns.AAAA{Hdr: hdr, AAAA: ip}
		}
		if zone := plugin.Zones(zones).Matches(name); zone != "" {
			s.data.Add(zone, rr)
		}
	}
}

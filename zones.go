// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/text"
)

// parseZones returns the zones of a stanza: those named or, without any, those of the block. A zone
// above the block's zones means all of them.
func parseZones(args, blockKeys []string) (zones []string, err error) {
	// A zone on two ports is named twice.
	block := distinct(plugin.OriginsFromArgsOrServerBlock(nil, blockKeys))
	if len(args) == 0 {
		return block, nil
	}
	for _, arg := range args {
		hosts, err := parseZone(arg, block)
		if err != nil {
			return nil, err
		}
		for _, host := range hosts {
			within, err := zonesWithin(host, block)
			if err != nil {
				return nil, err
			}
			for _, zone := range within {
				if slices.Contains(zones, zone) {
					return nil, fmt.Errorf("zone %q is named twice: want it once", zone)
				}
				zones = append(zones, zone)
			}
		}
	}
	return zones, nil
}

// parseZone reads a domain name, or a CIDR for the reverse zones of its addresses.
func parseZone(arg string, block []string) (zones []string, err error) {
	if err := misreadZone(arg, block); err != nil {
		return nil, err
	}
	hosts, port, err := plugin.SplitHostPort(arg)
	if err != nil || port != "" || arg == "" || strings.Contains(arg, ",") {
		return nil, fmt.Errorf("bad zone %q: want a domain name or a CIDR, without a port", arg)
	}
	for _, host := range hosts {
		zones = append(zones, names.Spell(plugin.Name(host).Normalize()))
	}
	return zones, nil
}

// zonesWithin returns the part of a zone that lies in a server block: the zone itself, or the
// block's zones below it.
func zonesWithin(zone string, block []string) ([]string, error) {
	if below, ok := belowWildcard(zone); ok {
		return nil, fmt.Errorf("zone %q has a wildcard, which no question matches: want %q, which holds all names below it", zone, below)
	}
	if plugin.Zones(block).Matches(zone) != "" {
		return []string{zone}, nil
	}
	within := slices.DeleteFunc(slices.Clone(block), func(b string) bool { return !names.InZone(b, zone) })
	if len(within) == 0 {
		return nil, fmt.Errorf("zone %q lies outside this server block: want a name at, under or above %s", zone, text.List(block))
	}
	return within, nil
}

// belowWildcard returns what follows the last label "*" of a name.
func belowWildcard(name string) (rest string, ok bool) {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if below, found := strings.CutPrefix(name[off:], "*."); found {
			rest, ok = dns.Fqdn(below), true
		}
	}
	return rest, ok
}

// misreadZone returns an error if a word was not meant as a zone, as in "balance weighted FILE
// ...", which users of other load balancers write. A zone of that name can be written with a dot at
// its end.
func misreadZone(word string, block []string) error {
	if strings.Contains(word, ".") || slices.Contains(block, dns.CanonicalName(word)) {
		return nil
	}
	switch {
	case policyNamed(word) != nil:
		return fmt.Errorf(`found the policy %q among zones: want a line "policy %s" in the block`, word, word)
	case optionNamed(options, word) != nil:
		return fmt.Errorf("found the option %q among zones: want it on a line of its own in the block", word)
	case text.Nearest(word, policyNames(false)) != "" || slices.Contains(foreignPolicies, strings.ToLower(word)):
		return fmt.Errorf(`%w (a zone of that name is written "%s.")`, text.Unknown("policy", word, policyNames(false)), word)
	}
	return nil
}

// foreignPolicies are what other load balancers call theirs.
var foreignPolicies = []string{
	"chash", "consistent_hash", "first", "hash", "ip_hash", "iphash", "least_conn", "least_connections", "least_request",
	"leastconn", "leastload", "leasttime", "maglev", "ring_hash", "rr", "shuffle", "source", "static-rr", "uniform", "wrr",
}

// rulesOf returns the rules of those stanzas that have zones left, with the warnings about all.
func rulesOf(stanzas []*stanza) (rules []*rule) {
	var warnings []string
	for _, s := range stanzas {
		warnings = append(warnings, s.rule.warnings...)
		s.rule.warnings = nil
		if len(s.rule.zones) > 0 {
			rules = append(rules, s.rule)
		}
	}
	if len(rules) > 0 {
		rules[0].warnings = warnings
	}
	return rules
}

// shareZones decides which of two stanzas keeps the zones that both have: the earlier one if they
// are the same, and the other one if one is bare. It returns an error if they differ.
func (s *stanza) shareZones(earlier *stanza) error {
	for _, zone := range slices.Clone(s.rule.zones) {
		if !slices.Contains(earlier.rule.zones, zone) {
			continue
		}
		drop, keep := s, earlier
		switch {
		case s.text == earlier.text || s.text == "":
		case earlier.text == "":
			drop, keep = earlier, s
		default:
			return &lineError{s.heading, fmt.Errorf("zone %q has another stanza at %s: want one for each zone", zone, earlier.heading)}
		}
		drop.rule.zones = slices.DeleteFunc(drop.rule.zones, func(z string) bool { return z == zone })
		s.warn(drop.heading, "no effect on zone %q, because the stanza at %s counts for it: remove this one", zone, keep.heading)
	}
	return nil
}

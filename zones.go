// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"

	"github.com/coredns/coredns/plugin"

	"github.com/seed-f1518d44/balance/internal/names"
)

// parseZones returns the zones of a stanza: those named or, without any, those of the block. They
// must lie in the block, for no other question comes here.
func parseZones(args, blockKeys []string) ([]string, error) {
	block := distinct(plugin.OriginsFromArgsOrServerBlock(nil, blockKeys)) // a zone on two ports is named twice
	if len(args) == 0 {
		return block, nil
	}
	var zones []string
	for _, arg := range args {
		if hint := misreadZone(arg); hint != "" {
			return nil, fmt.Errorf("%q stands where a zone may stand, but is %s", arg, hint)
		}
		hosts, port, err := plugin.SplitHostPort(arg)
		if err != nil || port != "" || arg == "" {
			return nil, fmt.Errorf("bad zone %q: want a domain name or a CIDR, without a port", arg)
		}
		for _, host := range hosts {
			zone := names.Spell(plugin.Name(host).Normalize())
			if plugin.Zones(block).Matches(zone) == "" {
				return nil, fmt.Errorf("zone %q lies outside this server block: want a name at or under %s", zone, list(block))
			}
			if slices.Contains(zones, zone) {
				return nil, fmt.Errorf("zone %q is named twice: want it once", zone)
			}
			zones = append(zones, zone)
		}
	}
	return zones, nil
}

// misreadZone says what to write instead of a word that was meant as something else than a zone, as
// those are who write "balance" in front of what loadbalance takes.
func misreadZone(word string) string {
	if policyNamed(word) != nil {
		return fmt.Sprintf(`a policy: want a line "policy %s" in the block`, word)
	}
	if optionNamed(options, word) != nil {
		return "an option: want it on a line of its own in the block"
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/text"
	"github.com/seed-f1518d44/balance/internal/zonedata"
)

// comparison is a stanza beside what the zones at hand show of its members. Not safe for concurrent
// use.
type comparison struct {
	rule    *rule
	zones   map[string]*zoneRule // of the server block
	data    *zonedata.Data       // of the server block
	others  []*zonedata.Data     // of all server blocks, for the targets of aliases
	members map[string][]netip.Addr
	addrs   []netip.Addr // of all members
	maxTTL  uint32       // of their records
	whole   bool         // no member can be elsewhere
	now     time.Time
}

// hasAddresses reports whether lines of the rule or its files are for addresses of members.
func (c *comparison) hasAddresses() bool {
	return c.rule.file != nil || c.rule.overrides != nil || slices.ContainsFunc(c.rule.source, func(l line) bool {
		return slices.Contains([]string{"weight", "tier", "prefer", "locality", "health_check"}, l.name)
	})
}

// look finds the members of the rule's names, and marks the lines of files that apply to them.
func (c *comparison) look() {
	c.members, c.whole = map[string][]netip.Addr{}, true
	for _, zone := range c.rule.zones {
		c.whole = c.whole && c.data.Holds(zone)
	}
	all := c.data.Names()
	if c.rule.file != nil { // wildcards in a zone answer for more names than they have
		lines, _ := c.rule.file.weights.Load().Unused(math.MaxInt)
		for _, l := range lines {
			all = append(all, l.Name)
		}
	}
	for _, l := range c.rule.overridesInForce() {
		all = append(all, l.Name())
	}
	for _, name := range all {
		name = names.Spell(name)
		if z, ok := longestZone(c.zones, name); ok && z.rule == c.rule && c.data.Holds(name) {
			c.add(name)
		}
	}
	c.addServices()
}

// add adds the members of a name.
func (c *comparison) add(name string) {
	owner, records, known := c.find(name)
	c.whole = c.whole && known
	if c.members[owner] != nil {
		return
	}
	for _, r := range records {
		c.members[owner] = append(c.members[owner], r.Addr)
		c.addrs = append(c.addrs, r.Addr)
		c.maxTTL = max(c.maxTTL, r.TTL)
		c.rule.weightOf(owner, r.Addr)
		c.rule.overridesInForce().Of(owner, r.Addr, c.now)
	}
	if len(records) > 0 && c.rule.failback.Mode == failback.Manual {
		c.rule.overridesInForce().Failback(owner, c.now)
	}
}

// addServices marks the lines of the weight file that apply to SRV records of the rule: they have
// the owner of the records, and an address of the target.
func (c *comparison) addServices() {
	for _, owner := range c.data.Services() {
		if z, ok := longestZone(c.zones, owner); !ok || z.rule != c.rule {
			continue
		}
		for _, target := range c.data.Targets(owner) {
			_, records, _ := c.find(target)
			for _, r := range records {
				c.rule.weightOf(owner, r.Addr)
			}
		}
	}
}

// leadsElsewhere reports whether SRV records of a name lead to names that are not at hand.
func (c *comparison) leadsElsewhere(name string) bool {
	return slices.ContainsFunc(c.data.Targets(name), func(target string) bool {
		_, _, known := c.find(target)
		return !known
	})
}

// hasService reports whether a name, which is no alias, has SRV records in any server block.
func (c *comparison) hasService(name string) bool {
	return slices.ContainsFunc(c.others, func(d *zonedata.Data) bool { return len(d.Targets(name)) > 0 })
}

// find finds a name in the server block's zones, and the target of an alias in those of others too.
func (c *comparison) find(name string) (owner string, records []zonedata.Record, known bool) {
	owner, records, known = c.data.Find(name)
	for _, other := range c.others {
		if !known && other.Holds(owner) {
			owner, records, known = other.Find(owner)
		}
	}
	return owner, records, known
}

// misses returns the CIDRs that hold no member.
func (c *comparison) misses(prefixes []netip.Prefix) (missing []string) {
	for _, p := range prefixes {
		if !slices.ContainsFunc(c.addrs, p.Masked().Contains) {
			missing = append(missing, cidr.Word(p))
		}
	}
	return missing
}

// sets returns the addresses of an owner, by family.
func (c *comparison) sets(owner string) (sets [][]netip.Addr) {
	for _, is4 := range []bool{true, false} {
		other := func(addr netip.Addr) bool { return addr.Is4() != is4 }
		if set := slices.DeleteFunc(slices.Clone(c.members[owner]), other); len(set) > 0 {
			sets = append(sets, set)
		}
	}
	return sets
}

// base returns the name that a wildcard's names lie under; other names as they are.
func base(name string) string { return names.Spell(strings.TrimPrefix(name, "*.")) }

// concerns reports whether the rule is that of a name, or may be that of names that a wildcard
// stands for.
func (c *comparison) concerns(name string) bool {
	if !strings.HasPrefix(name, "*.") {
		z, ok := longestZone(c.zones, base(name))
		return ok && z.rule == c.rule
	}
	return slices.ContainsFunc(c.rule.zones, func(zone string) bool {
		return names.InZone(base(name), zone) || names.InZone(zone, base(name))
	})
}

// maxGuessed bounds how many names are searched for the one that was meant.
const maxGuessed = 10_000

// meant says which name may have been meant.
func (c *comparison) meant(name string) string {
	all := c.data.Names()
	if len(all) == 0 || len(all) > maxGuessed || strings.HasPrefix(name, "*.") {
		return ""
	}
	if nearest := text.Nearest(name, all); nearest != "" && nearest != name {
		return fmt.Sprintf("; did you mean %q?", nearest)
	}
	return ""
}

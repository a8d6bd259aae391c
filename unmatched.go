// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns/caddy/caddyfile"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/text"
	"github.com/seed-f1518d44/balance/internal/weights"
	"github.com/seed-f1518d44/balance/internal/zonedata"
)

// A dry run finds the lines that match no member of the zones at hand.

// compare compares rules with the zones of their server blocks.
func (d *dryRun) compare(blocks []caddyfile.ServerBlock) {
	if len(d.blocks) == 0 {
		return
	}
	var data []*zonedata.Data
	for i := range blocks {
		data = append(data, zonesOf(d.blocks[0].controller, i, blocks[i]))
	}
	var all []*comparison
	for _, b := range d.blocks {
		for _, r := range b.rules {
			c := &comparison{rule: r, zones: b.byZone, data: data[b.controller.ServerBlockIndex], others: data, now: filewatch.Clock()}
			c.look()
			all = append(all, c)
		}
	}
	for _, c := range all {
		switch {
		case c.whole:
			d.compareStanza(c)
		case c.hasAddresses():
			d.found.Notef(c.rule.heading.String(), "addresses are not compared with members, because members of %s may come from elsewhere than zone files", text.List(c.rule.zones))
		}
		d.warnOfSets(c)
	}
	d.compareWeights(all)
	d.compareOverrides(all)
}

// compareStanza warns of lines of a stanza that match no member.
func (d *dryRun) compareStanza(c *comparison) {
	if len(c.addrs) == 0 {
		d.found.Warnf(c.rule.heading.String(), "no name in %s has an address in the zones of this server block", text.List(c.rule.zones))
		return
	}
	places := map[string][]netip.Prefix{}
	for i := range c.rule.source {
		l := &c.rule.source[i]
		switch l.name { // the arguments were read without an error before
		case "weight":
			w, _ := parseWeight(l.args)
			d.warnOfMissing(l, c.misses([]netip.Prefix{w.Targets}))
			d.warnOfHiddenWeight(l, c, w)
		case "tier":
			targets, _ := parsePrefixes(l.args)
			d.warnOfMissing(l, c.misses(targets))
		case "prefer":
			p, _ := parsePrefer(l.args)
			d.warnOfMissing(l, c.misses(p.targets))
		case "locality":
			o, _ := parseLocality(l.args)
			places[o.name] = append(places[o.name], o.ranges...)
		case "health_check":
			d.compareCheck(c, l)
		}
	}
	d.warnOfPlaces(c, places)
	d.warnOfUnchecked(c)
	d.warnOfLongTTL(c)
}

// warnOfLongTTL warns of TTLs of the zones that hide a slow start from clients. If the rule limits
// TTLs, its own warning says so.
func (d *dryRun) warnOfLongTTL(c *comparison) {
	if r := c.rule; !r.ttl.limited && r.slowStart > 0 && r.slowStart < steadyTTLs*time.Duration(c.maxTTL)*time.Second {
		d.found.Warnf(r.options["slow_start"].String(), "slow_start: %s is shorter than %d TTLs of the zones, up to %d s, so clients that cache answers see few of its steps: want a longer one or a lower ttl",
			r.slowStart, steadyTTLs, c.maxTTL)
	}
}

// warnOfMissing warns of addresses of a line that no member has.
func (d *dryRun) warnOfMissing(l *line, missing []string) {
	if len(missing) > 0 {
		d.found.Warnf(l.at.String(), "%s: no member has an address in %s", l.name, text.List(missing))
	}
}

// warnOfHiddenWeight warns of an inline weight that more precise ones keep from every member.
func (d *dryRun) warnOfHiddenWeight(l *line, c *comparison, w weights.Line) {
	held, lines := false, c.rule.weights.Lines()
	for _, addr := range c.addrs {
		first := slices.IndexFunc(lines, func(l weights.Line) bool { return l.Targets.Contains(addr) })
		if first >= 0 && lines[first].Targets == w.Targets {
			return
		}
		held = held || w.Targets.Contains(addr)
	}
	if held {
		d.found.Warnf(l.at.String(), "weight: no effect, because every member in %s has a weight that is more precise", cidr.Word(w.Targets))
	}
}

// compareCheck warns of lines of a health_check that match no member, or no name.
func (d *dryRun) compareCheck(c *comparison, check *line) {
	for i := range check.block {
		switch l := &check.block[i]; l.name {
		case "allow":
			allow, _ := parsePrefixes(l.args)
			d.warnOfMissing(l, c.misses(allow))
		case "watch":
			watched, _ := parseNames(l.args)
			for _, name := range watched {
				if owner, records, known := c.find(name); known && len(records) == 0 && !c.hasService(owner) {
					d.found.Warnf(l.at.String(), "watch: %s has no address%s", name, c.meant(name))
				}
			}
		}
	}
}

// warnOfPlaces warns of localities without members.
func (d *dryRun) warnOfPlaces(c *comparison, places map[string][]netip.Prefix) {
	for i := range c.rule.source {
		l := &c.rule.source[i]
		if l.name != "locality" || l.args[0] == "kubernetes" {
			continue
		}
		if ranges := places[l.args[0]]; ranges != nil && len(c.misses(ranges)) == len(ranges) {
			d.found.Warnf(l.at.String(), "locality: %s has no member, so its clients get the order of the policy", l.args[0])
		}
		delete(places, l.args[0])
	}
}

// warnOfUnchecked warns of members that no check may probe. A name with one address has no other to
// answer in its place, so that one only counts if the rule answers something else instead.
func (d *dryRun) warnOfUnchecked(c *comparison) {
	if !c.rule.checked() {
		return
	}
	names := map[netip.Addr]string{}
	for _, owner := range slices.Sorted(maps.Keys(c.members)) {
		for _, set := range c.sets(owner) {
			for _, addr := range set {
				allowed := func(k *check) bool { return health.MayProbe(k.allow, addr) }
				if names[addr] == "" && (len(set) > 1 || c.rule.allDown.mode != answerOpen) && !slices.ContainsFunc(c.rule.checks, allowed) {
					names[addr] = owner
				}
			}
		}
	}
	var unchecked []string
	for _, addr := range slices.SortedFunc(maps.Keys(names), netip.Addr.Compare) {
		unchecked = append(unchecked, fmt.Sprintf("%s of %s", addr, names[addr]))
	}
	if len(unchecked) > 0 {
		d.found.Warnf(c.rule.options["health_check"].String(), "health_check: no allow holds %s, answered unchecked: %s",
			text.Count(len(unchecked), "member"), text.Few(unchecked))
	}
}

// warnOfSets warns of RRsets whose members are all standby, or all overridden down.
func (d *dryRun) warnOfSets(c *comparison) {
	overridden := c.rule.overridesInForce()
	for _, owner := range slices.Sorted(maps.Keys(c.members)) {
		for _, set := range c.sets(owner) {
			weighs := func(addr netip.Addr) bool { weight, _ := c.rule.weightOf(owner, addr); return weight > 0 }
			if !slices.ContainsFunc(set, weighs) {
				d.found.Warnf(c.rule.weightAt(owner, set[0]), "all members of %s have the weight 0, so they share equally", owner)
			}
			serves := func(addr netip.Addr) bool { return overridden.Of(owner, addr, c.now) != overrides.Down }
			if !slices.ContainsFunc(set, serves) {
				at := fmt.Sprintf("%s:%d", c.rule.overrides.Name(), overridden.Find(owner, set[0], c.now).Number)
				d.found.Warnf(at, "all members of %s are overridden down", owner)
			}
		}
	}
}

// weightAt returns where the weight of an address stands.
func (r *rule) weightAt(owner string, addr netip.Addr) string {
	if _, inline := r.weights.Of(addr); inline {
		return r.options["weight"].String()
	}
	return fmt.Sprintf("%s:%d", r.file.Name(), r.file.weights.Load().Peek(owner, addr).Number)
}

// compareWeights warns of lines of weight files that apply to no member of any rule that reads the
// file.
func (d *dryRun) compareWeights(all []*comparison) {
	byFile := map[string][]*comparison{}
	for _, c := range all {
		if c.rule.file != nil {
			byFile[c.rule.file.Path] = append(byFile[c.rule.file.Path], c)
		}
	}
	for _, readers := range byFile {
		var unused []unusedLine
		by := map[uint32]int{} // how many rules, by line
		for _, c := range readers {
			lines, _ := c.rule.file.weights.Load().Unused(math.MaxInt)
			for _, l := range lines {
				if c.leadsElsewhere(l.Name) {
					continue
				}
				if by[l.Number]++; by[l.Number] == len(readers) {
					unused = append(unused, unusedLine{int(l.Number), l.Name, l.Targets})
				}
			}
		}
		d.warnOfUnused(readers[0].rule.file.Name(), readers, unused)
	}
}

// compareOverrides warns of lines of overrides files that have expired, or apply to no member of
// any rule that reads the file.
func (d *dryRun) compareOverrides(all []*comparison) {
	byFile := map[string][]*comparison{}
	for _, c := range all {
		if c.rule.overrides != nil {
			byFile[c.rule.overrides.Path] = append(byFile[c.rule.overrides.Path], c)
		}
	}
	for _, readers := range byFile {
		name, all := readers[0].rule.overrides.Name(), *readers[0].rule.overrides.set.Load()
		for _, l := range all.Ended(readers[0].now) {
			d.found.Warnf(fmt.Sprintf("%s:%d", name, l.Number), "no effect, because it ended at %s", l.Until.Format(time.RFC3339))
		}
		var unused []unusedLine
		by := map[int]int{} // how many rules, by line
		for _, c := range readers {
			for _, l := range c.rule.overridesInForce().Unused(c.now) {
				if by[l.Number]++; by[l.Number] == len(readers) {
					unused = append(unused, unusedLine{l.Number, l.Name(), l.Targets()})
				}
			}
		}
		d.warnOfUnused(name, readers, unused)
	}
}

// maxUnused bounds how many lines of a file are reported because they match nothing.
const maxUnused = 20

// warnOfUnused warns of lines of a file that apply to no member, unless a member that they can be
// for is not at hand. Of lines with the same fault only the first is reported.
func (d *dryRun) warnOfUnused(file string, readers []*comparison, lines []unusedLine) {
	seen := map[string]bool{}
	more := 0
	for _, l := range lines {
		why, guess := whyUnused(readers, l.name, l.targets)
		switch {
		case why == "" || seen[why]:
		case len(seen) == maxUnused:
			more++
		default:
			seen[why] = true
			if guess != nil {
				why += guess.meant(l.name)
			}
			d.found.Warnf(fmt.Sprintf("%s:%d", file, l.number), "%s", why)
		}
	}
	if more > 0 {
		d.found.Warnf(file, "%s without effect", text.Count(more, "more line"))
	}
}

// unusedLine is a line of a file for the addresses of a name or wildcard, "" for any name.
type unusedLine struct {
	number  int
	name    string
	targets netip.Prefix
}

// whyUnused says why a line applies to no member of the rules that read its file, "" if it may
// apply. If its name is not there, the rule that may know which was meant is returned too.
func whyUnused(readers []*comparison, name string, targets netip.Prefix) (why string, guess *comparison) {
	readers = slices.Clone(readers)
	if name != "" {
		readers = slices.DeleteFunc(readers, func(c *comparison) bool { return !c.concerns(name) })
	}
	if len(readers) == 0 {
		return name + " is in no zone of a rule that reads this file: its lines have an effect only if an alias leads there", nil
	}
	if manual := func(c *comparison) bool { return c.rule.failback.Mode == failback.Manual }; !targets.IsValid() && !slices.ContainsFunc(readers, manual) {
		return fmt.Sprintf("no effect, because the rule of %s does not have failback manual", name), nil
	}
	for _, c := range readers {
		if !c.whole && (name == "" || !c.data.Holds(base(name))) {
			return "", nil
		}
	}
	return readers[0].whyUnused(name, targets)
}

// whyUnused says why a line is for no member, and returns the rule if its name is not there.
func (c *comparison) whyUnused(name string, targets netip.Prefix) (why string, guess *comparison) {
	var addrs []netip.Addr
	switch {
	case name == "":
		addrs = c.addrs
	case strings.HasPrefix(name, "*."):
		for owner, members := range c.members {
			if names.InZone(owner, base(name)) && owner != base(name) {
				addrs = append(addrs, members...)
			}
		}
	default:
		owner, _, _ := c.find(name)
		if owner != base(name) {
			return fmt.Sprintf("no effect, because %s is an alias: write the name that has the addresses, %s", name, owner), nil
		}
		addrs = c.members[owner]
	}
	switch {
	case slices.ContainsFunc(addrs, targets.Contains):
		return fmt.Sprintf("no effect, because other lines come first for every member in %s", cidr.Word(targets)), nil
	case name == "":
		return fmt.Sprintf("no effect, because no member has an address in %s", cidr.Word(targets)), nil
	case !targets.IsValid(), len(addrs) == 0 && !c.hasService(base(name)):
		return fmt.Sprintf("no effect, because %s has no address", name), c
	}
	return fmt.Sprintf("no effect, because %s has no address in %s", name, cidr.Word(targets)), nil
}

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

// view is what the zones at hand show to a stanza.
type view struct {
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

// compare compares rules with the zones of their server blocks.
func (d *dryRun) compare(blocks []caddyfile.ServerBlock) {
	if len(d.blocks) == 0 {
		return
	}
	var data []*zonedata.Data
	for i := range blocks {
		data = append(data, d.zonesOf(i, blocks[i]))
	}
	var views []*view
	for _, b := range d.blocks {
		for _, r := range b.rules {
			v := &view{rule: r, zones: b.byZone, data: data[b.controller.ServerBlockIndex], others: data, now: filewatch.Clock()}
			v.look()
			views = append(views, v)
		}
	}
	for _, v := range views {
		switch {
		case v.whole:
			d.compareStanza(v)
		case v.hasAddresses():
			d.found.Notef(v.rule.heading.String(), "addresses are not compared with members, because members of %s may come from elsewhere than zone files", text.List(v.rule.zones))
		}
		d.warnOfSets(v)
	}
	d.compareWeights(views)
	d.compareOverrides(views)
}

// hasAddresses reports whether lines of the rule or its files are for addresses of members.
func (v *view) hasAddresses() bool {
	return v.rule.file != nil || v.rule.overrides != nil || slices.ContainsFunc(v.rule.source, func(l line) bool {
		return slices.Contains([]string{"weight", "tier", "prefer", "locality", "health_check"}, l.name)
	})
}

// look finds the members of the rule's names, and marks the lines of files that apply to them.
func (v *view) look() {
	v.members, v.whole = map[string][]netip.Addr{}, true
	for _, zone := range v.rule.zones {
		v.whole = v.whole && v.data.Holds(zone)
	}
	all := v.data.Names()
	if v.rule.file != nil { // wildcards in a zone answer for more names than they have
		lines, _ := v.rule.file.weights.Load().Unused(math.MaxInt)
		for _, l := range lines {
			all = append(all, l.Name)
		}
	}
	for _, l := range v.rule.overridesInForce() {
		all = append(all, l.Name())
	}
	for _, name := range all {
		name = names.Spell(name)
		if z, ok := longestZone(v.zones, name); ok && z.rule == v.rule && v.data.Holds(name) {
			v.add(name)
		}
	}
}

// add adds the members of a name.
func (v *view) add(name string) {
	owner, records, known := v.find(name)
	v.whole = v.whole && known
	if v.members[owner] != nil {
		return
	}
	for _, r := range records {
		v.members[owner] = append(v.members[owner], r.Addr)
		v.addrs = append(v.addrs, r.Addr)
		v.maxTTL = max(v.maxTTL, r.TTL)
		v.rule.weightOf(owner, r.Addr)
		v.rule.overridesInForce().Of(owner, r.Addr, v.now)
	}
	if len(records) > 0 && v.rule.failback.Mode == failback.Manual {
		v.rule.overridesInForce().Failback(owner, v.now)
	}
}

// find finds a name in the server block's zones, and the target of an alias in those of others too.
func (v *view) find(name string) (owner string, records []zonedata.Record, known bool) {
	owner, records, known = v.data.Find(name)
	for _, other := range v.others {
		if !known && other.Holds(owner) {
			owner, records, known = other.Find(owner)
		}
	}
	return owner, records, known
}

// misses returns the CIDRs that hold no member.
func (v *view) misses(prefixes []netip.Prefix) (missing []string) {
	for _, p := range prefixes {
		if !slices.ContainsFunc(v.addrs, p.Masked().Contains) {
			missing = append(missing, cidr.Word(p))
		}
	}
	return missing
}

// compareStanza warns of lines of a stanza that match no member.
func (d *dryRun) compareStanza(v *view) {
	if len(v.addrs) == 0 {
		d.found.Warnf(v.rule.heading.String(), "no name in %s has an address in the zones of this server block", text.List(v.rule.zones))
		return
	}
	places := map[string][]netip.Prefix{}
	for i := range v.rule.source {
		l := &v.rule.source[i]
		switch l.name { // the arguments were read without an error before
		case "weight":
			w, _ := parseWeight(l.args)
			d.warnOfMissing(l, v.misses([]netip.Prefix{w.Targets}))
			d.warnOfHiddenWeight(l, v, w)
		case "tier":
			targets, _ := parsePrefixes(l.args)
			d.warnOfMissing(l, v.misses(targets))
		case "prefer":
			p, _ := parsePrefer(l.args)
			d.warnOfMissing(l, v.misses(p.targets))
		case "locality":
			o, _ := parseLocality(l.args)
			places[o.name] = append(places[o.name], o.ranges...)
		case "health_check":
			d.compareCheck(v, l)
		}
	}
	d.warnOfPlaces(v, places)
	d.warnOfUnchecked(v)
	d.warnOfLongTTL(v)
}

// warnOfLongTTL warns of TTLs of the zones that hide a slow start from clients. If the rule limits TTLs,
// its own warning says so.
func (d *dryRun) warnOfLongTTL(v *view) {
	if r := v.rule; !r.ttl.limited && r.slowStart > 0 && r.slowStart < steadyTTLs*time.Duration(v.maxTTL)*time.Second {
		d.found.Warnf(r.options["slow_start"].String(), "slow_start: %s is shorter than %d TTLs of the zones, up to %d s, so clients that cache answers see few of its steps: want a longer one or a lower ttl",
			r.slowStart, steadyTTLs, v.maxTTL)
	}
}

// warnOfMissing warns of addresses of a line that no member has.
func (d *dryRun) warnOfMissing(l *line, missing []string) {
	if len(missing) > 0 {
		d.found.Warnf(l.at.String(), "%s: no member has an address in %s", l.name, text.List(missing))
	}
}

// warnOfHiddenWeight warns of an inline weight that more precise ones keep from every member.
func (d *dryRun) warnOfHiddenWeight(l *line, v *view, w weights.Line) {
	held, lines := false, v.rule.weights.Lines()
	for _, addr := range v.addrs {
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
func (d *dryRun) compareCheck(v *view, check *line) {
	for i := range check.block {
		switch l := &check.block[i]; l.name {
		case "allow":
			allow, _ := parsePrefixes(l.args)
			d.warnOfMissing(l, v.misses(allow))
		case "watch":
			watched, _ := parseNames(l.args)
			for _, name := range watched {
				if _, records, known := v.find(name); known && len(records) == 0 {
					d.found.Warnf(l.at.String(), "watch: %s has no address%s", name, v.meant(name))
				}
			}
		}
	}
}

// warnOfPlaces warns of localities without members.
func (d *dryRun) warnOfPlaces(v *view, places map[string][]netip.Prefix) {
	for i := range v.rule.source {
		l := &v.rule.source[i]
		if l.name != "locality" || l.args[0] == "kubernetes" {
			continue
		}
		if ranges := places[l.args[0]]; ranges != nil && len(v.misses(ranges)) == len(ranges) {
			d.found.Warnf(l.at.String(), "locality: %s has no member, so its clients get the order of the policy", l.args[0])
		}
		delete(places, l.args[0])
	}
}

// warnOfUnchecked warns of members that no check may probe. A name with one address has no other to
// answer in its place, so that one only counts if the rule answers something else instead.
func (d *dryRun) warnOfUnchecked(v *view) {
	if !v.rule.checked() {
		return
	}
	names := map[netip.Addr]string{}
	for _, owner := range slices.Sorted(maps.Keys(v.members)) {
		for _, set := range v.sets(owner) {
			for _, addr := range set {
				allowed := func(c *check) bool { return health.MayProbe(c.allow, addr) }
				if names[addr] == "" && (len(set) > 1 || v.rule.allDown.mode != answerOpen) && !slices.ContainsFunc(v.rule.checks, allowed) {
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
		d.found.Warnf(v.rule.options["health_check"].String(), "health_check: no allow holds %s, answered unchecked: %s",
			text.Count(len(unchecked), "member"), text.Few(unchecked))
	}
}

// warnOfSets warns of RRsets whose members are all standby, or all overridden down.
func (d *dryRun) warnOfSets(v *view) {
	overridden := v.rule.overridesInForce()
	for _, owner := range slices.Sorted(maps.Keys(v.members)) {
		for _, set := range v.sets(owner) {
			weighs := func(addr netip.Addr) bool { weight, _ := v.rule.weightOf(owner, addr); return weight > 0 }
			if !slices.ContainsFunc(set, weighs) {
				d.found.Warnf(v.rule.weightAt(owner, set[0]), "all members of %s have the weight 0, so they share equally", owner)
			}
			serves := func(addr netip.Addr) bool { return overridden.Of(owner, addr, v.now) != overrides.Down }
			if !slices.ContainsFunc(set, serves) {
				at := fmt.Sprintf("%s:%d", v.rule.overrides.Name(), overridden.Find(owner, set[0], v.now).Number)
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

// sets returns the addresses of an owner, by family.
func (v *view) sets(owner string) (sets [][]netip.Addr) {
	for _, is4 := range []bool{true, false} {
		other := func(addr netip.Addr) bool { return addr.Is4() != is4 }
		if set := slices.DeleteFunc(slices.Clone(v.members[owner]), other); len(set) > 0 {
			sets = append(sets, set)
		}
	}
	return sets
}

// compareWeights warns of lines of weight files that apply to no member of any rule that reads the file.
func (d *dryRun) compareWeights(views []*view) {
	byFile := map[string][]*view{}
	for _, v := range views {
		if v.rule.file != nil {
			byFile[v.rule.file.Path] = append(byFile[v.rule.file.Path], v)
		}
	}
	for _, readers := range byFile {
		var unused []unusedLine
		by := map[uint32]int{} // how many rules, by line
		for _, v := range readers {
			lines, _ := v.rule.file.weights.Load().Unused(math.MaxInt)
			for _, l := range lines {
				if by[l.Number]++; by[l.Number] == len(readers) {
					unused = append(unused, unusedLine{int(l.Number), l.Name, l.Targets})
				}
			}
		}
		d.warnOfUnused(readers[0].rule.file.Name(), readers, unused)
	}
}

// compareOverrides warns of lines of overrides files that have expired, or apply to no member of any
// rule that reads the file.
func (d *dryRun) compareOverrides(views []*view) {
	byFile := map[string][]*view{}
	for _, v := range views {
		if v.rule.overrides != nil {
			byFile[v.rule.overrides.Path] = append(byFile[v.rule.overrides.Path], v)
		}
	}
	for _, readers := range byFile {
		name, all := readers[0].rule.overrides.Name(), *readers[0].rule.overrides.set.Load()
		for _, l := range all.Ended(readers[0].now) {
			d.found.Warnf(fmt.Sprintf("%s:%d", name, l.Number), "no effect, because it ended at %s", l.Until.Format(time.RFC3339))
		}
		var unused []unusedLine
		by := map[int]int{} // how many rules, by line
		for _, v := range readers {
			for _, l := range v.rule.overridesInForce().Unused(v.now) {
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

// warnOfUnused warns of lines of a file that apply to no member, unless a member that they can be for is
// not at hand. Of lines with the same fault only the first is reported.
func (d *dryRun) warnOfUnused(file string, readers []*view, lines []unusedLine) {
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

// whyUnused says why a line applies to no member of the rules that read its file, "" if it may apply. If
// its name is not there, the view that may know which was meant is returned too.
func whyUnused(readers []*view, name string, targets netip.Prefix) (why string, guess *view) {
	readers = slices.Clone(readers)
	if name != "" {
		readers = slices.DeleteFunc(readers, func(v *view) bool { return !v.concerns(name) })
	}
	if len(readers) == 0 {
		return name + " is in no zone of a rule that reads this file: its lines have an effect only if an alias leads there", nil
	}
	if manual := func(v *view) bool { return v.rule.failback.Mode == failback.Manual }; !targets.IsValid() && !slices.ContainsFunc(readers, manual) {
		return fmt.Sprintf("no effect, because the rule of %s does not have failback manual", name), nil
	}
	for _, v := range readers {
		if !v.whole && (name == "" || !v.data.Holds(base(name))) {
			return "", nil
		}
	}
	return readers[0].whyUnused(name, targets)
}

// base returns the name that a wildcard's names lie under; other names as they are.
func base(name string) string { return names.Spell(strings.TrimPrefix(name, "*.")) }

// concerns reports whether the rule is that of a name, or may be that of names that a wildcard stands for.
func (v *view) concerns(name string) bool {
	if !strings.HasPrefix(name, "*.") {
		z, ok := longestZone(v.zones, base(name))
		return ok && z.rule == v.rule
	}
	return slices.ContainsFunc(v.rule.zones, func(zone string) bool {
		return names.InZone(base(name), zone) || names.InZone(zone, base(name))
	})
}

// whyUnused says why a line is for no member, and returns the view if its name is not there.
func (v *view) whyUnused(name string, targets netip.Prefix) (why string, guess *view) {
	var addrs []netip.Addr
	switch {
	case name == "":
		addrs = v.addrs
	case strings.HasPrefix(name, "*."):
		for owner, members := range v.members {
			if names.InZone(owner, base(name)) && owner != base(name) {
				addrs = append(addrs, members...)
			}
		}
	default:
		owner, _, _ := v.find(name)
		if owner != base(name) {
			return fmt.Sprintf("no effect, because %s is an alias: write the name that has the addresses, %s", name, owner), nil
		}
		addrs = v.members[owner]
	}
	switch {
	case slices.ContainsFunc(addrs, targets.Contains):
		return fmt.Sprintf("no effect, because other lines come first for every member in %s", cidr.Word(targets)), nil
	case name == "":
		return fmt.Sprintf("no effect, because no member has an address in %s", cidr.Word(targets)), nil
	case len(addrs) == 0 || !targets.IsValid():
		return fmt.Sprintf("no effect, because %s has no address", name), v
	}
	return fmt.Sprintf("no effect, because %s has no address in %s", name, cidr.Word(targets)), nil
}

// maxGuessed bounds how many names are searched for the one that was meant.
const maxGuessed = 10_000

// meant says which name may have been meant.
func (v *view) meant(name string) string {
	all := v.data.Names()
	if len(all) == 0 || len(all) > maxGuessed || strings.HasPrefix(name, "*.") {
		return ""
	}
	if nearest := text.Nearest(name, all); nearest != "" && nearest != name {
		return fmt.Sprintf("; did you mean %q?", nearest)
	}
	return ""
}

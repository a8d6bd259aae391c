// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// glueTargets has the addresses in the additional section, by the names that MX, SRV, HTTPS and
// SVCB records lead to.
type glueTargets struct {
	known map[string]glueSets // by name in lower case
	addrs []netip.Addr        // of all names
}

// glueSets are the A and the AAAA RRset of a name.
type glueSets [2]glueSet

// glueSet is an RRset of addresses in the additional section.
type glueSet struct {
	addrs []netip.Addr // none: there is no such RRset
	plan  *plan        // nil: the RRset is left alone
}

// reset forgets the last message.
func (t *glueTargets) reset() {
	if len(t.known) > 0 {
		clear(t.known)
	}
	t.addrs = t.addrs[:0]
}

// learn notes the addresses in a section, given its RRsets and their plans.
func (t *glueTargets) learn(rrs []dns.RR, sets []rrset, plans []*plan) {
	for i := range sets {
		if !sets[i].holdsAddresses() {
			continue
		}
		from := len(t.addrs)
		for _, slot := range sets[i].slots {
			t.addrs = append(t.addrs, memberOf(rrs[slot]).addr.Unmap())
		}
		name := strings.ToLower(sets[i].owner)
		both := t.known[name]
		both[family(sets[i].rrtype)] = glueSet{t.addrs[from:len(t.addrs):len(t.addrs)], plans[i]}
		t.known[name] = both
	}
}

// family returns the index of an RRset of addresses in glueSets.
func family(rrtype uint16) int {
	if rrtype == dns.TypeAAAA {
		return 1
	}
	return 0
}

// of returns the addresses of a name, if the message has any.
func (t *glueTargets) of(host string) (sets glueSets, ok bool) {
	if len(t.known) == 0 {
		return sets, false
	}
	sets, ok = t.known[strings.ToLower(host)]
	return sets, ok
}

// standingOfTarget returns what is known of an MX or SRV record, by the addresses of its target:
// those in the additional section or, if it has none, those that answers and watch have taught. It
// registers the addresses for probing, at the port of the record.
func (r *applied) standingOfTarget(owner string, prefer choice, m *member, b *buffers) standing {
	s := standing{weight: weights.Default}
	if prefer.line != noPreference {
		s.distance = r.distanceOf(m.host, prefer, b)
	}
	if !r.judges() && !r.question.policy.weighs {
		return s
	}
	target := r.question.appliedTo(m.host)
	if r.judges() {
		sum := r.sumUp(&target, m, b)
		s.verdict, s.override = sum.result()
		s.reuse, s.factors.Ramp = sum.past()
	}
	if m.isSRV() && r.question.policy.weighs {
		s.weight, s.behind = r.weightOfSRV(owner, m, target.addressesOf(m.host, b))
	}
	return s
}

// sumUp returns what is known of the addresses of an MX or SRV record's target, to which the rules
// target apply.
func (r *applied) sumUp(target *applied, m *member, b *buffers) (sum targetSum) {
	sets, ok := b.targets.of(m.host)
	if ok && !r.followsPorts() && !target.followsPorts() {
		for i := range sets {
			sum.addPlan(&sets[i])
		}
		return sum
	}
	host := names.Spell(m.host)
	for addr := range target.addressesOf(m.host, b) {
		at := netip.AddrPortFrom(addr, m.port)
		s := target.standingOf(host, at, b)
		if r.owner != nil && r.owner != target.owner {
			s = s.and(r.owner.judge(host, at, b))
		}
		sum.add(s)
	}
	return sum
}

// distanceOf returns the least distance of a target's addresses. A target counts as near until they
// are known: otherwise no client would be led to it, and nobody would ask for its addresses.
func (r *applied) distanceOf(host string, prefer choice, b *buffers) uint16 {
	least, known := uint16(math.MaxUint16), false
	for addr := range r.addressesFor(host, prefer, b) {
		least, known = min(least, r.question.distance(prefer, addr, r.question.localities.of(addr))), true
	}
	if !known {
		r.question.seeksTargets.Store(true)
		return 0
	}
	return least
}

// addressesFor returns the addresses of a target, and those that answers to clients of a choice
// have taught.
func (r *applied) addressesFor(host string, prefer choice, b *buffers) iter.Seq[netip.Addr] {
	target := r.question.appliedTo(host)
	return func(yield func(netip.Addr) bool) {
		for addr := range target.addressesOf(host, b) {
			if !yield(addr) {
				return
			}
		}
		if _, glued := b.targets.of(host); !glued {
			r.question.eachKnownTo(prefer, host, inAnswer, yield)
		}
	}
}

// followsPorts reports whether a check probes the ports that records name.
func (r *applied) followsPorts() bool {
	return r.question.followsPorts() || r.owner != nil && r.owner.followsPorts()
}

// weightOfSRV returns the weight of an SRV record: that of the first address of its target which
// has a weight line, else its own (RFC 2782). The own weight 0 puts it behind the others of its
// priority, because it should hardly ever be chosen.
func (r *applied) weightOfSRV(owner string, m *member, addrs iter.Seq[netip.Addr]) (weight uint16, behind bool) {
	for addr := range addrs {
		if weight, ok := r.question.weightOf(owner, addr); ok {
			return weight, false
		}
	}
	return max(m.load, 1), m.load == 0
}

// addressesOf returns the addresses of a target: those in the additional section or, if it has
// none, those that answers and watch have taught.
func (r *applied) addressesOf(host string, b *buffers) iter.Seq[netip.Addr] {
	sets, ok := b.targets.of(host)
	if !ok {
		return r.knownAddresses(host, inAnswer, inWatch)
	}
	return func(yield func(netip.Addr) bool) {
		for i := range sets {
			for _, addr := range sets[i].addrs {
				if !yield(addr) {
					return
				}
			}
		}
	}
}

// targetSum counts the addresses of a target by what is known of them.
type targetSum struct {
	up, unknown, drained, down, forced int

	// Of the first two: how many are damped, until when the first one is, how many ramp, and how far
	// the first one has come.
	damped, ramping int
	reuse           uint32
	ramp            inforce.Percent
}

func (t *targetSum) add(s standing) {
	switch {
	case s.verdict == health.Down:
		t.down++
		if s.override == overrides.Down {
			t.forced++
		}
	case s.override == overrides.Drain:
		t.drained++
	case s.verdict == health.Up:
		t.up++
		t.addPast(s)
	default:
		t.unknown++
		t.addPast(s)
	}
}

// addPast adds what follows from an address' past.
func (t *targetSum) addPast(s standing) {
	if s.reuse > 0 {
		if t.damped++; t.reuse == 0 || s.reuse < t.reuse {
			t.reuse = s.reuse
		}
	}
	if s.factors.Ramp > 0 {
		t.ramping++
		t.ramp = max(t.ramp, s.factors.Ramp)
	}
}

// past returns until when damping is to keep a record out that leads to the addresses, and how far
// its slow start has come: 0 for neither, if any address has nothing of that.
func (t *targetSum) past() (reuse uint32, ramp inforce.Percent) {
	if live := t.up + t.unknown; live > 0 {
		if t.damped == live {
			reuse = t.reuse
		}
		if t.ramping == live {
			ramp = t.ramp
		}
	}
	return reuse, ramp
}

// addPlan adds the addresses of an RRset in the additional section, as its plan has them.
func (t *targetSum) addPlan(set *glueSet) {
	if set.plan == nil {
		t.unknown += len(set.addrs)
		return
	}
	for _, s := range set.plan.standings {
		t.add(s)
	}
}

// result returns what is known of a record that leads to the addresses. It is down if all of them
// are, and drained if all others are.
func (t *targetSum) result() (health.Verdict, overrides.Override) {
	switch {
	case t.up > 0:
		return health.Up, overrides.None
	case t.unknown > 0:
		return health.Unknown, overrides.None
	case t.drained > 0:
		return health.Unknown, overrides.Drain
	case t.down > 0 && t.down == t.forced:
		return health.Down, overrides.Down
	case t.down > 0:
		return health.Down, overrides.None
	}
	return health.Unknown, overrides.None
}

// endpointsOf returns the addresses of a member, with the port of its record or 0. Of the target of
// an MX or SRV record, these are the last that were seen in some sections.
func (z *zoneRule) endpointsOf(m *member, sections ...section) (all []netip.AddrPort) {
	if m.host == "" {
		return []netip.AddrPort{withoutPort(m.addr)}
	}
	target := z.appliedTo(m.host)
	for addr := range target.knownAddresses(m.host, sections...) {
		if at := netip.AddrPortFrom(addr, m.port); !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// knownAddresses returns the addresses of a name that the rules saw last in some sections.
func (r *applied) knownAddresses(name string, sections ...section) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if r.question.eachKnown(name, sections, yield) && r.owner != nil {
			r.owner.eachKnown(name, sections, yield)
		}
	}
}

// eachKnown calls yield for the addresses of a name that the rule saw last in some sections, until
// it returns false. It reports whether it never did.
func (z *zoneRule) eachKnown(name string, sections []section, yield func(netip.Addr) bool) bool {
	for _, where := range sections {
		if !z.eachKnownTo(choice{line: noPreference}, name, where, yield) {
			return false
		}
	}
	return true
}

// eachKnownTo is eachKnown for what clients of a choice were answered.
func (z *zoneRule) eachKnownTo(prefer choice, name string, where section, yield func(netip.Addr) bool) bool {
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		key := turnKey{where: where, rrtype: rrtype, prefer: prefer}
		if !allTurns.known(z.scope, key, name).each(yield) {
			return false
		}
	}
	return true
}

// each calls yield for the addresses in the entry's plan, until it returns false. It reports
// whether it never did. The entry may be nil.
func (e *entry) each(yield func(netip.Addr) bool) bool {
	if e == nil {
		return true
	}
	s := e.state.Load()
	if s == nil {
		return true
	}
	for i := range s.plan.members {
		if !yield(s.plan.members[i].addr.Unmap()) {
			return false
		}
	}
	return true
}

// dropGlue removes the addresses, with their signatures, of targets that some records led to and no
// record of the answer leads to any more.
func (a *arrangement) dropGlue(before, answer []dns.RR) {
	dropped := targetsOf(before)
	for name := range targetsOf(answer) {
		delete(dropped, name)
	}
	if len(dropped) == 0 {
		return
	}
	for i, rr := range a.sectionNow() {
		if rr == nil || !isGlue(rr) || !isIN(rr.Header()) || !dropped[strings.ToLower(rr.Header().Name)] {
			continue
		}
		a.own()
		a.out[i] = nil
		a.removed[wasDown]++
	}
}

// targetsOf returns the names, in lower case, that some records lead to. Removed records are nil.
func targetsOf(rrs []dns.RR) map[string]bool {
	names := make(map[string]bool)
	for _, rr := range rrs {
		if rr == nil || !isIN(rr.Header()) {
			continue
		}
		if m := memberOf(rr); m.host != "" {
			names[strings.ToLower(m.host)] = true
		} else if svcb := svcbOf(rr); svcb != nil {
			names[strings.ToLower(svcb.target())] = true
		}
	}
	return names
}

// isGlue reports whether a record is an address or the signature of addresses.
func isGlue(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.A, *dns.AAAA:
		return true
	case *dns.RRSIG:
		return rr.TypeCovered == dns.TypeA || rr.TypeCovered == dns.TypeAAAA
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin/metrics"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/text"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// rule is one balance stanza. Safe for concurrent use: the configuration never changes, and what is
// known of members is published whole.
type rule struct {
	zones       []string // lower case, fully qualified
	policy      *policy
	sticky      prefixLengths     // of clients
	ecs         []netip.Prefix    // resolvers whose client subnet option is trusted
	weights     weights.List      // inline
	file        *weightFile       // nil without the option weights
	overrides   *overridesFile    // nil without the option overrides
	secrets     []*credentialFile // of the checks
	prefer      []preference
	conditional bool        // a prefer line has a condition
	nearFirst   bool        // a prefer line goes by locality
	localities  *localities // nil without the option locality
	ttl         ttlLimits
	tiers       [][]netip.Prefix
	checks      []*check
	require     int // how many of the checks must pass; 0: all
	minHealthy  quorum
	failback    failback.Policy
	slowStart   time.Duration // 0: none
	damp        time.Duration // the half-life of penalties; 0: none
	allDown     allDown
	fleet       *fleetOfCorefile    // nil without the option fleet
	status      netip.AddrPort      // of the page that shows the rule; zero: none
	lines       []string            // of the stanza, without blocks, for that page
	source      []line              // of the stanza, as they were read
	heading     position            // the first line of the stanza
	options     map[string]position // the first line of each option
	warnings    []string            // of its stanza, said when the server starts
	observe     bool                // answers go out as they came
	loads       loadWeights
	answers     int  // the most members of an RRset of addresses in an answer; 0: all
	fits        bool // an answer over UDP holds as many members as the client takes

	unweighed atomic.Bool // a name to which no weight applies was logged
	// Records led to names whose addresses are not known, so answers with one address are read too.
	seeksTargets atomic.Bool

	epoch atomic.Uint64 // incremented when an input of a plan changes
}

// judges reports whether members can be down.
func (r *rule) judges() bool { return r.checked() || r.overrides != nil }

// shown reports whether a page shows the rule.
func (r *rule) shown() bool { return r.status.IsValid() }

// checked reports whether the rule has its members probed.
func (r *rule) checked() bool { return len(r.checks) > 0 }

// observeNote is appended to what is logged of a rule that observes.
func (r *rule) observeNote() string {
	if r.observe {
		return "; observe: answers stay as they are"
	}
	return ""
}

// usesFiles returns the rule as its files know it.
func (r *rule) usesFiles() fileUser {
	outdated := func() { r.epoch.Add(1) }
	return fileUser{zones: r.zones, note: r.observeNote(), outdated: outdated, changed: func() {
		r.unweighed.Store(false)
		outdated()
	}}
}

// overridesInForce returns what operators say of members.
func (r *rule) overridesInForce() overrides.Set {
	if r.overrides == nil {
		return nil
	}
	return *r.overrides.set.Load()
}

// timeOfDay returns what time it is for the overrides, the zero time if there are none.
func (r *rule) timeOfDay() time.Time {
	if r.overrides == nil {
		return time.Time{}
	}
	return r.overrides.Dated.Clock()
}

// files returns the files that the rule reads.
func (r *rule) files() (all []ruleFile) {
	if r.file != nil {
		all = append(all, r.file)
	}
	if r.overrides != nil {
		all = append(all, r.overrides)
	}
	for _, f := range r.secrets {
		all = append(all, f)
	}
	return all
}

// weightOf returns the weight of an address in the RRset of an owner, which names.Spell has
// spelled, and whether the rule has one for it. The first that is found counts: the inline weight,
// the file's for the name, the file's for the longest wildcard above it. In each, the address
// itself goes before a CIDR, and a longer CIDR before a shorter one. An IPv4 address in IPv6
// spelling is that address.
func (r *rule) weightOf(owner string, addr netip.Addr) (weight uint16, ok bool) {
	if !r.policy.weighs || !addr.IsValid() {
		return weights.Default, false
	}
	addr = addr.Unmap()
	if w, ok := r.weights.Of(addr); ok {
		return w, true
	}
	if r.file != nil {
		if line := r.file.weights.Load().Find(owner, addr); line != nil {
			return line.At(r.file.Dated.Clock()), true
		}
	}
	return weights.Default, false
}

// weightSource says where the weight of an address stands and, if it changes over time, how.
func (r *rule) weightSource(owner string, addr netip.Addr) string {
	if _, inline := r.weights.Of(addr); inline {
		return "the option weight"
	}
	if r.file == nil {
		return "the default"
	}
	line := r.file.weights.Load().Peek(owner, addr)
	switch {
	case line == nil:
		return "the default"
	case line.Changes():
		return fmt.Sprintf("%s:%d: %s", r.file.Name(), line.Number, line.Text())
	}
	return fmt.Sprintf("%s:%d", r.file.Name(), line.Number)
}

// weightRamp says how the weight of an address changes over time, "" if it stays.
func (r *rule) weightRamp(owner string, addr netip.Addr) string {
	if _, inline := r.weights.Of(addr.Unmap()); inline || r.file == nil {
		return ""
	}
	if line := r.file.weights.Load().Peek(owner, addr.Unmap()); line != nil && line.Changes() {
		return line.Text()
	}
	return ""
}

// hasWeightsLike reports whether the rule has any weight, inline or in its file, for addresses of
// the family of one.
func (r *rule) hasWeightsLike(addr netip.Addr) bool {
	if r.file != nil && r.file.weights.Load().HasFamilyOf(addr) {
		return true
	}
	return slices.ContainsFunc(r.weights.Lines(), func(l weights.Line) bool { return l.Targets.Addr().Is4() == addr.Is4() })
}

// warnUnweighed warns that no weight applies to any member of an RRset, once for every content of
// the weight file. The name in the file may be misspelled, or an alias of the owner.
func (r *rule) warnUnweighed(owner string, n int, memberAt func(i int) *member) {
	if r.unweighed.Load() || !r.hasWeightsLike(memberAt(0).addr.Unmap()) {
		return
	}
	for i := range n {
		m := memberAt(i)
		if _, weighed := r.weightOf(owner, m.addr); weighed || m.host != "" {
			return
		}
	}
	if r.unweighed.CompareAndSwap(false, true) {
		log.Warningf("policy %s: no weight applies to %s: its members have equal shares", r.policy.name, text.OneLine(owner))
	}
}

// addWeight adds an inline weight.
func (r *rule) addWeight(w weights.Line) error {
	if r.weights.Has(w.Targets) {
		return fmt.Errorf("%q is weighted twice: want it once", cidr.Word(w.Targets))
	}
	r.weights.Add(w)
	return nil
}

// tierOf returns the tier of an address: that of the first line which holds it, else the last.
func (r *rule) tierOf(addr netip.Addr) uint16 {
	for i, targets := range r.tiers {
		if slices.ContainsFunc(targets, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return uint16(i)
		}
	}
	return uint16(len(r.tiers))
}

// balances reports whether res is an answer with records to choose from. All else passes untouched:
// a truncated answer because the client will ask again, an answer to ANY (RFC 8482) and a zone
// transfer because they offer no choice. A single record is a choice if it can be down.
func (r *rule) balances(res *dns.Msg) bool {
	if res == nil || !r.hasChoice(res) {
		return false
	}
	if res.Rcode != dns.RcodeSuccess || res.Opcode != dns.OpcodeQuery || res.Truncated {
		return false
	}
	if len(res.Question) != 1 || res.Question[0].Qclass != dns.ClassINET {
		return false
	}
	switch res.Question[0].Qtype {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR:
		return false
	}
	return len(res.Answer) <= maxRecords && len(res.Extra) <= maxRecords
}

// hasChoice reports whether a message can have records to choose from: several in the answer, or
// addresses in the additional section. Without an answer, only a referral has those.
func (r *rule) hasChoice(res *dns.Msg) bool {
	switch len(res.Answer) {
	case 0:
		return len(res.Extra) > 1 && len(res.Ns) > 0 && res.Ns[0].Header().Rrtype == dns.TypeNS
	case 1:
		return r.judges() || r.seeksTargets.Load() || len(res.Extra) > 1 || svcbOf(res.Answer[0]) != nil
	}
	return true
}

// zoneRule is a rule in one of its zones. The chains of a server block share it. Safe for
// concurrent use.
type zoneRule struct {
	*rule
	zone  string
	hub   *fleet.Fleet // of the replicas that share its verdicts; nil: this one alone
	scope uint64       // tells apart the turns of rules: the same after a reload

	identity uint64    // of the rule in all replicas of the fleet
	handover *handover // of the fleet; nil without one

	led           localityCounts // with prefer locality
	subscriptions []subscription // one a check, while the server runs
	agents        []subscription // the agents among them: they may have no say, or ask for a drain
	unchecked     atomic.Bool    // an address that no check allows was logged
	uncheckedPort atomic.Bool    // a port that no check has in ports was logged
	watcher       watcher
	announcer     announcer
	changing      changing    // RRsets with a slow start, or with a failback that waits
	aliased       atomic.Bool // an alias to an address of a rule without checks was logged

	block   map[string]*zoneRule // the rules of the server block, by zone; nil if there is no other
	divided bool                 // another rule's zone lies in this one

	plans [64]atomic.Pointer[plan] // recently made, found by their members
}

// judge returns what is known of an address in an owner's RRset, and the port that its record names
// or 0, and notes in b if a first verdict is waited for. It registers the address for probing.
func (z *zoneRule) judge(owner string, at netip.AddrPort, b *buffers) standing {
	s, next := z.aged(z.standingOf(owner, at, z.verdictFor(at, b), z.timeOfDay()), at, b.past)
	b.changesAt(next)
	if s.verdict == health.Unknown && z.checked() {
		b.await(z.awaitedOn(at))
	}
	return s
}

// verdictFor is verdictOn, or lastVerdictOn if nothing may be registered.
func (z *zoneRule) verdictFor(at netip.AddrPort, b *buffers) health.Verdict {
	if b.leavesNoTrace {
		return z.lastVerdictOn(at)
	}
	return z.verdictOn(at)
}

// standingOf returns what is known of an address, given what probes say of it.
func (z *zoneRule) standingOf(owner string, at netip.AddrPort, v health.Verdict, now time.Time) standing {
	addr := at.Addr()
	weight, _ := z.weightOf(owner, addr)
	override := z.overridesInForce().Of(owner, addr, now)
	if override == overrides.None && z.agentDrains(at) {
		override = overrides.Drain
	}
	return standing{weight: weight, tier: z.tierOf(addr), verdict: v, override: override, place: z.localities.of(addr)}.ruled()
}

// aged returns a standing with what follows from the member's past: whether it is damped, and its
// slow start. It also returns when time alone changes that, the zero time for never.
func (z *zoneRule) aged(s standing, at netip.AddrPort, past *past) (_ standing, next time.Time) {
	if z.damp == 0 && z.slowStart == 0 || s.verdict == health.Down {
		return s, next
	}
	now, record := time.Now(), z.recordOf(at)
	if z.damp > 0 && record.Reuse.After(now) && s.override != overrides.Up {
		s.reuse, next = uint32(record.Reuse.Add(time.Second-1).Unix()), record.Reuse
	}
	began := past.joined(at.Addr())
	if back := record.Back(); (record.CameUp || !began.IsZero()) && back.After(began) {
		began = back
	}
	if z.slowStart > 0 && !began.IsZero() {
		ramp, wait := inforce.Ramp(now.Sub(began), z.slowStart)
		s.factors.Ramp = ramp
		if step := now.Add(wait); wait > 0 && (next.IsZero() || step.Before(next)) {
			next = step
		}
	}
	return s, next
}

// remembers reports whether the past of RRsets counts.
func (r *rule) remembers() bool { return r.slowStart > 0 || r.failback.Mode != failback.AtOnce }

// servedRule is a zoneRule in one chain. Safe for concurrent use.
type servedRule struct {
	*zoneRule
	counters atomic.Pointer[[]*counters] // one a server that queries came in by
}

// countersFor returns the counters of the rule for the server and view of a query. Servers that
// differ only in their address share a chain.
func (r *servedRule) countersFor(ctx context.Context) *counters {
	server := metrics.WithServer(ctx)
	for {
		known := r.counters.Load()
		if known != nil {
			for _, c := range *known {
				if c.labels.server == server {
					return c
				}
			}
		}
		more := []*counters{allCounters.of(counterLabels{server, r.zone, metrics.WithView(ctx)})}
		if known != nil {
			more = append(more, *known...)
		}
		r.counters.CompareAndSwap(known, &more)
	}
}

// rules are the stanzas of a server block in one chain. Immutable once built.
type rules struct {
	byZone map[string]*servedRule
	only   *servedRule // if there is one for one zone, which needs no search
}

// of returns the rule of a query: the one with the longest zone that holds the question's name,
// nil if there is none.
func (r *rules) of(query *dns.Msg) *servedRule {
	if len(query.Question) == 0 {
		return nil
	}
	name := query.Question[0].Name
	if r.only != nil {
		if r.only.holds(name) {
			return r.only
		}
		return nil
	}
	served, _ := longestZone(r.byZone, name)
	return served
}

// longestZone returns the value of the longest zone that holds a name.
func longestZone[T any](byZone map[string]T, name string) (value T, ok bool) {
	name = strings.ToLower(name)
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if value, ok = byZone[name[off:]]; ok {
			return value, true
		}
	}
	value, ok = byZone["."]
	return value, ok
}

// holds reports whether a name is in the zone.
func (z *zoneRule) holds(name string) bool { return names.InZone(name, z.zone) }

// addTier adds a tier after those before it.
func (r *rule) addTier(targets []netip.Prefix) error {
	if len(r.tiers) == maxTiers {
		return fmt.Errorf("too many lines: want at most %d", maxTiers)
	}
	for _, earlier := range r.tiers {
		for _, p := range targets {
			if slices.Contains(earlier, p) {
				return fmt.Errorf("%q is in two tiers: want it in one", cidr.Word(p))
			}
			if i := holderOf(earlier, p); i >= 0 {
				return fmt.Errorf("never reached: the first line that holds an address wins, and %q lies in %q of an earlier one: want its line before that",
					cidr.Word(p), cidr.Word(earlier[i]))
			}
		}
	}
	r.tiers = append(r.tiers, targets)
	return nil
}

// maxTiers is the most tier lines in a stanza.
const maxTiers = 1000

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/text"

	"github.com/miekg/dns"
)

// Limits of a document, because names come from clients and endpoints can be very many.
const (
	maxShownMembers   = 256    // of a name
	maxShownOfAll     = 10_000 // members of all names together
	maxShownEndpoints = 1000   // that no name has
	maxShownLines     = 20     // of a file that applied to no member
	maxShownReplicas  = 100
	maxVotersAsked    = 200 // endpoints whose voters are shown; if votes differ, twice as many
)

// overview is what there is to show, while it is put together. Making it changes nothing: no
// endpoint is probed for longer because somebody looks. Owned by one goroutine.
type overview struct {
	now       time.Time
	rules     []shownRule
	byScope   map[uint64]int              // indexes
	inNames   map[endpointKey]bool        // endpoints that a name has
	unchecked map[uint64][]netip.AddrPort // members that no check allows, by the scope of the rule
	asked     int                         // endpoints whose voters were asked for
	gone      []fleet.Gone                // replicas that are missed
	doc       *statuspage.Document
}

// shownRule is a rule with the option status, in one of its zones and the server block it is from.
type shownRule struct {
	*zoneRule
	life *life
}

type endpointKey struct {
	check    string
	endpoint netip.AddrPort
}

// newOverview returns an overview of the rules of those lives that know their endpoints. If a
// reload is about to replace a rule, the new one is shown.
func newOverview(lives []*life) *overview {
	o := &overview{
		now: filewatch.Clock(), byScope: make(map[uint64]int), inNames: make(map[endpointKey]bool), unchecked: make(map[uint64][]netip.AddrPort),
		doc: &statuspage.Document{
			Version: statuspage.Version, Window: int(leadWindow / time.Second), Problems: []statuspage.Problem{}, Rules: []statuspage.Rule{},
			Names: []statuspage.Name{}, Endpoints: []statuspage.Endpoint{}, OtherRules: []string{},
		},
	}
	for _, l := range lives {
		for _, r := range l.rules {
			for _, zone := range r.zones {
				if r.shown() {
					o.add(shownRule{l.zones[zone], l})
				}
			}
		}
	}
	return o
}

func (o *overview) add(r shownRule) {
	if at, again := o.byScope[r.scope]; again {
		o.rules[at] = r
		return
	}
	o.byScope[r.scope] = len(o.rules)
	o.rules = append(o.rules, r)
}

// document returns what there is to show.
func (o *overview) document() *statuspage.Document {
	inUse.update(time.Now())
	o.doc.Time, o.doc.Process = o.now.UTC(), thisProcess.shown()
	for _, r := range o.rules {
		o.doc.Rules = append(o.doc.Rules, o.rule(r))
	}
	o.names()
	o.endpoints()
	o.otherRules()
	o.fleet()
	o.problems()
	return o.doc
}

func (o *overview) rule(r shownRule) statuspage.Rule {
	shown := statuspage.Rule{
		Zone: r.zone, Policy: r.policy.name, Servers: r.life.servers, View: r.life.view, Observe: r.observe,
		Options: append([]string{}, r.lines...), Checks: []statuspage.Check{}, Files: []statuspage.File{},
	}
	for _, s := range r.subscriptions {
		shown.Checks = append(shown.Checks, checkOf(s))
	}
	if r.nearFirst {
		shown.Localities, shown.Nodes = r.led.shown(), r.localities.shownNodes()
	}
	for _, f := range r.files() {
		shown.Files = append(shown.Files, fileOf(f))
	}
	if r.overrides != nil {
		shown.Overrides = r.overrides.Name()
	}
	return shown
}

// fileOf returns what is known of a file.
func fileOf(f ruleFile) statuspage.File {
	known := f.State()
	unused, total := f.unused(maxShownLines)
	return statuspage.File{
		Path: f.Name(), LastSuccess: known.Good.UTC(), Since: known.Since.UTC(), Missing: known.Missing, Problem: known.Problem,
		Unused: append([]string{}, unused...), UnusedOmitted: total - len(unused),
	}
}

func checkOf(s subscription) statuspage.Check {
	c := statuspage.Check{Name: s.Name()}
	failing := 0
	for e := range s.Endpoints() {
		switch e.Verdict {
		case health.Up:
			c.Up++
		case health.Down:
			c.Down++
		default:
			c.Unknown++
		}
		if e.Failing {
			failing++
		}
	}
	c.AllFailing = health.AllFail(c.Up+c.Down+c.Unknown, failing)
	return c
}

// names puts the names in use into the document: those first that are answered by something else
// than their members, then those with members that are down.
func (o *overview) names() {
	listed := inUse.all()
	slices.SortFunc(listed, func(a, b listedName) int { return b.used.Compare(a.used) })
	members := 0
	for _, n := range listed {
		at, shown := o.byScope[n.entry.scope]
		s := n.entry.state.Load()
		if !shown || s == nil || s.leads == nil || int(n.entry.key.prefer.line) >= len(o.rules[at].prefer) {
			continue // its rule or its prefer line is gone
		}
		if members += min(len(s.plan.members), maxShownMembers); members > maxShownOfAll {
			o.doc.NamesOmitted++
			continue
		}
		o.doc.Names = append(o.doc.Names, o.name(at, &n, s))
	}
	slices.SortFunc(o.doc.Names, func(a, b statuspage.Name) int {
		return cmp.Or(cmp.Compare(urgency(a), urgency(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Section, b.Section))
	})
}

// urgency returns a rank: names with the lowest need attention first.
func urgency(n statuspage.Name) int {
	switch {
	case n.Answer != "members":
		return 0
	case n.Down > 0 || n.FailedOver:
		return 1
	}
	return 2
}

// name returns what is known of an RRset in use.
func (o *overview) name(rule int, n *listedName, s *state) statuspage.Name {
	z := &o.rules[rule]
	key := n.entry.key
	shown := statuspage.Name{
		Rule: rule, Name: n.entry.owner, Type: dns.TypeToString[key.rrtype], Section: sectionNames[key.where], Members: []statuspage.Member{},
	}
	if key.where == inHints {
		shown.Priority = new(int(key.priority))
	}
	if key.prefer.line != noPreference {
		shown.PreferLine = new(z.prefer[key.prefer.line].at.line)
	}
	f := z.forecastOf(n.entry, s, o.now)
	wanted, states := f.wanted(), f.states()
	shown.Degraded, shown.Answer = f.plan.degraded, f.answer
	shown.Tier, shown.FailedOver = int(f.plan.tier())+1, f.plan.failedOver
	shown.Failback = f.plan.keptText()
	leads, others := n.inWindow(s)
	for _, count := range leads {
		shown.Answers += int(count)
	}
	shown.Answers += int(others)
	for m := range f.plan.members {
		member := o.member(z, &f, m)
		member.State, member.Leads = states[m], statuspage.Leads{Wanted: wanted[m], Count: int(leads[m])}
		if shown.Answers > 0 {
			member.Leads.Served = float64(leads[m]) / float64(shown.Answers)
		}
		if member.Verdict == health.Down.String() {
			shown.Down++
		}
		shown.Members = append(shown.Members, member)
	}
	slices.SortStableFunc(shown.Members, func(a, b statuspage.Member) int { return cmp.Compare(rankOf(a), rankOf(b)) })
	if more := len(shown.Members) - maxShownMembers; more > 0 {
		shown.Members, shown.MembersOmitted = shown.Members[:maxShownMembers], more
	}
	return shown
}

// rankOf puts members that are down first.
func rankOf(m statuspage.Member) int {
	if m.Verdict == health.Down.String() {
		return 0
	}
	return 1
}

// member returns what is known of a member.
func (o *overview) member(z *shownRule, f *forecast, i int) statuspage.Member {
	m, at := &f.plan.members[i], f.plan.standings[i]
	shown := statuspage.Member{
		Member: m.String(), Verdict: at.verdict.String(), Weight: int(at.weight), Tier: int(at.tier) + 1, Probes: []statuspage.Probe{},
	}
	shown.Ramp, shown.LoadWeights, shown.Locality = int(at.factors.Ramp), int(at.factors.Load), at.place.String()
	shown.WeightInForce = f.plan.weightInForce(i)
	endpoints := z.endpointsOf(m, inExtra, inAnswer, inWatch)
	for _, at := range endpoints[:min(len(endpoints), maxShownAddresses)] {
		o.probes(z, at, &shown)
	}
	if m.host != "" {
		return shown
	}
	shown.WeightRamp = z.weightRamp(names.Spell(f.owner), m.addr)
	if line := z.overridesInForce().Find(names.Spell(f.owner), m.addr.Unmap(), o.now); line != nil {
		shown.Override = shownOverride(line, z.overrides.Name())
	}
	return shown
}

// probes adds to a member what the checks know of one of its endpoints.
func (o *overview) probes(z *shownRule, at netip.AddrPort, shown *statuspage.Member) {
	if len(z.subscriptions) > 0 && !z.mayCheck(at) {
		o.unchecked[z.scope] = append(o.unchecked[z.scope], at)
	}
	for _, s := range z.subscriptions {
		probe := probeOf(s, at)
		probe.Votes = o.votesOn(s, at)
		o.note(s, at)
		if probe.Since != nil && probe.Verdict == shown.Verdict && (shown.Since == nil || probe.Since.After(*shown.Since)) {
			shown.Since = probe.Since
		}
		shown.Probes = append(shown.Probes, probe)
	}
}

// note notes that a name has an endpoint.
func (o *overview) note(s subscription, at netip.AddrPort) {
	if known, ok := s.Peek(at); ok {
		o.inNames[endpointKey{s.Name(), known.At}] = true
	}
}

// shownOverride returns the override of a line of a file for people.
func shownOverride(l *overrides.Line, path string) *statuspage.Override {
	shown := &statuspage.Override{What: l.Override.String(), Why: l.Why, Where: fmt.Sprintf("%s:%d", path, l.Number)}
	if !l.Until.IsZero() {
		shown.Until = new(l.Until)
	}
	return shown
}

// probeOf returns what a check knows of an endpoint.
func probeOf(s subscription, endpoint netip.AddrPort) statuspage.Probe {
	probe := statuspage.Probe{Check: s.Name(), Verdict: health.Unknown.String(), Milliseconds: []float64{}, Failed: []int{}}
	known, ok := s.Peek(endpoint)
	if !ok {
		probe.Note = "not probed: the table is full, or it is new"
		if outside := outsideOf(s, endpoint); outside != "" {
			probe.Note = "not probed: outside " + outside
		}
		return probe
	}
	if known.At.Port() != 0 {
		probe.Check += " at " + known.Name()
	}
	since := known.Since.UTC()
	probe.Verdict, probe.Since, probe.Failing, probe.Error = known.Verdict.String(), &since, known.Failing, known.Problem
	notes := []string{adviceText(known.Advice), loadText(known.Load, time.Now()), dampText(known)}
	probe.Note = strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; ")
	probe.Load = shownLoad(known.Load, time.Now())
	if probe.Penalty = int(known.Penalty); !known.Reuse.IsZero() {
		probe.Reuse = new(known.Reuse.UTC())
	}
	probe.Milliseconds, probe.Failed = append(probe.Milliseconds, known.Milliseconds...), append(probe.Failed, known.Failed...)
	return probe
}

// endpoints puts the endpoints that no name has into the document, those that are down first.
func (o *overview) endpoints() {
	type candidate struct {
		rule         *shownRule
		subscription subscription
		health.Endpoint
	}
	var all []candidate
	for i := range o.rules {
		for _, s := range o.rules[i].subscriptions {
			for e := range s.Endpoints() {
				if !o.inNames[endpointKey{s.Name(), e.At}] {
					all = append(all, candidate{&o.rules[i], s, e})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.Verdict, a.Verdict), a.At.Compare(b.At)) // down is the highest
	})
	if more := len(all) - maxShownEndpoints; more > 0 {
		all, o.doc.EndpointsOmitted = all[:maxShownEndpoints], more
	}
	for _, c := range all {
		shown := statuspage.Endpoint{Zone: c.rule.zone, Address: c.Name(), Probe: probeOf(c.subscription, c.At)}
		shown.Votes = o.votesOn(c.subscription, c.At)
		o.doc.Endpoints = append(o.doc.Endpoints, shown)
	}
}

// otherRules names the rules that run and are not shown.
func (o *overview) otherRules() {
	seen := make(map[uint64]bool)
	for _, l := range runningLives() {
		for zone, z := range l.zones {
			if _, shown := o.byScope[z.scope]; !shown && !z.shown() && !seen[z.scope] {
				seen[z.scope] = true
				o.doc.OtherRules = append(o.doc.OtherRules, zone)
			}
		}
	}
	slices.Sort(o.doc.OtherRules)
}

// problems puts what needs attention into the document.
func (o *overview) problems() {
	if o.doc.Process.ReloadFailed {
		o.say("reload", "", "the last reload failed, as the log says: the Corefile before it stays in force")
	}
	o.problemsOfFleet()
	for i, r := range o.doc.Rules {
		o.problemsOfNames(i, r)
		o.problemsOfChecks(i, r)
		for _, f := range r.Files {
			if f.Problem != "" {
				o.say("file", r.Zone, f.Problem+"; what was read before stays in force")
			}
		}
	}
	slices.SortStableFunc(o.doc.Problems, func(a, b statuspage.Problem) int {
		return cmp.Compare(slices.Index(problemKinds, a.Kind), slices.Index(problemKinds, b.Kind))
	})
}

// problemsOfNames says which names of a rule are not answered by members that are up.
func (o *overview) problemsOfNames(i int, r statuspage.Rule) {
	would := ""
	if r.Observe {
		would = "would be "
	}
	for kind, what := range map[string]string{"fail_open": "answered as if all members were up", "replaced": "answered otherwise, as all_down says"} {
		if names := o.inTrouble(i, kind == "fail_open"); len(names) > 0 {
			o.say(kind, r.Zone, fmt.Sprintf("%s: every member is down: %s%s", text.Brief(names), would, what))
		}
	}
}

// problemsOfChecks says which checks of a rule fail everywhere, and which members none checks.
func (o *overview) problemsOfChecks(i int, r statuspage.Rule) {
	for _, c := range r.Checks {
		if c.AllFailing {
			o.say("all_failing", r.Zone, fmt.Sprintf("all %d endpoints fail %s: the fault may be local", c.Up+c.Down+c.Unknown, c.Name))
		}
	}
	outsideAllow, outsidePorts := o.uncheckedOf(&o.rules[i])
	if len(outsideAllow) > 0 {
		o.say("unchecked", r.Zone, fmt.Sprintf("no health_check allows %s: answered unchecked", text.Brief(outsideAllow)))
	}
	if len(outsidePorts) > 0 {
		o.say("unchecked", r.Zone, fmt.Sprintf("no health_check has the port of %s in ports: answered unchecked", text.Brief(outsidePorts)))
	}
}

// uncheckedOf returns the members of a rule that no check may probe, by the option that says so.
func (o *overview) uncheckedOf(z *shownRule) (outsideAllow, outsidePorts []string) {
	all := o.unchecked[z.scope]
	slices.SortFunc(all, netip.AddrPort.Compare)
	for _, at := range slices.Compact(all) {
		e := health.Endpoint{At: at}
		if at.Port() != 0 && z.mayCheck(withoutPort(at.Addr())) {
			outsidePorts = append(outsidePorts, e.Name())
		} else {
			outsideAllow = append(outsideAllow, e.Name())
		}
	}
	return outsideAllow, outsidePorts
}

// problemKinds are those of a document, the worst first.
var problemKinds = []string{"fail_open", "replaced", "all_failing", "unchecked", "alone", "fleet", "disagreement", "not_shared", "reload", "file"}

func (o *overview) say(kind, zone, text string) {
	o.doc.Problems = append(o.doc.Problems, statuspage.Problem{Kind: kind, Zone: zone, Text: text})
}

// inTrouble returns the names of a rule whose members are all down.
func (o *overview) inTrouble(rule int, open bool) (names []string) {
	for _, n := range o.doc.Names {
		if n.Rule == rule && n.Answer != "members" && (n.Answer == "fail_open") == open {
			names = append(names, n.Name+" "+n.Type)
		}
	}
	return names
}

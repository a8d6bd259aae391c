// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/text"
	"github.com/seed-f1518d44/balance/internal/weights"
)

func init() {
	plugin.Register(pluginName, func(c *caddy.Controller) error { return dryRunning.noteError(setup(c)) })
}

// setup reads the stanzas of a server block and puts the plugin into its chain. It starts nothing.
func setup(c *caddy.Controller) error {
	stanzas, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	config := dnsserver.GetConfig(c)
	rules := rulesByZone(stanzas)
	dryRunning.note(c, stanzas, rules)
	background := newLife(c, stanzas, rules)
	fleets := fleetIn(c)
	background.blockZones = plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys)
	start := func() error {
		if err := fleets.problem(); err != nil {
			return plugin.Error(pluginName, err)
		}
		warnOfStanzas(stanzas)
		enter(rules, listenersOf(config, c.ServerBlockKeys))
		warnOfChain(config, stanzas)
		sayWhatIsObserved(stanzas)
		background.servers, background.view = serversOf(config, c.ServerBlockKeys), config.ViewName
		if err := background.start(); err != nil {
			return plugin.Error(pluginName, err)
		}
		return nil
	}
	c.OnShutdown(callback(background.stop))
	c.OnRestart(callback(background.restarts))
	c.OnRestartFailed(callback(func() {
		background.restartFailed()
		thisProcess.reloadFailed(time.Now())
	}))
	// Chains are made when every plugin is set up, so this comes last: what watches names asks the
	// plugins below, which have started by then.
	startLast := sync.OnceFunc(func() { c.OnStartup(start) })
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		startLast()
		for _, z := range rules {
			z.watcher.next.CompareAndSwap(nil, &next)
		}
		return &Balance{Next: next, rules: serve(rules)}
	})
	return nil
}

// callback returns a function that calls f, as Caddy wants it.
func callback(f func()) func() error {
	return func() error {
		f()
		return nil
	}
}

// rulesByZone finds the rule of every zone.
func rulesByZone(stanzas []*rule) map[string]*zoneRule {
	byZone := make(map[string]*zoneRule)
	for _, stanza := range stanzas {
		for _, zone := range stanza.zones {
			byZone[zone] = &zoneRule{rule: stanza, zone: zone}
		}
	}
	introduce(byZone)
	return byZone
}

// introduce has the rules of a server block know each other.
func introduce(byZone map[string]*zoneRule) {
	if len(byZone) < 2 {
		return
	}
	for _, z := range byZone {
		z.block = byZone
		for zone := range byZone {
			z.divided = z.divided || zone != z.zone && names.InZone(zone, z.zone)
		}
	}
}

// serve returns the rules for one chain.
func serve(byZone map[string]*zoneRule) rules {
	r := rules{byZone: make(map[string]*servedRule)}
	for zone, z := range byZone {
		served := &servedRule{zoneRule: z}
		r.byZone[zone] = served
		if len(byZone) == 1 {
			r.only = served
		}
	}
	return r
}

// enter gives every rule its scope: what it is, so that a reload finds the turns again, however
// many zones, listeners and sockets the block has. Call it before the first query.
func enter(byZone map[string]*zoneRule, listeners string) {
	for zone, z := range byZone {
		h := fnv.New64a()
		_, _ = h.Write([]byte(zone + "\x00" + listeners))
		z.scope = h.Sum64()
	}
}

// parse reads all balance stanzas of a server block.
func parse(c *caddy.Controller) ([]*rule, error) {
	rules, err := parseStanzas(c)
	if err != nil {
		return nil, errors.New(text.OneLine(err.Error())) // it may quote the Corefile
	}
	return rules, nil
}

func parseStanzas(c *caddy.Controller) ([]*rule, error) {
	var stanzas []*stanza
	for c.Next() {
		heading, err := readLine(c)
		if err != nil {
			return nil, err
		}
		s, err := parseStanza(c, &heading)
		if err != nil {
			return nil, err
		}
		for _, earlier := range stanzas {
			if err := s.shareZones(earlier); err != nil {
				return nil, err
			}
		}
		stanzas = append(stanzas, s)
	}
	return rulesOf(stanzas), nil
}

// stanza is a rule while it is read.
type stanza struct {
	rule  *rule
	at    map[string]position // the first line of each option
	root  string              // the directory that the names of files are relative to
	words []string            // its options

	heading position
	text    string // its options as they stand in the Corefile; empty if it is bare

	fleets *fleetOfCorefile

	weights, overrides fileOption
	moved              bool          // it has the form that loadbalance has
	reload             time.Duration // of that
}

// options are the words of a stanza. A new option is a parse function, a line here and golden files
// in testdata/corefile.
var options = []option[stanza]{
	{name: "policy", usage: "round_robin|weighted|random|sticky [V4LEN V6LEN]",
		read: set(parsePolicy, func(s *stanza, o policyOption) { s.rule.policy, s.rule.sticky = o.policy, o.prefixes })},
	{name: "weight", usage: "ADDRESS|CIDR WEIGHT", repeats: true,
		read: add(parseWeight, func(s *stanza, w weights.Line) error { return s.rule.addWeight(w) })},
	{name: "weights", usage: "FILE [DURATION]",
		read: set(parseFile(defaultWeightsInterval), func(s *stanza, f fileOption) { s.weights = f })},
	{name: "locality", usage: "NAME CIDR... | kubernetes [KUBECONFIG [CONTEXT]]", repeats: true,
		read: add(parseLocality, (*stanza).addLocality)},
	{name: "prefer", usage: "CIDR... [from CIDR... | when EXPRESSION] | locality [only] [spill]", repeats: true,
		read: addAt(parsePrefer, (*stanza).addPreference)},
	{name: "tier", usage: "ADDRESS|CIDR...", repeats: true,
		read: add(parsePrefixes, func(s *stanza, targets []netip.Prefix) error { return s.rule.addTier(targets) })},
	{name: "failback", usage: "at_once|after DURATION|manual",
		read: set(parseFailback, func(s *stanza, p failback.Policy) { s.rule.failback = p })},
	{name: "answers", usage: "N | fit",
		read: set(parseAnswers, func(s *stanza, n int) { s.rule.answers, s.rule.fits = n, n == 0 })},
	{name: "ttl", usage: "MAX [DEGRADED] | keep",
		read: set(parseTTL, func(s *stanza, l ttlLimits) { s.rule.ttl = l })},
	{name: "health_check", usage: "PROTOCOL ... { ... }", repeats: true, block: true,
		read: readHealthCheck},
	{name: "require", usage: "all|any|N",
		read: set(parseRequire, func(s *stanza, n int) { s.rule.require = n })},
	{name: "slow_start", usage: "WINDOW",
		read: set(parseSpan, func(s *stanza, window time.Duration) { s.rule.slowStart = window })},
	{name: "damp", usage: "[HALF_LIFE]",
		read: set(parseHalfLife, func(s *stanza, halfLife time.Duration) { s.rule.damp = halfLife })},
	{name: "load_weights", usage: "[FLOOR%]",
		read: set(parseLoadWeights, func(s *stanza, floor int) { s.rule.loads.floor = floor })},
	{name: "min_healthy", usage: "N|P%",
		read: set(parseMinHealthy, func(s *stanza, q quorum) { s.rule.minHealthy = q })},
	{name: "all_down", usage: "open|nodata|servfail|fallback ADDRESS...",
		read: set(parseAllDown, func(s *stanza, d allDown) { s.rule.allDown = d })},
	{name: "overrides", usage: "FILE [DURATION]",
		read: set(parseFile(defaultOverridesInterval), func(s *stanza, f fileOption) { s.overrides = f })},
	{name: "ecs", usage: "CIDR...",
		read: set(parsePrefixes, func(s *stanza, resolvers []netip.Prefix) { s.rule.ecs = resolvers })},
	{name: "fleet", usage: "NAME [{ ... }]", block: true, read: readFleet},
	{name: "observe",
		read: set(parseNothing, func(s *stanza, given bool) { s.rule.observe = given })},
	{name: "status", usage: "[ADDRESS]",
		read: set(parseStatus, func(s *stanza, at netip.AddrPort) { s.rule.status = at })},
	{name: "reload", usage: "DURATION", // for Corefiles that come from loadbalance
		read: addAt(parseReload, (*stanza).setReload)},
}

// parseStanza reads a stanza: the zones, then an option a line.
func parseStanza(c *caddy.Controller, heading *line) (*stanza, error) {
	if heading.name != pluginName {
		return nil, heading.errorf("found %q: want %q", heading.name, pluginName)
	}
	r := &rule{policy: &policies[0], minHealthy: quorum{count: 1}}
	s := &stanza{rule: r, root: dnsserver.GetConfig(c).Root, words: optionNames(options), heading: heading.at, fleets: fleetIn(c)}
	lines, args, err := s.movedLines(heading)
	if err != nil {
		return nil, err
	}
	lines = append(lines, heading.block...)
	if r.zones, err = parseZones(args, c.ServerBlockKeys); err != nil {
		return nil, heading.errorf("%w%s", err, hintOn(args, func(args []string) error {
			_, err := parseZones(args, c.ServerBlockKeys)
			return err
		}))
	}
	if s.at, err = readOptions(s, lines, options, unknownOption); err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := s.openFiles(); err != nil {
		return nil, err
	}
	r.lines, r.heading, r.options, r.source = shownLines(lines), heading.at, s.at, lines
	s.text = textOf(lines)
	return s, s.agreeOnStatus(c)
}

// unknownOption says which options there are, and what else a word may be.
func unknownOption(word string) error {
	switch {
	case optionNamed(fleetOptions, word) != nil:
		return fmt.Errorf("%s: found outside a fleet: want it in the block of one", word)
	case optionNamed(checkOptions, word) != nil:
		return fmt.Errorf("%s: found outside a health_check: want it in the block of one", word)
	case slices.Contains(dnsserver.Directives, word):
		return fmt.Errorf("found the directive %q in a stanza: is the \"}\" of balance missing before it?", word)
	}
	return text.Unknown("option", word, optionNames(options))
}

// readFleet reads "fleet NAME [{ ... }]".
func readFleet(s *stanza, l *line) error {
	s.rule.fleet = s.fleets
	if err := s.fleets.read(l, s.root, s.words); err != nil {
		return err
	}
	if l.block != nil && len(s.fleets.block.join) == 0 {
		s.warn(l.at, "fleet: no join, so this replica looks for no other, and others have to find it")
	}
	return nil
}

// addPreference adds a prefer line, which the status page names by its number.
func (s *stanza) addPreference(p preference, at position) error {
	p.at = at
	warnings, err := s.rule.addPreference(p)
	for _, warning := range warnings {
		s.warn(at, "prefer: %s", warning)
	}
	return err
}

// addLocality adds a locality line.
func (s *stanza) addLocality(o localityOption) error {
	if s.rule.localities == nil {
		s.rule.localities = new(localities)
	}
	return s.rule.localities.add(o, s.root)
}

// warn adds a warning, which is logged when the server starts.
func (s *stanza) warn(at position, format string, args ...any) {
	s.rule.warnings = append(s.rule.warnings, text.OneLine(fmt.Sprintf("%s: %s", at, fmt.Sprintf(format, args...))))
}

// contradiction is an option that does not go with others.
type contradiction struct {
	option string
	broken bool
	what   string
}

// validate returns an error if options do not go together, and fills in what depends on several.
func (s *stanza) validate() error {
	r := s.rule
	r.weights.Sort()
	r.nearFirst = slices.ContainsFunc(r.prefer, func(p preference) bool { return p.near != nil })
	r.conditional = slices.ContainsFunc(r.prefer, func(p preference) bool { return p.when != nil })
	if _, given := s.at["ttl"]; !given && r.checked() {
		r.ttl = ttlLimits{limited: true, max: defaultCheckedTTL, degraded: defaultDegradedTTL}
	}
	r.loads.ttl = time.Duration(r.ttl.max) * time.Second
	for _, c := range r.checks {
		if c.loads {
			r.loads.interval = max(r.loads.interval, c.Timing.Interval, time.Second)
		}
	}
	weighing := fmt.Sprintf("no effect, because the policy %s ignores weights: want policy %s", r.policy.name, text.List(policyNames(true)))
	judges := r.checked() || s.overrides.path != ""
	const judging = "no effect, because no member is ever down: want a health_check or overrides"
	for _, rule := range append([]contradiction{
		{"weight", !r.policy.weighs, weighing},
		{"weights", !r.policy.weighs, weighing},
		{"load_weights", r.policy.name != "weighted", "goes with policy weighted only"},
		{"load_weights", !r.ttl.limited, "has to know how long answers are kept: want ttl MAX instead of ttl keep"},
		{"load_weights", r.loads.interval == 0, "no effect, because no check learns how busy members are: want health_check agent, http or https"},
		{"reload", !s.moved || s.weights.path == "", `goes with a file behind the policy, as in loadbalance: want "weights FILE DURATION"`},
		{"ecs", !r.dependsOnClient(), "no effect, because no answer depends on the client: want policy sticky, prefer with from or when, or prefer locality"},
		{"locality", !r.nearFirst, "no effect, because nothing goes by it: want prefer locality"},
		{"prefer", r.nearFirst && r.localities == nil, "locality: no address has one: want locality NAME CIDR... or locality kubernetes"},
		{"require", len(r.checks) < 2, "no effect, because there are not several checks: want at least two health_check lines"},
		{"require", r.require > len(r.checks), fmt.Sprintf("%d is more than there are: want at most %d", r.require, len(r.checks))},
		{"fleet", !r.checked(), "no effect, because there is no verdict to share: want a health_check too"},
		{"min_healthy", !judges, judging},
		{"all_down", !judges, judging},
	}, s.pastErrors()...) {
		if at, given := s.at[rule.option]; given && rule.broken {
			return &lineError{at, fmt.Errorf("%s: %s", rule.option, rule.what)}
		}
	}
	for _, c := range r.checks {
		c.HalfLife = r.damp
	}
	s.warnOfNoEffect()
	s.warnOfPast()
	return s.agreeOnChecks()
}

// agreeOnChecks returns an error if a check cannot be in the rule's fleet beside one of an earlier
// rule.
func (s *stanza) agreeOnChecks() error {
	if s.rule.fleet == nil {
		return nil
	}
	for _, c := range s.rule.checks {
		if err := s.fleets.agree(&c.Check, c.at); err != nil {
			return err
		}
	}
	return nil
}

// warnOfNoEffect warns of options that do nothing, although the stanza is right.
func (s *stanza) warnOfNoEffect() {
	r := s.rule
	if r.spills() && r.fleet == nil {
		s.warn(s.at["prefer"], "prefer: spill goes by the clients of this replica alone, so it spills wrongly if the clients of a locality mostly ask one replica: want fleet too, if there are several replicas")
	}
	if at, given := s.at["min_healthy"]; given && len(r.tiers) == 0 {
		s.warn(at, "min_healthy: no effect without tier, because it decides when a tier is passed over for the next: want a tier line too")
	}
	bySRV := slices.ContainsFunc(r.checks, func(c *check) bool { return c.ports != nil })
	if at, given := s.at["policy"]; given && r.policy.name == "weighted" && !r.loads.given() && len(r.weights.Lines()) == 0 && s.weights.path == "" && !bySRV {
		s.warn(at, "policy: weighted orders all but SRV records as round_robin does, because there is no weight: want weight or weights too")
	}
	if at, ok := s.at["health_check"]; ok && !slices.ContainsFunc(s.rule.checks, func(c *check) bool { return !c.agent }) {
		s.warn(at, "health_check: agent alone takes no member out that is dead, because an agent that cannot be reached has no say: want another health_check too")
	}
}

// warnOfPast warns of options that count the past and do not do what they seem to.
func (s *stanza) warnOfPast() {
	r := s.rule
	if at, given := s.at["slow_start"]; given && r.ttl.limited && r.slowStart < steadyTTLs*time.Duration(r.ttl.max)*time.Second {
		s.warn(at, "slow_start: %s is shorter than %d TTLs of %d s, so clients that cache answers see few of its steps: want a longer one or a lower ttl",
			r.slowStart, steadyTTLs, r.ttl.max)
	}
	if at, given := s.at["failback"]; given && r.failback.Mode == failback.Manual && r.fleet == nil {
		s.warn(at, "failback: manual lasts over a reload, but not over a restart, which begins at the first healthy tier: want fleet too, if there are several replicas")
	}
}

// pastErrors are contradictions between options that count the past and others.
func (s *stanza) pastErrors() []contradiction {
	r := s.rule
	return []contradiction{
		{"slow_start", r.policy.name == "random", fmt.Sprintf("no effect, because the policy random ignores weights: want policy %s", text.List(notRandom()))},
		{"damp", !r.checked(), "no effect, because nothing is probed: want a health_check"},
		{"failback", len(r.tiers) == 0, "no effect, because there is one tier: want a tier line too"},
		{"failback", r.failback.Mode == failback.Manual && s.overrides.path == "", `manual: nothing can end it: want overrides FILE too, for a line "NAME failback at TIME"`},
	}
}

// notRandom returns the policies that can do with weights that change.
func notRandom() []string {
	return slices.DeleteFunc(policyNames(false), func(name string) bool { return name == "random" })
}

// warnOfStanzas logs what is odd about stanzas.
func warnOfStanzas(rules []*rule) {
	for _, r := range rules {
		for _, warning := range r.warnings {
			log.Warning(warning)
		}
	}
}

// openFiles reads the files that the stanza names.
func (s *stanza) openFiles() error {
	if f := s.weights; f.path != "" {
		if _, given := s.at["reload"]; given {
			f.every = s.reload
		}
		path, err := dryRunning.standInFor("weights", pathIn(s.root, f.path))
		if err == nil {
			s.rule.file, err = newWeightFile(s.rule.usesFiles(), path, f.every)
		}
		if err != nil {
			return s.fileError("weights", err)
		}
	}
	if f := s.overrides; f.path != "" {
		path, err := dryRunning.standInFor("overrides", pathIn(s.root, f.path))
		if err == nil {
			s.rule.overrides, err = newOverridesFile(s.rule.usesFiles(), path, f.every)
		}
		if err != nil {
			return s.fileError("overrides", err)
		}
	}
	return s.fleets.block.openKeys()
}

// fileError returns an error of a file that an option names: with the line of the Corefile, unless
// it has the line of the file.
func (s *stanza) fileError(option string, err error) error {
	if inside := filewatch.ContentError(""); errors.As(err, &inside) {
		return err
	}
	return &lineError{s.at[option], fmt.Errorf("%s: %w", option, err)}
}

// statusKey is where a server keeps the address of its page while it is set up.
type statusKey struct{}

// statusPlace is an address and where the Corefile names it.
type statusPlace struct {
	address netip.AddrPort
	at      position
}

// agreeOnStatus returns an error if an earlier rule, in any server block, wants its page at another
// address: there is one page in a process.
func (s *stanza) agreeOnStatus(c *caddy.Controller) error {
	if !s.rule.shown() {
		return nil
	}
	here := statusPlace{s.rule.status, s.at["status"]}
	earlier, ok := c.Get(statusKey{}).(statusPlace)
	if !ok {
		c.Set(statusKey{}, here)
		return nil
	}
	if earlier.address != here.address {
		return &lineError{here.at, fmt.Errorf("status: the page is to be at %s here, and at %s at %s: want one address, because a process has one page",
			here.address, earlier.address, earlier.at)}
	}
	return nil
}

// maxLines bounds the lines of a stanza that the page shows.
const maxLines = 50

// shownLines returns lines without their blocks, as the page shows them.
func shownLines(lines []line) (shown []string) {
	for i := range lines {
		if i == maxLines {
			return append(shown, "...")
		}
		shown = append(shown, lines[i].String())
	}
	return shown
}

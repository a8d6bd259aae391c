// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/seed-f1518d44/balance/internal/names"
)

func init() { plugin.Register(pluginName, setup) }

// setup reads the stanzas of a server block and puts the plugin into its chain. It starts nothing.
func setup(c *caddy.Controller) error {
	stanzas, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	config := dnsserver.GetConfig(c)
	rules := rulesByZone(stanzas)
	background := newLife(c, stanzas, rules)
	start := func() error {
		enter(rules, listenersOf(config, c.ServerBlockKeys))
		warnOfChain(config, stanzas)
		sayWhatIsObserved(stanzas)
		background.servers, background.view = serversOf(config, c.ServerBlockKeys), config.ViewName
		if err := background.start(); err != nil {
			return plugin.Error(pluginName, err)
		}
		return nil
	}
	c.OnShutdown(func() error {
		background.stop()
		return nil
	})
	c.OnRestartFailed(func() error {
		sweep()
		return nil
	})
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

// rulesByZone finds the rule of every zone.
func rulesByZone(stanzas []*rule) map[string]*zoneRule {
	byZone := make(map[string]*zoneRule)
	for _, stanza := range stanzas {
		for _, zone := range stanza.zones {
			byZone[zone] = &zoneRule{rule: stanza, zone: zone}
		}
	}
	return byZone
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

// listenersOf says where a server block listens and for whom: what tells it apart from another
// block with the same zone.
func listenersOf(config *dnsserver.Config, keys []string) string {
	var ports []string
	for _, key := range keys {
		transport, port := listenerOf(key)
		ports = append(ports, transport+port)
	}
	slices.Sort(ports)
	hosts := slices.Sorted(slices.Values(config.ListenHosts))
	return fmt.Sprintf("%q %q %q", slices.Compact(ports), hosts, config.ViewName)
}

// listenerOf returns the transport and the port in a key of a server block, as "dns://example.org.:53".
func listenerOf(key string) (transport, port string) {
	transport, rest, found := strings.Cut(key, "://")
	if !found {
		transport, rest = "dns", key
	}
	return transport, rest[strings.LastIndexByte(rest, ':')+1:]
}

// parse reads all balance stanzas of a server block.
func parse(c *caddy.Controller) ([]*rule, error) {
	var stanzas []*rule
	lines := make(map[string]int) // of the zones seen
	for c.Next() {
		if c.Val() != pluginName { // caddy lets an option have a block, and goes on behind the wrong brace
			return nil, c.Errf("found %q: want a line of its own for it in the block", c.Val())
		}
		r, err := parseStanza(c, lines)
		if err != nil {
			return nil, c.Err(oneLine(err.Error())) // it may quote the Corefile
		}
		stanzas = append(stanzas, r)
	}
	return stanzas, nil
}

// stanza is a rule while it is read.
type stanza struct {
	*rule
	seen map[string]int // options, with the line of their first use
	root string         // the directory that the names of files are relative to
	at   int            // the line that is read
	in   string         // its file

	moved bool        // it has the form that loadbalance has
	block []blockLine // of the option that is read
}

// blockLine is a line in the block of an option.
type blockLine struct {
	words  []string
	number int
	file   string
}

// option reads the arguments of one option into a stanza. Its errors name neither file nor line.
type option struct {
	parse      func(s *stanza, args []string) error
	repeatable bool
	block      bool // a block may follow the arguments
}

// options are the words of a stanza. A new option is a parse function and a line here.
var options = map[string]option{
	"policy":  {parse: parsePolicy},
	"weight":  {parse: parseWeight, repeatable: true},
	"weights": {parse: parseWeightFile},
	"prefer":  {parse: parsePrefer, repeatable: true},
	"answers": {parse: parseAnswers},
	"observe": {parse: parseObserve},
	"status":  {parse: parseStatus},
	"ttl":     {parse: parseTTL},
	"reload":  {parse: parseReload},

	"overrides": {parse: parseOverridesFile},
	"ecs":       {parse: parseECS},

	"tier":         {parse: parseTier, repeatable: true},
	"health_check": {parse: parseHealthCheck, repeatable: true, block: true},
	"min_healthy":  {parse: parseMinHealthy},
	"all_down":     {parse: parseAllDown},
}

// parseStanza reads one stanza: the zones, then an option a line.
func parseStanza(c *caddy.Controller, lines map[string]int) (*rule, error) {
	s := stanza{
		rule: &rule{policy: &policies[0], minHealthy: quorum{count: 1}},
		seen: make(map[string]int),
		root: dnsserver.GetConfig(c).Root,
		at:   c.Line(),
	}
	args, err := s.parseMoved(c.RemainingArgs())
	if err != nil {
		return nil, err
	}
	if s.zones, err = parseZones(args, c.ServerBlockKeys); err != nil {
		return nil, err
	}
	for _, zone := range s.zones {
		if first, ok := lines[zone]; ok {
			return nil, fmt.Errorf("zone %q has a stanza on line %d already: want one for each zone", zone, first)
		}
		lines[zone] = c.Line()
	}
	for c.NextBlock() {
		if err := s.parseOption(c); err != nil {
			return nil, err
		}
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s.rule, agreeOnStatus(c, &s)
}

// parseMoved reads what stands behind the directive of a stanza that moved over from loadbalance,
// whose form is "loadbalance POLICY [FILE]" with the option "reload DURATION", and returns no
// arguments then. A zone with the name of a policy can be written with a dot at its end.
func (s *stanza) parseMoved(args []string) (left []string, err error) {
	if len(args) == 0 || policyNamed(args[0]) == nil {
		return args, nil
	}
	if err := parsePolicy(s, args[:1]); err != nil {
		return nil, err
	}
	s.seen["policy"], s.moved = s.at, true
	if len(args) == 1 {
		return nil, nil
	}
	if !s.policy.weighs || len(args) > 2 {
		return nil, fmt.Errorf(`found %q behind the policy: want lines in the block, such as "prefer CIDR"`, args[1:])
	}
	s.seen["weights"] = s.at
	return nil, parseWeightFile(s, args[1:])
}

// validate returns an error where options that are fine alone are not so together.
func (s *stanza) validate() error {
	for _, name := range []string{"weight", "weights"} {
		if line, ok := s.seen[name]; ok && !s.policy.weighs {
			return fmt.Errorf("%s: line %d has no effect, for the policy %s ignores weights: want policy %s",
				name, line, s.policy.name, list(policyNames(true)))
		}
	}
	s.weights.Sort()
	if line, ok := s.seen["ecs"]; ok && !s.dependsOnClient() {
		return fmt.Errorf("ecs: line %d has no effect, for no answer depends on the client: want policy sticky or prefer with from", line)
	}
	for _, name := range []string{"min_healthy", "all_down"} {
		if line, ok := s.seen[name]; ok && !s.judges() {
			return fmt.Errorf("%s: line %d has no effect, for no member is ever down: want a health_check or overrides", name, line)
		}
	}
	if _, ok := s.seen["ttl"]; !ok && s.checked() {
		s.ttl = ttlLimits{limited: true, max: defaultCheckedTTL, degraded: defaultDegradedTTL}
	}
	return nil
}

// dependsOnClient tells whether answers may differ from client to client.
func (s *stanza) dependsOnClient() bool {
	return s.policy.byClient || slices.ContainsFunc(s.prefer, func(p preference) bool { return len(p.from) > 0 })
}

func (s *stanza) parseOption(c *caddy.Controller) error {
	name, line := c.Val(), c.Line()
	o, ok := options[name]
	if !ok {
		return unknownWord("option", name, slices.Sorted(maps.Keys(options)))
	}
	if first, again := s.seen[name]; again && !o.repeatable {
		return fmt.Errorf("%s: given on line %d already: want it once", name, first)
	}
	s.at, s.in = line, c.File()
	s.seen[name] = line
	args := c.RemainingArgs()
	s.note(name, args)
	if err := s.parseBlock(c, o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := o.parse(s, args); err != nil {
		return fmt.Errorf("%s: %w", name, s.located(c, err))
	}
	return nil
}

// located returns an error with the line that it is about, where c, which ends with the block, is at another.
func (s *stanza) located(c *caddy.Controller, err error) error {
	switch {
	case s.in != c.File(): // it was imported
		return fmt.Errorf("%s:%d: %w", s.in, s.at, err)
	case s.at != c.Line():
		return fmt.Errorf("line %d: %w", s.at, err)
	}
	return err
}

// parseBlock reads the block of an option, if it has one.
func (s *stanza) parseBlock(c *caddy.Controller, o option) error {
	s.block = nil
	if !c.NextArg() { // the brace where RemainingArgs stopped
		return nil
	}
	if !o.block {
		return errors.New(`found "{": want no block`)
	}
	if err := s.readBlock(c); err != nil {
		return err
	}
	if c.NextArg() {
		return fmt.Errorf("found %q behind its block: want it on a line of its own", c.Val())
	}
	return nil
}

// readBlock reads the lines between the braces behind an option.
func (s *stanza) readBlock(c *caddy.Controller) error {
	for c.Next() {
		if c.Val() == "}" {
			return nil
		}
		line := blockLine{words: []string{c.Val()}, number: c.Line(), file: c.File()}
		line.words = append(line.words, c.RemainingArgs()...)
		if c.NextArg() {
			return fmt.Errorf("line %d: found %q: want no block in the block", line.number, c.Val())
		}
		s.block = append(s.block, line)
	}
	return errors.New(`its block has no end: want a line with "}"`)
}

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
	if _, ok := options[word]; ok {
		return "an option: want it on a line of its own in the block"
	}
	return ""
}

// parseAnswers reads "answers N".
func parseAnswers(s *stanza, args []string) error {
	if len(args) != 1 {
		return wrongCount(args, "one number")
	}
	n, err := parseNumber(args[0], 1, maxRecords)
	s.answers = int(n)
	return err
}

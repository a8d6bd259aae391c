// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/agext/levenshtein"
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
		background.start()
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
		return Balance{Next: next, rules: serve(rules)}
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
	r := make(rules)
	for zone, z := range byZone {
		r[zone] = &servedRule{zoneRule: z}
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
		transport, rest, found := strings.Cut(key, "://")
		if !found {
			transport, rest = "dns", key
		}
		ports = append(ports, transport+rest[strings.LastIndexByte(rest, ':')+1:])
	}
	slices.Sort(ports)
	hosts := slices.Sorted(slices.Values(config.ListenHosts))
	return fmt.Sprintf("%q %q %q", slices.Compact(ports), hosts, config.ViewName)
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
			return nil, c.Err(err.Error())
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

	moved bool        // it has the form that loadbalance has
	block []blockLine // of the option that is read
}

// blockLine is a line in the block of an option.
type blockLine struct {
	words  []string
	number int
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
	return s.rule, s.validate()
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

// parseReload reads "reload DURATION": how often the weight file is read, as loadbalance spells it.
func parseReload(s *stanza, args []string) error {
	if !s.moved || s.file == nil {
		return errors.New(`goes with a file behind the policy, as in loadbalance: want "weights FILE DURATION"`)
	}
	if len(args) != 1 {
		return wrongCount(args, "how often to read the weight file")
	}
	var err error
	s.file.every, err = parseInterval(args[0])
	return err
}

// validate returns an error where options that are fine alone are not so together.
func (s *stanza) validate() error {
	for _, name := range []string{"weight", "weights"} {
		if line, ok := s.seen[name]; ok && !s.policy.weighs {
			return fmt.Errorf("%s: line %d has no effect, for the policy %s ignores weights: want policy %s",
				name, line, s.policy.name, list(policyNames(true)))
		}
	}
	s.weights.sort()
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
	s.at = line
	s.seen[name] = line
	args := c.RemainingArgs()
	if err := s.parseBlock(c, o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := o.parse(s, args); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
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
		line := blockLine{words: []string{c.Val()}, number: c.Line()}
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
			zone := plugin.Name(host).Normalize()
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

// distinct returns words without those that repeat an earlier one.
func distinct(words []string) (once []string) {
	for _, w := range words {
		if !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	return once
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

// parsePolicy reads "policy NAME", and "policy sticky [V4LEN V6LEN]".
func parsePolicy(s *stanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "one of "+list(policyNames(false)))
	}
	p := policyNamed(args[0])
	if p == nil {
		return unknownWord("policy", args[0], policyNames(false))
	}
	s.policy, s.sticky = p, defaultPrefixLengths
	if len(args) == 1 {
		return nil
	}
	if !p.byClient {
		return wrongCount(args, "one of "+list(policyNames(false)))
	}
	return s.parsePrefixLengths(args[1:])
}

// parsePrefixLengths reads "V4LEN V6LEN".
func (s *stanza) parsePrefixLengths(args []string) error {
	if len(args) != 2 {
		return wrongCount(args, "two prefix lengths, for IPv4 and IPv6")
	}
	v4, err := parseNumber(args[0], 1, 32)
	if err != nil {
		return err
	}
	v6, err := parseNumber(args[1], 1, 128)
	s.sticky = prefixLengths{int(v4), int(v6)}
	return err
}

// parseWeight reads "weight ADDRESS|CIDR WEIGHT".
func parseWeight(s *stanza, args []string) error {
	if len(args) != 2 {
		return wrongCount(args, "an address or CIDR, and its weight")
	}
	w, err := newWeightLine(args[0], args[1])
	if err != nil {
		return err
	}
	if s.weights.has(w.targets) {
		return fmt.Errorf("%q is weighted twice: want it once", args[0])
	}
	s.weights.add(w)
	return nil
}

// defaultWeightsInterval is how often the weight file is read.
const defaultWeightsInterval = 30 * time.Second

// parseWeightFile reads "weights FILE [DURATION]", and the file.
func parseWeightFile(s *stanza, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return wrongCount(args, "a file and perhaps how often to read it")
	}
	every := defaultWeightsInterval
	if len(args) == 2 {
		var err error
		if every, err = parseInterval(args[1]); err != nil {
			return err
		}
	}
	var err error
	s.file, err = newWeightFile(s.rule, s.path(args[0]), every)
	return err
}

// defaultOverridesInterval is how often the overrides file is read.
const defaultOverridesInterval = 5 * time.Second

// parseOverridesFile reads "overrides FILE [DURATION]", and the file.
func parseOverridesFile(s *stanza, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return wrongCount(args, "a file and perhaps how often to read it")
	}
	every := defaultOverridesInterval
	if len(args) == 2 {
		var err error
		if every, err = parseInterval(args[1]); err != nil {
			return err
		}
	}
	var err error
	s.rule.overrides, err = newOverridesFile(s.rule, s.path(args[0]), every)
	return err
}

// path returns where a file is.
func (s *stanza) path(file string) string {
	if filepath.IsAbs(file) {
		return filepath.Clean(file)
	}
	return filepath.Join(s.root, file)
}

// minPollInterval is the shortest time between two readings of a file.
const minPollInterval = 100 * time.Millisecond

// parseInterval reads how often a file is to be read.
func parseInterval(arg string) (time.Duration, error) {
	d, err := time.ParseDuration(arg)
	if err != nil || d != 0 && d < minPollInterval {
		return 0, fmt.Errorf("bad duration %q: want one such as 30s, at least %v, or 0 to read the file once", arg, minPollInterval)
	}
	return d, nil
}

// parsePrefer reads "prefer CIDR... [from CIDR...]".
func parsePrefer(s *stanza, args []string) error {
	targets, from, conditional := args, []string(nil), false
	if at := slices.Index(args, "from"); at >= 0 {
		targets, from, conditional = args[:at], args[at+1:], true
	}
	if len(targets) == 0 {
		return wrongCount(targets, "at least one CIDR of targets")
	}
	if conditional && len(from) == 0 {
		return errors.New(`nothing after "from": want at least one CIDR of clients`)
	}
	for _, earlier := range s.prefer {
		if len(earlier.from) == 0 {
			return fmt.Errorf(`never reached: the first line that fits wins, and line %d has no "from", so it fits all clients`, earlier.line)
		}
	}
	if len(s.prefer) == maxPreferences {
		return fmt.Errorf("too many lines: want at most %d", maxPreferences)
	}
	p := preference{line: s.at}
	var err error
	if p.targets, err = parsePrefixes(targets); err != nil {
		return err
	}
	if p.from, err = parsePrefixes(from); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	for _, earlier := range s.prefer {
		if len(p.from) > 0 && !slices.ContainsFunc(p.from, func(from netip.Prefix) bool { return !slices.Contains(earlier.from, from) }) {
			return fmt.Errorf("never reached: the first line that fits wins, and line %d is for the same clients", earlier.line)
		}
	}
	s.prefer = append(s.prefer, p)
	return nil
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

// defaultCheckedTTL is MAX, in seconds, of a rule with a health_check.
const defaultCheckedTTL = 30

// defaultDegradedTTL is the TTL, in seconds, of answers that lack a member, where MAX is not lower.
const defaultDegradedTTL = 5

// parseTTL reads "ttl MAX [DEGRADED]" and "ttl keep".
func parseTTL(s *stanza, args []string) error {
	if len(args) == 1 && args[0] == "keep" {
		return nil
	}
	if len(args) < 1 || len(args) > 2 {
		return wrongCount(args, `"keep", or MAX and perhaps DEGRADED, in seconds`)
	}
	limit, err := parseNumber(args[0], 0, math.MaxInt32)
	if err != nil {
		return err
	}
	degraded := min(limit, defaultDegradedTTL)
	if len(args) == 2 {
		if degraded, err = parseNumber(args[1], 0, math.MaxInt32); err != nil {
			return err
		}
		if degraded > limit {
			return fmt.Errorf("DEGRADED %d is more than MAX %d: want it at most that", degraded, limit)
		}
	}
	s.ttl = ttlLimits{limited: true, max: limit, degraded: degraded}
	return nil
}

// maxTiers is the most tier lines in a stanza.
const maxTiers = 1000

// parseTier reads "tier ADDRESS|CIDR...".
func parseTier(s *stanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "at least one address or CIDR")
	}
	if len(s.tiers) == maxTiers {
		return fmt.Errorf("too many lines: want at most %d", maxTiers)
	}
	targets, err := parsePrefixes(args)
	if err != nil {
		return err
	}
	for _, earlier := range s.tiers {
		for _, p := range targets {
			if slices.Contains(earlier, p) {
				return fmt.Errorf("%q is in two tiers: want it in one", word(p))
			}
		}
	}
	s.tiers = append(s.tiers, targets)
	return nil
}

// parseMinHealthy reads "min_healthy N|P%".
func parseMinHealthy(s *stanza, args []string) error {
	if len(args) != 1 {
		return wrongCount(args, "a number of members, or a share such as 50%")
	}
	if share, ok := strings.CutSuffix(args[0], "%"); ok {
		percent, err := parseNumber(share, 1, 100)
		if err != nil {
			return fmt.Errorf("bad share %q: want one from 1%% to 100%%", args[0])
		}
		s.minHealthy = quorum{percent: int(percent)}
		return nil
	}
	n, err := parseNumber(args[0], 1, maxRecords)
	s.minHealthy = quorum{count: int(n)}
	return err
}

// parseAllDown reads "all_down open|nodata|servfail|fallback ADDRESS...".
func parseAllDown(s *stanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "one of "+list(allDownNames[:]))
	}
	mode := slices.Index(allDownNames[:], args[0])
	if mode < 0 {
		return unknownWord("answer", args[0], allDownNames[:])
	}
	s.allDown = allDown{mode: allDownMode(mode)} //nolint:gosec // an index
	if s.allDown.mode != answerFallback {
		if len(args) > 1 {
			return wrongCount(args[1:], "nothing behind "+args[0])
		}
		return nil
	}
	if len(args) == 1 {
		return wrongCount(nil, "at least one address behind fallback")
	}
	for _, arg := range args[1:] {
		addr, err := netip.ParseAddr(arg)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			return fmt.Errorf("bad address %q: want one such as 192.0.2.1 or 2001:db8::1", arg)
		}
		if slices.Contains(s.allDown.fallback, addr) {
			return fmt.Errorf("address %q is named twice: want it once", arg)
		}
		s.allDown.fallback = append(s.allDown.fallback, addr)
	}
	return nil
}

// parseECS reads "ecs CIDR...".
func parseECS(s *stanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "at least one CIDR of resolvers")
	}
	var err error
	s.ecs, err = parsePrefixes(args)
	return err
}

// parseNumber reads a decimal number from low to high.
func parseNumber(arg string, low, high uint32) (uint32, error) {
	n, err := strconv.ParseUint(arg, 10, 32)
	if err != nil || uint32(n) < low || uint32(n) > high {
		return 0, fmt.Errorf("bad number %q: want a whole number from %d to %d", arg, low, high)
	}
	return uint32(n), nil
}

// parsePrefixes reads CIDRs, each of which may stand once.
func parsePrefixes(args []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, arg := range args {
		p, err := parsePrefix(arg)
		if err != nil {
			return nil, err
		}
		if slices.Contains(prefixes, p) {
			return nil, fmt.Errorf("CIDR %q is named twice: want it once", arg)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// parsePrefix reads a CIDR, or an address for the CIDR that holds it alone.
func parsePrefix(arg string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(arg); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(arg)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("bad address or CIDR %q: want one such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32", arg)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("bad CIDR %q: it has bits set behind its length; did you mean %q?", arg, p.Masked())
	}
	return p, nil
}

// wrongCount says that an option has too many or too few arguments.
func wrongCount(args []string, want string) error {
	found := "nothing"
	if len(args) > 0 {
		found = fmt.Sprintf("%q", args)
	}
	return fmt.Errorf("found %s: want %s", found, want)
}

// unknownWord says that a word is none of those allowed, and which one may have been meant.
func unknownWord(kind, word string, allowed []string) error {
	msg := fmt.Sprintf("unknown %s %q: want %s", kind, word, list(allowed))
	nearest := slices.MinFunc(allowed, func(a, b string) int {
		return levenshtein.Distance(word, a, nil) - levenshtein.Distance(word, b, nil)
	})
	if levenshtein.Distance(word, nearest, nil) <= 1+len(word)/4 {
		msg += fmt.Sprintf("; did you mean %q?", nearest)
	}
	return errors.New(msg)
}

// list joins words: "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

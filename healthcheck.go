// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/idle"
	"github.com/seed-f1518d44/balance/internal/probe"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// checkStanza is a health_check while it is read.
type checkStanza struct {
	*check
	*stanza

	port             uint16
	urlPath, service string
	name             string
	qtype            uint16
	host             string
	header           http.Header
	method           string
	expect           []probe.StatusRange
	body             string
	regex            *regexp.Regexp
	send, receive    string
	tls              *probe.TLS
	insecure         bool
	source           netip.Addr
	held             bool
}

// protocol is the first word behind health_check.
type protocol struct {
	arguments func(s *checkStanza, args []string) error
	options   []string // beyond those that all have
	build     func(s *checkStanza) (*probe.Check, error)
}

// protocols are the words that may stand behind health_check. A new one is a file in internal/probe
// and a line here.
var protocols = map[string]protocol{
	"tcp":   {portArguments, []string{"send", "receive", "host", "tls", "tls_insecure", "hold"}, buildTCP},
	"http":  {pathArguments, httpOptions, buildHTTP},
	"https": {pathArguments, append([]string{"tls", "tls_insecure"}, httpOptions...), buildHTTPS},
	"grpc":  {serviceArguments, []string{"host", "tls", "tls_insecure", "hold"}, buildGRPC},
	"dns":   {nameArguments, nil, buildDNS},
	"icmp":  {noArguments, nil, buildICMP},
}

var httpOptions = []string{"host", "header", "method", "expect", "body", "body_regex", "hold"}

// checkOption reads the arguments of an option in the block of a health_check.
type checkOption struct {
	parse      func(s *checkStanza, args []string) error
	repeatable bool
}

// commonCheckOptions are those that every protocol has.
var commonCheckOptions = map[string]checkOption{
	"allow":         {parse: parseAllow, repeatable: true},
	"watch":         {parse: parseWatch, repeatable: true},
	"interval":      durationOption(func(s *checkStanza) *time.Duration { return &s.timing.interval }),
	"timeout":       durationOption(func(s *checkStanza) *time.Duration { return &s.timing.timeout }),
	"fast_interval": durationOption(func(s *checkStanza) *time.Duration { return &s.timing.fast }),
	"max_interval":  durationOption(func(s *checkStanza) *time.Duration { return &s.timing.maxInterval }),
	"rise":          numberOption(100, func(s *checkStanza) *int { return &s.timing.rise }),
	"fall":          numberOption(100, func(s *checkStanza) *int { return &s.timing.fall }),
	"max_endpoints": numberOption(1_000_000, func(s *checkStanza) *int { return &s.maxEndpoints }),
	"max_in_flight": numberOption(10_000, func(s *checkStanza) *int { return &s.maxInFlight }),
	"source":        {parse: parseSource},
}

// protocolCheckOptions are those that some protocols have.
var protocolCheckOptions = map[string]checkOption{
	"host":         textOption("a name", func(s *checkStanza) *string { return &s.host }),
	"header":       {parse: parseHeader, repeatable: true},
	"method":       textOption("GET or HEAD", func(s *checkStanza) *string { return &s.method }),
	"expect":       {parse: parseExpect},
	"body":         textOption("a text", func(s *checkStanza) *string { return &s.body }),
	"body_regex":   {parse: parseBodyRegex},
	"send":         escapedOption(func(s *checkStanza) *string { return &s.send }),
	"receive":      escapedOption(func(s *checkStanza) *string { return &s.receive }),
	"tls":          {parse: parseTLS},
	"tls_insecure": {parse: parseTLSInsecure},
	"hold":         {parse: parseHold},
}

// What a health_check has unless it says otherwise.
const (
	defaultInterval     = 5 * time.Second
	defaultTimeout      = 2 * time.Second
	defaultFastInterval = time.Second
	defaultMaxInterval  = 30 * time.Second
	defaultRise         = 2
	defaultFall         = 3
	defaultMaxEndpoints = 10_000
	defaultMaxInFlight  = 256
)

// parseHealthCheck reads "health_check PROTOCOL ... { ... }".
func parseHealthCheck(s *stanza, args []string) error {
	names := slices.Sorted(maps.Keys(protocols))
	if len(args) == 0 {
		return wrongCount(args, "one of "+list(names))
	}
	p, ok := protocols[args[0]]
	if !ok {
		return unknownWord("protocol", args[0], names)
	}
	c := &checkStanza{stanza: s, check: &check{maxEndpoints: defaultMaxEndpoints, maxInFlight: defaultMaxInFlight}}
	if err := p.arguments(c, args[1:]); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if err := c.parseBlock(args[0], p); err != nil {
		return err
	}
	if err := c.complete(); err != nil {
		return err
	}
	prober, err := p.build(c)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	for _, other := range s.checks {
		both := slices.ContainsFunc(other.allow, func(p netip.Prefix) bool { return slices.Contains(c.allow, p) })
		if both && other.Key() == prober.Key() {
			return fmt.Errorf("%s: the same check of the same addresses is given twice: want it once", args[0])
		}
	}
	c.prober = prober
	if c.held {
		c.hold = heldLine{c.port, c.source}.open
	}
	s.checks = append(s.checks, c.check)
	return nil
}

// parseBlock reads the options of a health_check.
func (s *checkStanza) parseBlock(name string, p protocol) error {
	allowed := maps.Clone(commonCheckOptions)
	for _, option := range p.options {
		allowed[option] = protocolCheckOptions[option]
	}
	seen, opening := make(map[string]int), s.at
	for _, line := range s.block {
		s.at = line.number
		o, ok := allowed[line.words[0]]
		if !ok {
			return s.unknownCheckOption(name, line.words[0], allowed)
		}
		if first, again := seen[line.words[0]]; again && !o.repeatable {
			return fmt.Errorf("%s: given on line %d already: want it once", line.words[0], first)
		}
		seen[line.words[0]] = line.number
		if err := o.parse(s, line.words[1:]); err != nil {
			return fmt.Errorf("%s: %w", line.words[0], err)
		}
	}
	s.at = opening
	return nil
}

// unknownCheckOption says which options a protocol has, and whether another one has what was found.
func (s *checkStanza) unknownCheckOption(name, option string, allowed map[string]checkOption) error {
	if _, elsewhere := protocolCheckOptions[option]; elsewhere {
		return fmt.Errorf("%s: not for %s: want it with %s", option, name, list(protocolsWith(option)))
	}
	return unknownWord("option", option, slices.Sorted(maps.Keys(allowed)))
}

func protocolsWith(option string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(protocols)) {
		if slices.Contains(protocols[name].options, option) {
			names = append(names, name)
		}
	}
	return names
}

// complete fills in what was not said, and checks what goes together.
func (s *checkStanza) complete() error {
	t := &s.timing
	setDefault(&t.interval, defaultInterval)
	setDefault(&t.timeout, min(defaultTimeout, t.interval/2))
	setDefault(&t.fast, min(defaultFastInterval, t.interval))
	setDefault(&t.maxInterval, max(defaultMaxInterval, t.interval))
	setDefault(&t.rise, defaultRise)
	setDefault(&t.fall, defaultFall)
	switch {
	case len(s.allow) == 0:
		return errors.New(`no allow: want "allow CIDR..." in the block, for nothing outside is ever probed`)
	case t.timeout >= t.interval:
		return fmt.Errorf("timeout %v is not below interval %v: want it shorter", t.timeout, t.interval)
	case t.fast > t.interval:
		return fmt.Errorf("fast_interval %v is above interval %v: want it at most that", t.fast, t.interval)
	case t.maxInterval < t.interval:
		return fmt.Errorf("max_interval %v is below interval %v: want it at least that", t.maxInterval, t.interval)
	}
	return nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

func durationOption(field func(*checkStanza) *time.Duration) checkOption {
	const shortest, longest = 10 * time.Millisecond, 24 * time.Hour
	return checkOption{parse: func(s *checkStanza, args []string) error {
		if len(args) != 1 {
			return wrongCount(args, "one duration")
		}
		d, err := time.ParseDuration(args[0])
		if err != nil || d < shortest || d > longest {
			return fmt.Errorf("bad duration %q: want one such as 5s, from %v to %v", args[0], shortest, longest)
		}
		*field(s) = d
		return nil
	}}
}

// numberOption reads a number from 1 to high.
func numberOption(high uint32, field func(*checkStanza) *int) checkOption {
	return checkOption{parse: func(s *checkStanza, args []string) error {
		if len(args) != 1 {
			return wrongCount(args, "one number")
		}
		n, err := parseNumber(args[0], 1, high)
		*field(s) = int(n)
		return err
	}}
}

func textOption(what string, field func(*checkStanza) *string) checkOption {
	return checkOption{parse: func(s *checkStanza, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return wrongCount(args, what+", in quotes where it has spaces")
		}
		*field(s) = args[0]
		return nil
	}}
}

// escapedOption reads a text in which a backslash begins an escape as in Go, for a Corefile cannot
// hold a carriage return: \r, \n, \t, \x00, \\.
func escapedOption(field func(*checkStanza) *string) checkOption {
	return checkOption{parse: func(s *checkStanza, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return wrongCount(args, "a text, in quotes where it has spaces")
		}
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[0], `"`, `\"`) + `"`)
		if err != nil {
			return fmt.Errorf(`bad text %q: want escapes such as \r, \n, \x00 and \\`, args[0])
		}
		*field(s) = text
		return nil
	}}
}

func parseAllow(s *checkStanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "at least one CIDR of endpoints")
	}
	allow, err := parsePrefixes(args)
	for _, p := range allow {
		if slices.Contains(s.allow, p) {
			return fmt.Errorf("%q is allowed twice: want it once", cidr.Word(p))
		}
	}
	s.allow = append(s.allow, allow...)
	return err
}

func parseWatch(s *checkStanza, args []string) error {
	if len(args) == 0 {
		return wrongCount(args, "at least one domain name")
	}
	for _, arg := range args {
		name := weights.Spell(plugin.Name(arg).Normalize())
		if _, ok := dns.IsDomainName(arg); !ok || strings.Contains(arg, "/") {
			return fmt.Errorf("bad domain name %q: want one such as www.example.org", arg)
		}
		if plugin.Zones(s.zones).Matches(name) == "" {
			return fmt.Errorf("name %q lies outside the zones of this stanza: want one at or under %s", name, list(s.zones))
		}
		if slices.Contains(s.watch, name) {
			return fmt.Errorf("name %q is watched twice: want it once", name)
		}
		s.watch = append(s.watch, name)
	}
	return nil
}

func parseSource(s *checkStanza, args []string) error {
	if len(args) != 1 {
		return wrongCount(args, "one address of this host")
	}
	var err error
	s.source, err = parseAddress(args[0])
	return err
}

func parseHeader(s *checkStanza, args []string) error {
	if len(args) != 2 {
		return wrongCount(args, "a name and a value, in quotes where it has spaces")
	}
	if s.header == nil {
		s.header = make(http.Header)
	}
	s.header.Add(args[0], args[1])
	return nil
}

// parseExpect reads "expect 200-299[,N|N-M...]".
func parseExpect(s *checkStanza, args []string) error {
	if len(args) != 1 {
		return wrongCount(args, "statuses such as 200-299,404")
	}
	for word := range strings.SplitSeq(args[0], ",") {
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil || a < 100 || b > 599 || a > b {
			return fmt.Errorf("bad status %q: want a number from 100 to 599 or a range such as 200-299", word)
		}
		s.expect = append(s.expect, probe.StatusRange{First: int(a), Last: int(b)}) //nolint:gosec // small
	}
	return nil
}

func parseBodyRegex(s *checkStanza, args []string) error {
	if len(args) != 1 {
		return wrongCount(args, "one regular expression (RE2), in quotes where it has spaces")
	}
	regex, err := regexp.Compile(args[0])
	if err != nil {
		return fmt.Errorf("bad regular expression %q: want RE2: %s", args[0], strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	s.regex = regex
	return nil
}

// parseTLS reads "tls [CERT KEY] [CA]".
func parseTLS(s *checkStanza, args []string) error {
	s.tls = &probe.TLS{}
	switch len(args) {
	case 0:
	case 1:
		s.tls.CAFile = s.path(args[0])
	case 2, 3:
		s.tls.CertFile, s.tls.KeyFile = s.path(args[0]), s.path(args[1])
		if len(args) == 3 {
			s.tls.CAFile = s.path(args[2])
		}
	default:
		return wrongCount(args, "nothing, a file of issuers, or a certificate, its key and perhaps issuers")
	}
	return nil
}

func parseTLSInsecure(s *checkStanza, args []string) error {
	s.insecure = true
	return noArguments(s, args)
}

// parseHold reads "hold".
func parseHold(s *checkStanza, args []string) error {
	if !idle.Supported {
		return idle.ErrUnsupported
	}
	s.held = true
	return noArguments(s, args)
}

// secured returns the TLS options; nil for none where TLS has to be asked for.
func (s *checkStanza) secured(always bool) (*probe.TLS, error) {
	if s.tls == nil && !always {
		if s.insecure {
			return nil, errors.New(`tls_insecure without TLS: want "tls" too`)
		}
		return nil, nil //nolint:nilnil // no TLS, no error
	}
	t := probe.TLS{Insecure: s.insecure}
	if s.tls != nil {
		t = *s.tls
		t.Insecure = s.insecure
	}
	return &t, nil
}

func noArguments(_ *checkStanza, args []string) error {
	if len(args) != 0 {
		return wrongCount(args, "nothing behind it")
	}
	return nil
}

func portArguments(s *checkStanza, args []string) error {
	if len(args) != 1 {
		return wrongCount(args, "a port")
	}
	return s.parsePort(args[0])
}

func (s *checkStanza) parsePort(arg string) error {
	port, err := parseNumber(arg, 1, math.MaxUint16)
	if err != nil {
		return fmt.Errorf("bad port %q: want a whole number from 1 to %d", arg, math.MaxUint16)
	}
	s.port = uint16(port) //nolint:gosec // checked
	return nil
}

// portAnd returns a function that reads a port and perhaps one more word.
func portAnd(what string, more func(s *checkStanza) *string) func(*checkStanza, []string) error {
	return func(s *checkStanza, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return wrongCount(args, "a port and perhaps "+what)
		}
		if len(args) == 2 {
			*more(s) = args[1]
		}
		return s.parsePort(args[0])
	}
}

var (
	pathArguments    = portAnd("a path", func(s *checkStanza) *string { return &s.urlPath })
	serviceArguments = portAnd("a service", func(s *checkStanza) *string { return &s.service })
)

// nameArguments reads "PORT [NAME [TYPE]]".
func nameArguments(s *checkStanza, args []string) error {
	if len(args) < 1 || len(args) > 3 {
		return wrongCount(args, "a port, and perhaps a domain name and a type")
	}
	if len(args) > 1 {
		s.name = args[1]
	}
	if len(args) > 2 {
		qtype, ok := dns.StringToType[strings.ToUpper(args[2])]
		if !ok {
			return fmt.Errorf("unknown type %q: want one such as A, AAAA or SOA", args[2])
		}
		s.qtype = qtype
	}
	return s.parsePort(args[0])
}

func buildTCP(s *checkStanza) (*probe.Check, error) {
	t, err := s.secured(false)
	if err != nil {
		return nil, err
	}
	return probe.NewTCP(probe.TCP{Port: s.port, Send: s.send, Receive: s.receive, Host: s.host, TLS: t, Source: s.source})
}

func buildHTTP(s *checkStanza) (*probe.Check, error) { return probe.NewHTTP(s.http(nil)) }

func buildHTTPS(s *checkStanza) (*probe.Check, error) {
	t, err := s.secured(true)
	if err != nil {
		return nil, err
	}
	return probe.NewHTTP(s.http(t))
}

func (s *checkStanza) http(t *probe.TLS) probe.HTTP {
	return probe.HTTP{
		Port: s.port, Path: s.urlPath, Host: s.host, Header: s.header, Method: s.method, Expect: s.expect,
		Body: s.body, BodyRegex: s.regex, TLS: t, Source: s.source,
	}
}

func buildGRPC(s *checkStanza) (*probe.Check, error) {
	t, err := s.secured(false)
	if err != nil {
		return nil, err
	}
	return probe.NewGRPC(probe.GRPC{Port: s.port, Service: s.service, Host: s.host, TLS: t, Source: s.source})
}

func buildDNS(s *checkStanza) (*probe.Check, error) {
	return probe.NewDNS(probe.DNS{Port: s.port, Name: s.name, Type: s.qtype, Source: s.source})
}

func buildICMP(s *checkStanza) (*probe.Check, error) {
	return probe.NewICMP(probe.ICMP{Source: s.source})
}

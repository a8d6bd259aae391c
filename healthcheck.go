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
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/probe"

	"github.com/miekg/dns"
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
	c := &checkStanza{stanza: s, check: &check{Check: health.Check{MaxEndpoints: defaultMaxEndpoints, MaxInFlight: defaultMaxInFlight}}}
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
	c.Prober = prober
	if c.held {
		c.Hold = &health.Hold{Port: c.port, Source: c.source}
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
	seen, opening, file := make(map[string]int), s.at, s.in
	for _, line := range s.block {
		s.at, s.in = line.number, line.file
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
	s.at, s.in = opening, file
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
	t := &s.Timing
	setDefault(&t.Interval, defaultInterval)
	setDefault(&t.Timeout, min(defaultTimeout, t.Interval/2))
	setDefault(&t.FastInterval, min(defaultFastInterval, t.Interval))
	setDefault(&t.MaxInterval, max(defaultMaxInterval, t.Interval))
	setDefault(&t.Rise, defaultRise)
	setDefault(&t.Fall, defaultFall)
	switch {
	case len(s.allow) == 0:
		return errors.New(`no allow: want "allow CIDR..." in the block, for nothing outside is ever probed`)
	case t.Timeout >= t.Interval:
		return fmt.Errorf("timeout %v is not below interval %v: want it shorter", t.Timeout, t.Interval)
	case t.FastInterval > t.Interval:
		return fmt.Errorf("fast_interval %v is above interval %v: want it at most that", t.FastInterval, t.Interval)
	case t.MaxInterval < t.Interval:
		return fmt.Errorf("max_interval %v is below interval %v: want it at least that", t.MaxInterval, t.Interval)
	}
	return nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
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

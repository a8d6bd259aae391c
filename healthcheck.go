// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/probe"
	"github.com/seed-f1518d44/balance/internal/text"

	"github.com/miekg/dns"
)

// protocol is the first word behind health_check.
type protocol struct {
	usage     string // the arguments behind the word
	arguments func(args []string) (checkArguments, error)
	options   []string // beyond those that all have
	build     func(d *checkDraft) (*probe.Check, error)
}

// protocols are the words that may stand behind health_check. A new one is a file in internal/probe
// and a line here.
var protocols = map[string]protocol{
	"tcp":   {"PORT|srv", parsePortOrSRV, []string{"ports", "send", "receive", "proxy", "host", "tls", "tls_insecure", "hold"}, buildTCP},
	"http":  {"PORT|srv [PATH]", parsePath, httpOptions, buildHTTP},
	"https": {"PORT|srv [PATH]", parsePath, append([]string{"tls", "tls_insecure"}, httpOptions...), buildHTTPS},
	"grpc":  {"PORT|srv [SERVICE]", parseService, []string{"ports", "proxy", "host", "tls", "tls_insecure", "hold"}, buildGRPC},
	"udp":   {"PORT|srv", parsePortOrSRV, []string{"ports", "send", "receive"}, buildUDP},
	"agent": {"PORT", parsePort, []string{"send", "proxy"}, buildAgent},
	"dns":   {"PORT [NAME [TYPE]]", parseQuestion, nil, buildDNS},
	"icmp":  {"", parseNoPort, nil, buildICMP},
}

var httpOptions = []string{"ports", "host", "header", "method", "expect", "body", "body_regex", "http2", "proxy", "hold"}

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

// readHealthCheck reads "health_check PROTOCOL ... { ... }".
func readHealthCheck(s *stanza, l *line) error {
	if len(l.args) == 0 {
		return fmt.Errorf("found nothing: want %s", text.List(protocolNames()))
	}
	name := l.args[0]
	p, ok := protocols[name]
	if !ok {
		return text.Unknown("protocol", name, protocolNames())
	}
	d := &checkDraft{zones: s.rule.zones, root: s.root, maxEndpoints: defaultMaxEndpoints, maxInFlight: defaultMaxInFlight}
	var err error
	if d.arguments, err = p.arguments(l.args[1:]); err != nil {
		return fmt.Errorf("%s: %w", name, wanting(err, name, p.usage))
	}
	allowed := slices.DeleteFunc(slices.Clone(checkOptions), func(o option[checkDraft]) bool { return !p.takes(o.name) })
	unknown := func(option string) error { return unknownCheckOption(name, option, optionNames(allowed), s.words) }
	if d.at, err = readOptions(d, l.block, allowed, unknown); err != nil {
		return err
	}
	if err := d.validate(); err != nil {
		return err
	}
	return s.addCheck(name, p, d, l.at)
}

// takes reports whether the protocol has an option.
func (p *protocol) takes(option string) bool {
	return !slices.Contains(someProtocols, option) || slices.Contains(p.options, option)
}

// unknownCheckOption says which options a protocol has, or which other protocols or stanzas have
// what was found.
func unknownCheckOption(protocol, option string, allowed, ofStanza []string) error {
	switch {
	case slices.Contains(someProtocols, option):
		return fmt.Errorf("%s: not for %s: want it with %s", option, protocol, text.List(protocolsWith(option)))
	case slices.Contains(ofStanza, option):
		return fmt.Errorf("%s: found in the block of a health_check: is the \"}\" of that missing before it?", option)
	}
	return text.Unknown("option", option, allowed)
}

func protocolNames() []string { return slices.Sorted(maps.Keys(protocols)) }

func protocolsWith(option string) []string {
	return slices.DeleteFunc(protocolNames(), func(name string) bool { return !slices.Contains(protocols[name].options, option) })
}

// parseRequire reads "require all|any|N". It returns 0 for all.
func parseRequire(args []string) (int, error) {
	if len(args) != 1 {
		return 0, wrongCount(args)
	}
	switch args[0] {
	case "all":
		return 0, nil
	case "any":
		return 1, nil
	}
	n, err := parseNumber(args[0], 1, math.MaxUint16)
	if err != nil {
		return 0, fmt.Errorf("bad number %q: want all, any or a whole number from 1", args[0])
	}
	return int(n), nil
}

// addCheck makes the check that a draft describes and adds it to the rule.
func (s *stanza) addCheck(name string, p protocol, d *checkDraft, at position) error {
	prober, err := p.build(d)
	if err != nil {
		return d.located(name, err)
	}
	for _, other := range s.rule.checks {
		both := slices.ContainsFunc(other.allow, func(p netip.Prefix) bool { return slices.Contains(d.allow, p) })
		if both && other.Key() == prober.Key() {
			return fmt.Errorf("%s: the same check of the same addresses is given twice: want it once", name)
		}
	}
	if d.tls != nil {
		files, err := newCredentialFiles(s.rule.usesFiles(), d.tls.Files)
		if err != nil {
			return d.errorf("tls", "%w", err)
		}
		s.rule.secrets = append(s.rule.secrets, files...)
	}
	c := d.check(prober)
	c.at, c.agent = at, name == "agent"
	c.loads = slices.Contains([]string{"agent", "http", "https"}, name)
	s.rule.checks = append(s.rule.checks, c)
	return nil
}

// checkDraft is a health_check while it is read.
type checkDraft struct {
	zones []string            // of the stanza
	root  string              // the directory that the names of files are relative to
	at    map[string]position // the first line of each option

	arguments                 checkArguments
	allow                     []netip.Prefix
	ports                     []health.PortRange
	watch                     []string
	timing                    health.Timing
	maxEndpoints, maxInFlight int
	source                    netip.Addr
	hold                      bool
	tls                       *probe.TLS // nil without the option
	insecure                  bool
	host, send, receive       string
	proxy                     probe.Proxy
	http                      probe.HTTP // what only HTTP has
}

// check returns the check that the draft describes.
func (d *checkDraft) check(prober *probe.Check) *check {
	c := &check{
		Check: health.Check{Prober: prober, Timing: d.timing, MaxEndpoints: d.maxEndpoints, MaxInFlight: d.maxInFlight},
		allow: d.allow, ports: d.ports, watch: d.watch,
	}
	if d.hold {
		c.Hold = &health.Hold{Port: d.arguments.port, Source: d.source}
	}
	return c
}

// validate fills in defaults, and returns an error if options do not go together.
func (d *checkDraft) validate() error {
	t := &d.timing
	setDefault(&t.Interval, defaultInterval)
	setDefault(&t.Timeout, min(defaultTimeout, t.Interval/2))
	setDefault(&t.FastInterval, min(defaultFastInterval, t.Interval))
	setDefault(&t.MaxInterval, max(defaultMaxInterval, t.Interval))
	setDefault(&t.Rise, defaultRise)
	setDefault(&t.Fall, defaultFall)
	switch {
	case len(d.allow) == 0:
		return errors.New(`no allow: want "allow CIDR..." in the block, because nothing outside it is ever probed`)
	case d.arguments.srv && len(d.ports) == 0:
		return errors.New(`srv without ports: want "ports N|N-M..." in the block, because no other port that a record names is ever probed`)
	case !d.arguments.srv && len(d.ports) > 0:
		return d.errorf("ports", `found beside a port: want "srv" in its place, or no ports`)
	case t.Timeout >= t.Interval:
		return d.errorf("timeout", "%v is not below interval %v: want it shorter", t.Timeout, t.Interval)
	case t.FastInterval > t.Interval:
		return d.errorf("fast_interval", "%v is above interval %v: want it at most that", t.FastInterval, t.Interval)
	case t.MaxInterval < t.Interval:
		return d.errorf("max_interval", "%v is below interval %v: want it at least that", t.MaxInterval, t.Interval)
	}
	return nil
}

// errorf returns an error about an option that was given.
func (d *checkDraft) errorf(option, format string, args ...any) error {
	return &lineError{d.at[option], fmt.Errorf(option+": "+format, args...)}
}

// located adds the line of the wrong option to an error of package probe, which starts with the
// name of that option or argument.
func (d *checkDraft) located(protocol string, err error) error {
	option, _, _ := strings.Cut(err.Error(), ":")
	if at, ok := d.at[option]; ok {
		return &lineError{at, err}
	}
	return fmt.Errorf("%s: %w", protocol, err)
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// secured returns the TLS options. It returns nil if the check is without TLS.
func (d *checkDraft) secured(always bool) (*probe.TLS, error) {
	switch {
	case d.tls != nil:
		t := *d.tls
		t.Insecure = d.insecure
		return &t, nil
	case always:
		return &probe.TLS{Insecure: d.insecure}, nil
	case d.insecure:
		return nil, errors.New(`tls_insecure: without TLS: want "tls" too`)
	}
	return nil, nil //nolint:nilnil // no TLS, no error
}

// checkArguments are those behind the protocol of a health_check.
type checkArguments struct {
	port    uint16
	srv     bool // the records name the ports
	path    string
	service string
	name    string
	qtype   uint16
}

func parseNoPort(args []string) (a checkArguments, err error) {
	_, err = parseNothing(args)
	return a, err
}

// parsePort reads "PORT".
func parsePort(args []string) (a checkArguments, err error) {
	if len(args) != 1 {
		return a, wrongCount(args)
	}
	port, err := parseNumber(args[0], 1, math.MaxUint16)
	if err != nil {
		return a, fmt.Errorf("bad port %q: want a whole number from 1 to %d", args[0], math.MaxUint16)
	}
	a.port = uint16(port)
	return a, nil
}

// parsePortOrSRV reads "PORT|srv".
func parsePortOrSRV(args []string) (a checkArguments, err error) {
	if len(args) == 1 && args[0] == "srv" {
		return checkArguments{srv: true}, nil
	}
	if a, err = parsePort(args); err != nil && len(args) == 1 {
		err = fmt.Errorf("%w, or srv", err)
	}
	return a, err
}

// parsePortAnd reads "PORT|srv [WORD]".
func parsePortAnd(args []string) (a checkArguments, word string, err error) {
	if len(args) < 1 || len(args) > 2 {
		return a, "", wrongCount(args)
	}
	if len(args) == 2 {
		word = args[1]
	}
	a, err = parsePortOrSRV(args[:1])
	return a, word, err
}

// parsePath reads "PORT|srv [PATH]".
func parsePath(args []string) (a checkArguments, err error) {
	a, path, err := parsePortAnd(args)
	a.path = path
	return a, err
}

// parseService reads "PORT|srv [SERVICE]".
func parseService(args []string) (a checkArguments, err error) {
	a, service, err := parsePortAnd(args)
	a.service = service
	return a, err
}

// parseQuestion reads "PORT [NAME [TYPE]]".
func parseQuestion(args []string) (a checkArguments, err error) {
	if len(args) < 1 || len(args) > 3 {
		return a, wrongCount(args)
	}
	if a, err = parsePort(args[:1]); err != nil {
		return a, err
	}
	if len(args) > 1 {
		a.name = args[1]
	}
	if len(args) > 2 {
		qtype, ok := dns.StringToType[strings.ToUpper(args[2])]
		if !ok {
			return a, fmt.Errorf("unknown type %q: want one such as A, AAAA or SOA", args[2])
		}
		a.qtype = qtype
	}
	return a, nil
}

func buildTCP(d *checkDraft) (*probe.Check, error) {
	t, err := d.secured(false)
	if err != nil {
		return nil, err
	}
	return probe.NewTCP(probe.TCP{Port: d.arguments.port, Send: d.send, Receive: d.receive, Proxy: d.proxy, Host: d.host, TLS: t, Source: d.source})
}

func buildHTTP(d *checkDraft) (*probe.Check, error) { return d.buildHTTP(nil) }

func buildHTTPS(d *checkDraft) (*probe.Check, error) {
	t, err := d.secured(true)
	if err != nil {
		return nil, err
	}
	return d.buildHTTP(t)
}

func (d *checkDraft) buildHTTP(t *probe.TLS) (*probe.Check, error) {
	o := d.http
	o.Port, o.Path, o.Proxy, o.Host, o.TLS, o.Source = d.arguments.port, d.arguments.path, d.proxy, d.host, t, d.source
	return probe.NewHTTP(o)
}

func buildGRPC(d *checkDraft) (*probe.Check, error) {
	t, err := d.secured(false)
	if err != nil {
		return nil, err
	}
	return probe.NewGRPC(probe.GRPC{Port: d.arguments.port, Service: d.arguments.service, Proxy: d.proxy, Host: d.host, TLS: t, Source: d.source})
}

func buildDNS(d *checkDraft) (*probe.Check, error) {
	return probe.NewDNS(probe.DNS{Port: d.arguments.port, Name: d.arguments.name, Type: d.arguments.qtype, Source: d.source})
}

func buildUDP(d *checkDraft) (*probe.Check, error) {
	return probe.NewUDP(probe.UDP{Port: d.arguments.port, Send: d.send, Receive: d.receive, Source: d.source})
}

func buildAgent(d *checkDraft) (*probe.Check, error) {
	return probe.NewAgent(probe.Agent{Port: d.arguments.port, Send: d.send, Proxy: d.proxy, Source: d.source})
}

func buildICMP(d *checkDraft) (*probe.Check, error) {
	return probe.NewICMP(probe.ICMP{Source: d.source})
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/idle"
	"github.com/seed-f1518d44/balance/internal/probe"
	"github.com/seed-f1518d44/balance/internal/text"

	"github.com/coredns/coredns/plugin"
)

// checkOptions are the words in the block of a health_check. A new option is a parse function, a
// line here and golden files in testdata/corefile.
var checkOptions = []option[checkDraft]{
	{name: "allow", usage: "CIDR...", repeats: true, read: add(parsePrefixes, (*checkDraft).addAllowed)},
	{name: "ports", usage: "N|N-M...", repeats: true, read: add(parsePorts, (*checkDraft).addPorts)},
	{name: "watch", usage: "NAME...", repeats: true, read: add(parseNames, (*checkDraft).addWatched)},
	{name: "interval", usage: "DURATION",
		read: set(parseDuration, func(d *checkDraft, v time.Duration) { d.timing.Interval = v })},
	{name: "timeout", usage: "DURATION",
		read: set(parseDuration, func(d *checkDraft, v time.Duration) { d.timing.Timeout = v })},
	{name: "fast_interval", usage: "DURATION",
		read: set(parseDuration, func(d *checkDraft, v time.Duration) { d.timing.FastInterval = v })},
	{name: "max_interval", usage: "DURATION",
		read: set(parseDuration, func(d *checkDraft, v time.Duration) { d.timing.MaxInterval = v })},
	{name: "rise", usage: "N", read: set(parseCount(100), func(d *checkDraft, n int) { d.timing.Rise = n })},
	{name: "fall", usage: "N", read: set(parseCount(100), func(d *checkDraft, n int) { d.timing.Fall = n })},
	{name: "max_endpoints", usage: "N", read: set(parseCount(1_000_000), func(d *checkDraft, n int) { d.maxEndpoints = n })},
	{name: "max_in_flight", usage: "N", read: set(parseCount(10_000), func(d *checkDraft, n int) { d.maxInFlight = n })},
	{name: "source", usage: "ADDRESS", read: set(parseOneAddress, func(d *checkDraft, a netip.Addr) { d.source = a })},

	{name: "host", usage: "NAME", read: set(parseText, func(d *checkDraft, name string) { d.host = name })},
	{name: "header", usage: "NAME VALUE", repeats: true, read: set(parseHeader, (*checkDraft).addHeader)},
	{name: "method", usage: "GET|HEAD", read: set(parseText, func(d *checkDraft, m string) { d.http.Method = m })},
	{name: "expect", usage: "200-299[,N|N-M...]",
		read: set(parseExpect, func(d *checkDraft, r []probe.StatusRange) { d.http.Expect = r })},
	{name: "body", usage: "TEXT", read: set(parseText, func(d *checkDraft, text string) { d.http.Body = text })},
	{name: "body_regex", usage: "RE2",
		read: set(parseRegex, func(d *checkDraft, r *regexp.Regexp) { d.http.BodyRegex = r })},
	{name: "http2", read: set(parseNothing, func(d *checkDraft, given bool) { d.http.HTTP2 = given })},
	{name: "proxy", usage: "v1|v2", read: set(parseProxy, func(d *checkDraft, p probe.Proxy) { d.proxy = p })},
	{name: "send", usage: "TEXT", read: set(parseEscaped, func(d *checkDraft, text string) { d.send = text })},
	{name: "receive", usage: "TEXT", read: set(parseEscaped, func(d *checkDraft, text string) { d.receive = text })},
	{name: "tls", usage: "[CERT KEY] [CA]", read: set(parseTLS, (*checkDraft).setTLS)},
	{name: "tls_insecure", read: set(parseNothing, func(d *checkDraft, given bool) { d.insecure = given })},
	{name: "hold", read: set(parseHold, func(d *checkDraft, given bool) { d.hold = given })},
}

// someProtocols are the options that not all protocols have.
var someProtocols = []string{
	"ports", "host", "header", "method", "expect", "body", "body_regex", "http2", "proxy", "send", "receive", "tls", "tls_insecure",
	"hold",
}

func parseDuration(args []string) (time.Duration, error) {
	const shortest, longest = 10 * time.Millisecond, 24 * time.Hour
	if len(args) != 1 {
		return 0, wrongCount(args)
	}
	d, err := time.ParseDuration(args[0])
	if err != nil || d < shortest || d > longest {
		return 0, badDuration(args[0], "one such as 5s, from 10ms to 24h")
	}
	return d, nil
}

// parseEscaped reads a text in which a backslash begins an escape as in Go, because a Corefile
// cannot hold a carriage return: \r, \n, \t, \x00, \\.
func parseEscaped(args []string) (string, error) {
	text, err := parseText(args)
	if err != nil {
		return "", err
	}
	unescaped, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		return "", fmt.Errorf(`bad text %q: want escapes such as \r, \n, \x00 and \\`, text)
	}
	return unescaped, nil
}

// addAllowed adds ranges that may be probed.
func (d *checkDraft) addAllowed(allow []netip.Prefix) error {
	for _, p := range allow {
		if slices.Contains(d.allow, p) {
			return fmt.Errorf("%q is allowed twice: want it once", cidr.Word(p))
		}
	}
	d.allow = append(d.allow, allow...)
	return nil
}

// parsePorts reads at least one port or range of ports.
func parsePorts(args []string) (all []health.PortRange, err error) {
	if len(args) == 0 {
		return nil, wrongCount(args)
	}
	for _, arg := range args {
		first, last, isRange := strings.Cut(arg, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil || a < 1 || a > b {
			return nil, fmt.Errorf("bad port %q: want a number from 1 to 65535 or a range such as 8000-8099", arg)
		}
		all = append(all, health.PortRange{First: uint16(a), Last: uint16(b)})
	}
	return all, nil
}

// addPorts adds ports that records may name.
func (d *checkDraft) addPorts(more []health.PortRange) error {
	for _, r := range more {
		if slices.Contains(d.ports, r) {
			return fmt.Errorf("%s given twice: want it once", r)
		}
		d.ports = append(d.ports, r)
	}
	return nil
}

// addWatched adds names to watch.
func (d *checkDraft) addWatched(more []string) error {
	for _, name := range more {
		if plugin.Zones(d.zones).Matches(name) == "" {
			return fmt.Errorf("name %q lies outside the zones of this stanza: want one at or under %s", name, text.List(d.zones))
		}
		if slices.Contains(d.watch, name) {
			return fmt.Errorf("name %q is watched twice: want it once", name)
		}
		d.watch = append(d.watch, name)
	}
	return nil
}

func parseOneAddress(args []string) (netip.Addr, error) {
	if len(args) != 1 {
		return netip.Addr{}, wrongCount(args)
	}
	return parseAddress(args[0])
}

// header is a field of an HTTP request.
type header struct{ name, value string }

func parseHeader(args []string) (header, error) {
	if len(args) != 2 {
		return header{}, wrongCount(args)
	}
	_, err := probe.NewHTTP(probe.HTTP{Port: 1, Header: http.Header{args[0]: {args[1]}}})
	if err != nil {
		return header{}, errors.New(strings.TrimLeft(strings.TrimPrefix(err.Error(), "header"), ": "))
	}
	return header{args[0], args[1]}, nil
}

func (d *checkDraft) addHeader(h header) {
	if d.http.Header == nil {
		d.http.Header = make(http.Header)
	}
	d.http.Header.Add(h.name, h.value)
}

// parseExpect reads "expect 200-299[,N|N-M...]".
func parseExpect(args []string) (all []probe.StatusRange, err error) {
	if len(args) != 1 {
		return nil, wrongCount(args)
	}
	for word := range strings.SplitSeq(args[0], ",") {
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil || a < 100 || b > 599 || a > b {
			return nil, fmt.Errorf("bad status %q: want a number from 100 to 599 or a range such as 200-299", word)
		}
		all = append(all, probe.StatusRange{First: int(a), Last: int(b)})
	}
	return all, nil
}

func parseRegex(args []string) (*regexp.Regexp, error) {
	if len(args) != 1 {
		return nil, wrongCount(args)
	}
	regex, err := regexp.Compile(args[0])
	if err != nil {
		return nil, fmt.Errorf("bad regular expression %q: want RE2: %s", args[0], strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return regex, nil
}

// parseProxy reads "proxy v1|v2".
func parseProxy(args []string) (probe.Proxy, error) {
	if len(args) != 1 {
		return probe.NoProxy, wrongCount(args)
	}
	switch args[0] {
	case "v1":
		return probe.ProxyV1, nil
	case "v2":
		return probe.ProxyV2, nil
	}
	return probe.NoProxy, text.Unknown("version", args[0], []string{"v1", "v2"})
}

// parseTLS reads "tls [CERT KEY] [CA]". Relative paths stay so.
func parseTLS(args []string) (n credentialNames, err error) {
	if len(args) > 3 {
		return n, wrongCount(args)
	}
	if slices.Contains(args, "") {
		return n, errors.New(`found "": want a file`)
	}
	if len(args) > 1 {
		n.cert, n.key, args = args[0], args[1], args[2:]
	}
	if len(args) > 0 {
		n.ca = args[0]
	}
	return n, nil
}

func (d *checkDraft) setTLS(n credentialNames) {
	for _, file := range []*string{&n.cert, &n.key, &n.ca} {
		if *file != "" {
			*file = pathIn(d.root, *file)
		}
	}
	d.tls = &probe.TLS{Files: credentialsOf(n)}
}

// parseHold reads "hold".
func parseHold(args []string) (bool, error) {
	if !idle.Supported {
		return false, idle.ErrUnsupported
	}
	return parseNothing(args)
}

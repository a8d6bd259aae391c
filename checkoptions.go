// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/idle"
	"github.com/seed-f1518d44/balance/internal/names"
	"github.com/seed-f1518d44/balance/internal/probe"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// checkOption reads the arguments of an option in the block of a health_check.
type checkOption struct {
	parse      func(s *checkStanza, args []string) error
	repeatable bool
}

// commonCheckOptions are those that every protocol has.
var commonCheckOptions = map[string]checkOption{
	"allow":         {parse: parseAllow, repeatable: true},
	"watch":         {parse: parseWatch, repeatable: true},
	"interval":      durationOption(func(s *checkStanza) *time.Duration { return &s.Timing.Interval }),
	"timeout":       durationOption(func(s *checkStanza) *time.Duration { return &s.Timing.Timeout }),
	"fast_interval": durationOption(func(s *checkStanza) *time.Duration { return &s.Timing.FastInterval }),
	"max_interval":  durationOption(func(s *checkStanza) *time.Duration { return &s.Timing.MaxInterval }),
	"rise":          numberOption(100, func(s *checkStanza) *int { return &s.Timing.Rise }),
	"fall":          numberOption(100, func(s *checkStanza) *int { return &s.Timing.Fall }),
	"max_endpoints": numberOption(1_000_000, func(s *checkStanza) *int { return &s.MaxEndpoints }),
	"max_in_flight": numberOption(10_000, func(s *checkStanza) *int { return &s.MaxInFlight }),
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
		name := names.Spell(plugin.Name(arg).Normalize())
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

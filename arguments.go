// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/names"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// What options have in common: arguments that are read, and the sentences that say what was found
// and what is allowed.

// minPollInterval is the shortest time between two readings of a file.
const minPollInterval = 100 * time.Millisecond

// fileOption is a file that is read again and again.
type fileOption struct {
	path  string
	every time.Duration // 0: the file is read once
}

// parseFile returns how "FILE [DURATION]" is read. A relative path stays so.
func parseFile(otherwise time.Duration) func(args []string) (fileOption, error) {
	return func(args []string) (f fileOption, err error) {
		if len(args) < 1 || len(args) > 2 {
			return f, wrongCount(args)
		}
		if args[0] == "" {
			return f, errors.New(`found "": want a file`)
		}
		f = fileOption{args[0], otherwise}
		if len(args) == 2 {
			f.every, err = parseInterval(args[1])
		}
		return f, err
	}
}

// pathIn returns the path of a file that may be relative to a directory.
func pathIn(root, file string) string {
	if filepath.IsAbs(file) {
		return filepath.Clean(file)
	}
	return filepath.Join(root, file)
}

// parseNothing reads the arguments of an option that has none.
func parseNothing(args []string) (given bool, err error) {
	if len(args) > 0 {
		return false, wrongCount(args)
	}
	return true, nil
}

// parseText reads one text, which is not empty.
func parseText(args []string) (string, error) {
	if len(args) != 1 {
		return "", wrongCount(args)
	}
	if args[0] == "" {
		return "", errors.New(`found "": want a text`)
	}
	return args[0], nil
}

// parseCount returns how a number from 1 to high is read.
func parseCount(high uint32) func(args []string) (int, error) {
	return func(args []string) (int, error) {
		if len(args) != 1 {
			return 0, wrongCount(args)
		}
		n, err := parseNumber(args[0], 1, high)
		return int(n), err
	}
}

// parseInterval reads how often a file is to be read.
func parseInterval(arg string) (time.Duration, error) {
	d, err := time.ParseDuration(arg)
	if err != nil || d != 0 && d < minPollInterval {
		return 0, badDuration(arg, fmt.Sprintf("one such as 30s, at least %v, or 0 to read the file once", minPollInterval))
	}
	return d, nil
}

// badDuration returns an error for a word that is no duration, perhaps because it has no unit.
func badDuration(arg, want string) error {
	if n, err := strconv.ParseUint(arg, 10, 32); err == nil && n > 0 {
		return fmt.Errorf("bad duration %q: want %s; did you mean %q?", arg, want, arg+"s")
	}
	return fmt.Errorf("bad duration %q: want %s", arg, want)
}

// parseNumber reads a decimal number from low to high.
func parseNumber(arg string, low, high uint32) (uint32, error) {
	n, err := strconv.ParseUint(arg, 10, 32)
	if err != nil || uint32(n) < low || uint32(n) > high {
		return 0, fmt.Errorf("bad number %q: want a whole number from %d to %d", arg, low, high)
	}
	return uint32(n), nil
}

// parseAddress reads an address that is written in the one way that it has.
func parseAddress(arg string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(cidr.WithoutBrackets(arg))
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, fmt.Errorf("bad address %q: want one such as 192.0.2.1 or 2001:db8::1", arg)
	}
	return addr, nil
}

// parseAddresses reads addresses. Each may stand once.
func parseAddresses(args []string) (addrs []netip.Addr, err error) {
	for _, arg := range args {
		addr, err := parseAddress(arg)
		if err != nil {
			return nil, err
		}
		if slices.Contains(addrs, addr) {
			return nil, fmt.Errorf("address %q is named twice: want it once", arg)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// parsePrefixes reads at least one CIDR. Each may stand once.
func parsePrefixes(args []string) ([]netip.Prefix, error) {
	if len(args) == 0 {
		return nil, wrongCount(args)
	}
	var prefixes []netip.Prefix
	for _, arg := range args {
		p, err := cidr.Parse(arg)
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

// holderOf returns the index of the first of some CIDRs that another lies in, -1 if there is none.
func holderOf(prefixes []netip.Prefix, p netip.Prefix) int {
	return slices.IndexFunc(prefixes, func(holder netip.Prefix) bool { return holder.Bits() <= p.Bits() && holder.Contains(p.Addr()) })
}

// withoutCommas returns words that were written as a list with commas, and whether they were.
func withoutCommas(args []string) (words []string, found bool) {
	for _, arg := range args {
		words = append(words, strings.FieldsFunc(arg, func(r rune) bool { return r == ',' })...)
	}
	return words, strings.Contains(strings.Join(args, ""), ",")
}

// hintOn returns what may be meant by arguments that a parser refuses.
func hintOn(args []string, parse func(args []string) error) string {
	if words, found := withoutCommas(args); found && parse(words) == nil {
		return fmt.Sprintf("; did you mean %q, without commas?", strings.Join(words, " "))
	}
	if slices.Contains(args, "") {
		return "; is an environment variable not set?"
	}
	return ""
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

// parseNames reads at least one domain name. They are returned as answers spell them.
func parseNames(args []string) (all []string, err error) {
	if len(args) == 0 {
		return nil, wrongCount(args)
	}
	for _, arg := range args {
		if _, ok := dns.IsDomainName(arg); !ok || strings.ContainsAny(arg, "/,") {
			return nil, fmt.Errorf("bad domain name %q: want one such as www.example.org", arg)
		}
		all = append(all, names.Spell(plugin.Name(arg).Normalize()))
	}
	return all, nil
}

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

	"github.com/agext/levenshtein"

	"github.com/seed-f1518d44/balance/internal/cidr"
)

// What options have in common: arguments that are read, and the sentences that say what was found and
// what is allowed.

// minPollInterval is the shortest time between two readings of a file.
const minPollInterval = 100 * time.Millisecond

// fileArguments reads "FILE [DURATION]": where a file is and how often it is read.
func (s *stanza) fileArguments(args []string, otherwise time.Duration) (path string, every time.Duration, err error) {
	switch len(args) {
	case 1:
		return s.path(args[0]), otherwise, nil
	case 2:
		every, err = parseInterval(args[1])
		return s.path(args[0]), every, err
	}
	return "", 0, wrongCount(args, "a file and perhaps how often to read it")
}

// path returns where a file is.
func (s *stanza) path(file string) string {
	if filepath.IsAbs(file) {
		return filepath.Clean(file)
	}
	return filepath.Join(s.root, file)
}

// parseInterval reads how often a file is to be read.
func parseInterval(arg string) (time.Duration, error) {
	d, err := time.ParseDuration(arg)
	if err != nil || d != 0 && d < minPollInterval {
		return 0, fmt.Errorf("bad duration %q: want one such as 30s, at least %v, or 0 to read the file once", arg, minPollInterval)
	}
	return d, nil
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
	addr, err := netip.ParseAddr(arg)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, fmt.Errorf("bad address %q: want one such as 192.0.2.1 or 2001:db8::1", arg)
	}
	return addr, nil
}

// parsePrefixes reads CIDRs, each of which may stand once.
func parsePrefixes(args []string) ([]netip.Prefix, error) {
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

// holderOf returns the index of the first of some CIDRs that another lies in, -1 where there is none.
func holderOf(prefixes []netip.Prefix, p netip.Prefix) int {
	return slices.IndexFunc(prefixes, func(holder netip.Prefix) bool { return holder.Bits() <= p.Bits() && holder.Contains(p.Addr()) })
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

// distinct returns words without those that repeat an earlier one.
func distinct(words []string) (once []string) {
	for _, w := range words {
		if !slices.Contains(once, w) {
			once = append(once, w)
		}
	}
	return once
}

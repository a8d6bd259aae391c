// SPDX-License-Identifier: Apache-2.0

// Package names compares domain names, whatever case and escapes they are written with.
package names

import (
	"strings"

	"github.com/miekg/dns"
)

// Spell returns a domain name as the dns package spells one that it read from a message: in lower
// case, fully qualified, and with escapes (RFC 1035, section 5.1) only if they are needed. So
// \097.example.org becomes a.example.org. A name that cannot be packed keeps its escapes.
func Spell(name string) string {
	name = dns.CanonicalName(name)
	special := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`\'@;()"`, r) }
	if !strings.ContainsFunc(name, special) {
		return name
	}
	wire := make([]byte, 255)
	if _, err := dns.PackDomainName(name, wire, 0, nil, false); err != nil {
		return name
	}
	text, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return name
	}
	return strings.ToLower(text)
}

// Same reports whether two names are equal apart from their case (RFC 4343).
func Same(a, b string) bool { return a == b || strings.EqualFold(a, b) }

// InZone reports whether a fully qualified name is the zone's own or lies below it.
func InZone(name, zone string) bool {
	if zone == "." {
		return true
	}
	at := len(name) - len(zone)
	if at < 0 || !Same(name[at:], zone) {
		return false
	}
	return at == 0 || endsInDot(name[:at])
}

// endsInDot reports whether a prefix of a name ends in a dot between labels. After an odd number of
// backslashes the dot is part of a label.
func endsInDot(prefix string) bool {
	labels, isDot := strings.CutSuffix(prefix, ".")
	backslashes := len(labels) - len(strings.TrimRight(labels, `\`))
	return isDot && backslashes%2 == 0
}

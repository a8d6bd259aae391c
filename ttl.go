// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"hash/maphash"
	"math"
	"strings"

	"github.com/miekg/dns"
)

// ttlLimits is the option ttl. The zero value keeps TTLs.
type ttlLimits struct {
	limited  bool
	max      uint32 // seconds
	degraded uint32 // seconds; for answers that lack a member or fail open
}

// of returns the TTL that an RRset goes out with: never more than the lowest of its records', for
// RFC 2181, section 5.2 wants one TTL in an RRset and takes the lowest where they differ.
func (l ttlLimits) of(set *rrset, degraded bool) uint32 {
	if !l.limited {
		return set.ttl
	}
	return min(set.ttl, l.limit(degraded))
}

// limit returns the highest TTL that goes out, where TTLs are limited.
func (l ttlLimits) limit(degraded bool) uint32 {
	if degraded {
		return l.degraded
	}
	return l.max
}

// defaultCheckedTTL is MAX, in seconds, of a rule with a health_check.
const defaultCheckedTTL = 30

// defaultDegradedTTL is the TTL, in seconds, of answers that lack a member, where MAX is not lower.
const defaultDegradedTTL = 5

// relived is the addresses of a plan's members as records with the TTL of a rule's limit. Immutable.
type relived struct {
	owner   string
	records []dns.RR // of every member
}

// relived returns the records of set with another TTL, by member. They were made for an answer before, and go
// out for as long as they are what is wanted: an upstream's TTL is above the limit nearly all the time. It
// returns nil where they are not worth keeping: where RRsets share the plan, where the TTL is not the limit, which
// is another every second, and until the owner was wanted so spelled twice running, for some resolvers spell
// it anew in every query. The records of set stand in rrs in the order that p remembers.
func (p *plan) relived(set *rrset, rrs []dns.RR, ttl uint32) []dns.RR {
	m, limits := p.memory, p.rule.ttl
	if !set.holdsAddresses() || set.sealed || !set.alike || m.shared.Load() || !limits.limited || ttl != limits.limit(p.degraded) {
		return nil
	}
	known := m.relived.Load()
	if known != nil && known.owner == set.owner {
		return known.records
	}
	if h := maphash.String(memberSeed, set.owner); m.wanted.Swap(h) != h {
		return nil
	}
	next := &relived{owner: strings.Clone(set.owner), records: make([]dns.RR, len(p.members))}
	for i, slot := range set.slots {
		rr := dns.Copy(rrs[slot])
		h := rr.Header()
		h.Name, h.Ttl = next.owner, ttl
		next.records[p.remembered[i]] = rr
	}
	m.relived.Store(next)
	return next.records
}

// parseTTL reads "ttl MAX [DEGRADED]" and "ttl keep".
func parseTTL(args []string) (l ttlLimits, err error) {
	if len(args) == 1 && args[0] == "keep" {
		return l, nil
	}
	if len(args) < 1 || len(args) > 2 || args[0] == "keep" {
		return l, wrongCount(args)
	}
	limit, err := parseSeconds(args[0])
	if err != nil {
		return l, err
	}
	degraded := min(limit, defaultDegradedTTL)
	if len(args) == 2 {
		if degraded, err = parseSeconds(args[1]); err != nil {
			return l, err
		}
		if degraded > limit {
			return l, fmt.Errorf("DEGRADED %d is more than MAX %d: want it at most that", degraded, limit)
		}
	}
	return ttlLimits{limited: true, max: limit, degraded: degraded}, nil
}

func parseSeconds(arg string) (uint32, error) {
	n, err := parseNumber(arg, 0, math.MaxInt32)
	if err != nil {
		return 0, fmt.Errorf("bad TTL %q: want a whole number of seconds, from 0 to %d", arg, math.MaxInt32)
	}
	return n, nil
}

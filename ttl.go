// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// ttlLimits is the option ttl. The zero value keeps TTLs.
type ttlLimits struct {
	limited  bool
	max      uint32 // seconds
	degraded uint32 // seconds, for answers that lack a member or fail open
}

// of returns the TTL that an RRset goes out with. If the TTLs of its records differ, the lowest
// counts (RFC 2181, section 5.2).
func (l ttlLimits) of(set *rrset, degraded bool) uint32 {
	if !l.limited {
		return set.ttl
	}
	return min(set.ttl, l.limit(degraded))
}

// and returns the lower of two limits.
func (l ttlLimits) and(other ttlLimits) ttlLimits {
	switch {
	case !l.limited:
		return other
	case !other.limited:
		return l
	}
	return ttlLimits{limited: true, max: min(l.max, other.max), degraded: min(l.degraded, other.degraded)}
}

// limit returns the highest TTL that goes out, if TTLs are limited.
func (l ttlLimits) limit(degraded bool) uint32 {
	if degraded {
		return l.degraded
	}
	return l.max
}

// defaultCheckedTTL is MAX, in seconds, of a rule with a health_check.
const defaultCheckedTTL = 30

// defaultDegradedTTL is the TTL, in seconds, of answers that lack a member, if MAX is not lower.
const defaultDegradedTTL = 5

// loweredCache keeps the records of a plan with the TTL of the rule's limit, because an upstream's
// TTL is above the limit nearly always. Safe for concurrent use.
type loweredCache struct {
	kept   atomic.Pointer[loweredRecords]
	wanted atomic.Uint64 // hash of the owner that was last wanted and not there
}

// loweredRecords are the records of a plan's members with a lowered TTL. Immutable.
type loweredRecords struct {
	owner   string
	ttl     uint32
	records []dns.RR // of every member
}

// lowered returns the records of a set, by member, with another TTL. It returns nil if they are not
// worth keeping: if RRsets share the plan; if the TTL is not the limit, because then it changes
// every second; and unless the owner was spelled alike twice in a row, because some resolvers spell
// it anew in every query. The records stand in rrs in the order that the plan remembers.
func (p *plan) lowered(set *rrset, rrs []dns.RR, ttl uint32) []dns.RR {
	if !set.holdsAddresses() || set.sealed || !set.alike || p.shared.footprint.several.Load() || !p.isLimit(ttl) {
		return nil
	}
	cache := &p.shared.lowered
	if kept := cache.kept.Load(); kept != nil && kept.ttl == ttl && kept.owner == set.owner {
		return kept.records
	}
	if h := maphash.String(memberSeed, set.owner); cache.wanted.Swap(h) != h {
		return nil
	}
	next := &loweredRecords{owner: strings.Clone(set.owner), ttl: ttl, records: make([]dns.RR, len(p.members))}
	for i, slot := range set.slots {
		rr := dns.Copy(rrs[slot])
		h := rr.Header()
		h.Name, h.Ttl = next.owner, ttl
		next.records[p.last.members[i]] = rr
	}
	cache.kept.Store(next)
	return next.records
}

// isLimit reports whether a TTL is one of those that the plan's answers are limited to.
func (p *plan) isLimit(ttl uint32) bool {
	return p.limits.limited && (ttl == p.limits.max || ttl == p.limits.degraded)
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
	if seconds, hasUnit := strings.CutSuffix(arg, "s"); hasUnit && err != nil {
		if _, err := parseSeconds(seconds); err == nil {
			return 0, fmt.Errorf("bad TTL %q: want a whole number of seconds; did you mean %q?", arg, seconds)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("bad TTL %q: want a whole number of seconds, from 0 to %d", arg, math.MaxInt32)
	}
	return n, nil
}

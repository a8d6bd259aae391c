// SPDX-License-Identifier: Apache-2.0

package balance

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

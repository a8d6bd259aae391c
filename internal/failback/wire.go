// SPDX-License-Identifier: Apache-2.0

package failback

import (
	"encoding/binary"
	"time"
)

// How a state travels to other replicas: as uvarints, with ages in milliseconds and no timestamps.
//
//	tier, age of since, age of looked, number of earlier tiers, then for each: number, age of since

// Bounds on what another replica may say.
const (
	maxTier    = 1 << 16
	maxEarlier = 64 // earlier tiers that travel; of the others nothing is known
	maxAge     = 10 * 365 * 24 * time.Hour
)

// FailedOver reports whether a later tier than the first serves. Other states need not travel:
// without a state an RRset begins at the first healthy tier.
func (s State) FailedOver() bool { return s.serves && s.tier > 0 }

// Serves reports whether a tier has served.
func (s State) Serves() bool { return s.serves }

// Tier returns the tier that serves.
func (s State) Tier() uint16 { return s.tier }

// After reports whether s began to serve after another state.
func (s State) After(other State) bool { return s.since.After(other.since) }

// Append appends a state as it travels.
func (s State) Append(to []byte, now time.Time) []byte {
	age := func(since time.Time) uint64 { return uint64(max(now.Sub(since), 0) / time.Millisecond) }
	earlier := s.earlier[:min(len(s.earlier), maxEarlier)]
	for _, n := range []uint64{uint64(s.tier), age(s.since), age(s.looked), uint64(len(earlier))} {
		to = binary.AppendUvarint(to, n)
	}
	for _, t := range earlier {
		to = binary.AppendUvarint(to, uint64(t.Number))
		to = binary.AppendUvarint(to, age(t.Since))
	}
	return to
}

// Read reads what Append wrote, and returns the bytes that follow. It reports false if that is no
// state in which a later tier serves.
func Read(from []byte, now time.Time) (s State, rest []byte, ok bool) {
	r := reader{from, true}
	s = State{serves: true, tier: r.tier(), since: r.since(now), looked: r.since(now)}
	n := r.number(maxEarlier)
	for range n {
		s.earlier = append(s.earlier, Tier{Number: r.tier(), Healthy: true, Since: r.since(now)})
	}
	return s, r.rest, r.ok && s.tier > 0
}

// reader reads numbers. After an error all of them are 0, and ok is false.
type reader struct {
	rest []byte
	ok   bool
}

// number reads a number that is at most so large.
func (r *reader) number(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if !r.ok || n <= 0 || v > most {
		r.ok = false
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) tier() uint16 { return uint16(r.number(maxTier - 1)) }

// since reads an age, and returns when that began.
func (r *reader) since(now time.Time) time.Time {
	return now.Add(-time.Duration(r.number(uint64(maxAge/time.Millisecond))) * time.Millisecond)
}

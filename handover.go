// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/fleet"
)

// The option failback in a fleet. A replica tells the others for which RRsets a later tier serves.
// One that has not answered an RRset yet, for example because it has just started, begins with the
// tier that it was told. Replicas that have answered the RRset go by their own state.

// handover is what the replicas of a fleet tell each other about tiers. Safe for concurrent use.
type handover struct {
	mu    sync.Mutex // one Load at a time
	told  atomic.Pointer[map[handedKey]*handed]
	heard atomic.Bool // another replica has said for which RRsets a later tier serves, perhaps for none
}

var _ fleet.Keeper = (*handover)(nil)

// handedKey identifies an RRset in all replicas.
type handedKey struct {
	rule   uint64 // zoneRule.identity
	owner  string // lower case
	rrtype uint16
}

// handed is what another replica said of an RRset. It counts once: afterwards this replica has a
// state of its own. Safe for concurrent use.
type handed struct {
	state   failback.State
	replica string
	heard   time.Time // when the replica last said so
	used    atomic.Bool
}

const (
	handoverName    = "failback"
	handoverVersion = 1
	maxHanded       = 4096 // RRsets that are told, and kept
	maxOwner        = 255
	handedFor       = time.Hour // how long what a replica that is gone has said is kept
)

// identify sets what identifies the rule in all replicas of its fleet. Rules whose tiers differ are
// different ones: a number would mean another tier.
func (z *zoneRule) identify(view string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(z.zone + "\x00" + view))
	for _, targets := range z.tiers {
		_, _ = h.Write([]byte{0})
		for _, p := range targets {
			_, _ = h.Write([]byte(p.String() + " "))
		}
	}
	z.identity = h.Sum64()
}

// Save implements fleet.Keeper: a version, then for each RRset its rule, owner, type and state.
func (h *handover) Save() []byte {
	now, identities := time.Now(), make(map[uint64]uint64)
	for _, l := range runningLives() {
		for _, z := range l.zones {
			if z.handover == h {
				identities[z.scope] = z.identity
			}
		}
	}
	saved, count := []byte{handoverVersion}, 0
	for e := range allTurns.pasts() {
		rule, known := identities[e.scope]
		p := e.past.Load()
		if !known || !p.failback.FailedOver() || len(e.owner) > maxOwner {
			continue
		}
		if count++; count > maxHanded {
			break
		}
		saved = binary.BigEndian.AppendUint64(saved, rule)
		saved = append(append(saved, byte(len(e.owner))), e.owner...)
		saved = p.failback.Append(binary.BigEndian.AppendUint16(saved, e.key.rrtype), now)
	}
	return saved
}

// Load implements fleet.Keeper. What the replica said before is dropped. If several replicas name a
// tier for an RRset, the one that began to serve last counts.
func (h *handover) Load(replica string, saved []byte) {
	if len(saved) == 0 || saved[0] != handoverVersion {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	next := make(map[handedKey]*handed)
	if before := h.told.Load(); before != nil {
		next = maps.Clone(*before)
	}
	said := parseHanded(replica, saved[1:])
	maps.DeleteFunc(next, func(key handedKey, t *handed) bool {
		return t.replica == replica && said[key] == nil || time.Since(t.heard) > handedFor
	})
	more := false
	for key, t := range said {
		switch before := next[key]; {
		case before == nil && len(next) < maxHanded:
			next[key], more = t, true
		case before != nil && (before.replica == replica || t.state.After(before.state)):
			t.used.Store(before.used.Load())
			next[key] = t
		}
	}
	h.told.Store(&next)
	h.heard.Store(true)
	if more {
		h.outdate()
	}
}

// parseHanded reads what Save wrote. It stops at what it does not understand.
func parseHanded(replica string, saved []byte) map[handedKey]*handed {
	said, now := make(map[handedKey]*handed), time.Now()
	for len(saved) > 9 && len(said) < maxHanded {
		rule, owner := binary.BigEndian.Uint64(saved), saved[9:]
		length := int(saved[8])
		if len(owner) < length+2 {
			break
		}
		key := handedKey{rule, string(owner[:length]), binary.BigEndian.Uint16(owner[length:])}
		state, rest, ok := failback.Read(owner[length+2:], now)
		if !ok {
			break
		}
		said[key], saved = &handed{state: state, replica: replica, heard: now}, rest
	}
	return said
}

// outdate has RRsets looked at again that were answered before this replica joined.
func (h *handover) outdate() {
	for _, l := range runningLives() {
		for _, z := range l.zones {
			if z.handover == h {
				z.epoch.Add(1)
			}
		}
	}
}

// handedOver returns what another replica said of an RRset that this one has no state of, nil for
// nothing.
func (z *zoneRule) handedOver(owner string, rrtype uint16) *handed {
	if z.handover == nil || z.failback.Mode == failback.AtOnce {
		return nil
	}
	told := z.handover.told.Load()
	if told == nil {
		return nil
	}
	if t := (*told)[handedKey{z.identity, strings.ToLower(owner), rrtype}]; t != nil && !t.used.Load() {
		return t
	}
	return nil
}

// awaitsHandover reports whether this replica has just started, and other ones may still say which
// tiers serve.
func (z *zoneRule) awaitsHandover() bool {
	if z.handover == nil {
		return false
	}
	r := inFleet.current.Load()
	return r != nil && !r.ready()
}

// warnOfSilence warns, once this replica has joined its fleet or has tried for long enough, that no
// other one has told which tiers serve.
func (l *life) warnOfSilence(ctx context.Context) {
	for !l.replica.ready() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(untilReady):
		}
	}
	if l.replica.handover.heard.Load() {
		return
	}
	for _, r := range l.rules {
		if r.failback.Mode == failback.Manual {
			log.Warningf("%s: failback: no other replica of the fleet says which tiers serve, so RRsets begin at the first healthy one", r.options["failback"])
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"encoding/binary"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/failback"
)

// The option failback in a fleet. A replica tells the others for which RRsets a later tier serves.
// One that has not answered an RRset yet, for example because it has just started, begins with the
// tier that it was told. Replicas that have answered the RRset go by their own state.

// handover is what the other replicas of a fleet have told about tiers. Safe for concurrent use.
type handover struct {
	ready func() bool // the other replicas have told what they know, or do not come

	mu    sync.Mutex // one load at a time
	told  atomic.Pointer[map[handedKey]*handed]
	heard atomic.Bool // another replica has said for which RRsets a later tier serves, perhaps for none
}

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

// load reads what a replica says, and reports whether it names a tier for RRsets that had none.
// What the replica said before is dropped. If several replicas name a tier for an RRset, the one
// that began to serve last counts.
func (h *handover) load(replica string, saved []byte) (more bool) {
	if len(saved) == 0 || saved[0] != handoverVersion {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	next := make(map[handedKey]*handed)
	if before := h.told.Load(); before != nil {
		next = maps.Clone(*before)
	}
	said := parseHanded(replica, saved[1:])
	maps.DeleteFunc(next, func(key handedKey, t *handed) bool {
		return t.replica == replica && said[key] == nil || t.isOld()
	})
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
	return more
}

// of returns what another replica said of an RRset, nil for nothing, or if that has been used or is
// too old. h may be nil.
func (h *handover) of(rule uint64, owner string, rrtype uint16) *handed {
	if h == nil {
		return nil
	}
	told := h.told.Load()
	if told == nil {
		return nil
	}
	if t := (*told)[handedKey{rule, strings.ToLower(owner), rrtype}]; t != nil && !t.used.Load() && !t.isOld() {
		return t
	}
	return nil
}

// isOld reports whether it is so long ago that the replica said so that it may have changed since.
func (t *handed) isOld() bool { return time.Since(t.heard) > handedFor }

// awaited reports whether this replica has just started, and other ones may still say which tiers
// serve. h may be nil.
func (h *handover) awaited() bool { return h != nil && h.ready != nil && !h.ready() }

// nextLook returns when to look again at what was decided while awaited: then it settles which tier
// serves. It is the same for all RRsets, so that they share plans, and the zero time if nothing is
// awaited. h may be nil.
func (h *handover) nextLook(now time.Time) time.Time {
	if !h.awaited() {
		return time.Time{}
	}
	return now.Truncate(time.Second).Add(time.Second)
}

// parseHanded reads what tierKeeper.Save wrote. It stops at what it does not understand. Of several
// states of an RRset, as two server blocks for a zone may have, the one that began last counts.
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
		if before := said[key]; before == nil || state.After(before.state) {
			said[key] = &handed{state: state, replica: replica, heard: now}
		}
		saved = rest
	}
	return said
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"time"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/fleet"
)

// What this replica tells the others about failback, and what it makes of what they tell.

// tierKeeper tells the other replicas which tiers serve here, and has rules heed what they tell.
type tierKeeper struct{ told *handover }

var _ fleet.Keeper = tierKeeper{}

// Save implements fleet.Keeper: a version, then for each RRset its rule, owner, type and state. It
// is empty while this replica joins, because nothing has settled yet which tiers serve.
func (k tierKeeper) Save() []byte {
	if k.told.awaited() {
		return nil
	}
	now, rules := time.Now(), k.rules()
	saved, count := []byte{handoverVersion}, 0
	for e, remembered := range allTurns.pasts() {
		z, p := rules[e.scope], *remembered
		if z == nil || len(e.owner) > maxOwner {
			continue
		}
		if p.renumber(z.tiers); !p.failback.FailedOver() {
			continue
		}
		more := appendHanded(saved, z.identity, e, p.failback, now)
		if count++; count > maxHanded || len(more) > fleet.MaxKept {
			break
		}
		saved = more
	}
	return saved
}

// rules returns the rules with failback, by their scopes.
func (k tierKeeper) rules() map[uint64]*zoneRule {
	rules := make(map[uint64]*zoneRule)
	for _, l := range runningLives() {
		for _, z := range l.zones {
			if z.handover == k.told && z.failback.Mode != failback.AtOnce {
				rules[z.scope] = z
			}
		}
	}
	return rules
}

// appendHanded appends what parseHanded reads of an RRset.
func appendHanded(to []byte, rule uint64, e *entry, s failback.State, now time.Time) []byte {
	to = binary.BigEndian.AppendUint64(to, rule)
	to = append(append(to, byte(len(e.owner))), e.owner...)
	return s.Append(binary.BigEndian.AppendUint16(to, e.key.rrtype), now)
}

// Load implements fleet.Keeper.
func (k tierKeeper) Load(replica string, saved []byte) {
	if k.told.load(replica, saved) {
		k.outdate()
	}
}

// outdate has RRsets looked at again that were answered before this replica joined.
func (k tierKeeper) outdate() {
	for _, l := range runningLives() {
		for _, z := range l.zones {
			if z.handover == k.told {
				z.epoch.Add(1)
			}
		}
	}
}

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

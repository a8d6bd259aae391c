// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"slices"

	"github.com/seed-f1518d44/balance/internal/locality"
)

// near is the option prefer locality. Immutable.
type near struct {
	only  bool // members of other localities are left out if enough near members can answer
	spill bool // a locality with more clients than its members can serve passes some on
}

// keepNear leaves only the members of a locality in the answer, if at least min_healthy and at least
// half of its members in the serving tier can answer. It reports whether it does.
func (c *classification) keepNear(standings []standing, place locality.Locality, by criteria) bool {
	tier, total := standings[c.answering[0]].tier, 0
	for _, s := range standings {
		if s.tier == tier && s.place == place {
			total++
		}
	}
	var kept []uint16
	var far []exclusion
	for _, m := range c.answering {
		if standings[m].place == place {
			kept = append(kept, m)
		} else {
			far = append(far, exclusion{m, notNear})
		}
	}
	if len(kept) == 0 || len(kept) < by.minHealthy.of(total) || 2*len(kept) < total {
		return false
	}
	c.degraded = c.allDown || c.failedOver && !by.mayStay || slices.ContainsFunc(c.excluded, func(x exclusion) bool {
		s := standings[x.member]
		return (x.why == wasDown || x.why == damped) && s.tier == tier && s.place == place
	})
	c.answering, c.excluded = kept, slices.Concat(far, c.excluded)
	return true
}

// narrow applies "prefer locality only" to a classification, and returns the choice that the plan
// follows. It is the client's own. If too few near members can answer, all members answer and the
// plan follows no choice.
func (r *rule) narrow(own choice, standings []standing, c *classification, by criteria) choice {
	if n := r.nearOf(own); n == nil || !n.only || own.spilled || len(c.answering) == 0 {
		return own
	}
	if !c.keepNear(standings, own.place, by) {
		return choice{line: noPreference}
	}
	return own
}

// spills reports whether the rule has "prefer locality spill".
func (r *rule) spills() bool {
	return slices.ContainsFunc(r.prefer, func(p preference) bool { return p.near != nil && p.near.spill })
}

// spillsFor reports whether the answers for a choice may be led by members of another locality.
func (r *rule) spillsFor(c choice) bool {
	n := r.nearOf(c)
	return n != nil && n.spill
}

// nearOf returns the option prefer locality of a choice, nil if the choice does not go by it.
func (r *rule) nearOf(c choice) *near {
	if c.line == noPreference {
		return nil
	}
	return r.prefer[c.line].near
}

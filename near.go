// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"

	"github.com/seed-f1518d44/balance/internal/locality"
	"github.com/seed-f1518d44/balance/internal/text"
)

// near is the option prefer locality. Immutable.
type near struct {
	only  bool // members of other localities are left out if enough near members can answer
	spill bool // a locality with more clients than its members can serve passes some on
}

// parseNear reads the words after "prefer locality".
func parseNear(args []string) (*near, error) {
	n := new(near)
	for _, arg := range args {
		word := map[string]*bool{"only": &n.only, "spill": &n.spill}[arg]
		switch {
		case word == nil:
			return nil, text.Unknown("word", arg, []string{"only", "spill"})
		case *word:
			return nil, fmt.Errorf("%q is given twice: want it once", arg)
		}
		*word = true
	}
	return n, nil
}

// keepNear leaves only the members of a locality in the answer, if at least min_healthy and at
// least half of its members in the serving tier can answer. It reports whether it does.
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

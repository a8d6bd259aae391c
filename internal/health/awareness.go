// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// suspicion is that every endpoint of a rule fails because the fault is ours. Owned by the pool's
// goroutine.
type suspicion struct {
	due     bool          // endpoints began or ceased to fail since the last look
	looked  time.Duration // when the last look was, as the pool counts time
	problem error         // of the probe that failed last
}

// lookCost is the time that may pass, for each endpoint, before they are looked at again, which takes
// about a hundredth of it.
const lookCost = 10 * time.Microsecond

// suspectUs looks whether every endpoint of a rule fails, if that may have changed, and says so once.
// Endpoints are many where it is worth not to look after every probe.
func (p *pool) suspectUs() {
	if !p.suspicion.due || p.now() < p.nextLook() {
		return
	}
	p.suspicion.due, p.suspicion.looked = false, p.now()
	scopes := p.subscribers.scopes()
	known, failing := make([]int, len(scopes)), make([]int, len(scopes))
	p.each(func(e *endpoint) {
		zones := e.zones.Load()
		for i, s := range scopes {
			if zones&s.bit != 0 {
				known[i]++
				if e.failing.Load() {
					failing[i]++
				}
			}
		}
	})
	for i, s := range scopes {
		all := AllFailing(known[i], failing[i])
		if all && !s.suspect {
			p.log.Warningf("%s: all %d endpoints fail %s, the last with %q: the fault may be on this side", s.Zone, known[i], p.check.Name(), p.suspicion.problem)
		}
		s.suspect = all
	}
}

// AllFailing tells whether so many failing endpoints, of those known, are a reason to suspect ourselves: one alone is none.
func AllFailing(known, failing int) bool { return known > 1 && failing == known }

func (p *pool) nextLook() time.Duration {
	return p.suspicion.looked + time.Duration(p.known())*lookCost
}

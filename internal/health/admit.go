// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// admit adds new endpoints to the scopes of the rules whose answers held them. Each is probed at
// once; many of one rule are spread over a second.
func (p *pool) admit() {
	fresh := make(map[*scope][]*endpoint)
	for a := p.table.arrivals.Swap(nil); a != nil; a = a.earlier {
		if e := p.admitOne(a); e != nil {
			fresh[a.subscription.scope] = append(fresh[a.subscription.scope], e)
		}
	}
	if p.share != nil {
		return // the share decides which replicas probe them
	}
	for _, endpoints := range fresh {
		step := time.Second / time.Duration(max(len(endpoints), 1000))
		for i, e := range endpoints {
			e.next = p.now() + time.Duration(i)*step
			p.timers.add(e)
		}
	}
}

// admitOne makes an arrival a member of its scope, and returns the endpoint if that is new. A rule
// can exhaust only its own max_endpoints.
func (p *pool) admitOne(a *arrival) *endpoint {
	s := a.subscription.scope
	s.arrived.Add(-1)
	known := p.table.find(a.at)
	switch {
	case a.subscription.gone.Load(), known != nil && s.has(known):
		return nil
	case s.isFull():
		s.counters.full.Inc()
		p.logFull(s)
		return nil
	}
	if s.hasRoom() {
		s.full.Store(false)
	}
	if known != nil {
		p.house(known, s)
		known.seen.Store(int64(p.now()))
		p.want(known)
		p.outdate(s)
		p.requeue(known)
		return nil
	}
	e := newEndpoint(a.at)
	e.seen.Store(int64(p.now()))
	p.table.add(e)
	s.add(e)
	p.shareNew(e)
	return e
}

// logFull logs that a rule has reached max_endpoints: once, and again only if the number of
// endpoints fell below nine tenths of it in between.
func (p *pool) logFull(s *scope) {
	if !s.full.Swap(true) {
		p.log.Warningf("%s: health_check %s: max_endpoints %d reached: further endpoints are not probed, and answers hold them as if they were up",
			s.zone, p.check.Name(), s.limit)
	}
}

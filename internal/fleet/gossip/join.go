// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

// Peer is where to look for other replicas.
type Peer struct {
	Host string // an address, or a name that may have many
	Port uint16
}

func (p Peer) String() string { return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))) }

// Resolver returns the addresses of a name.
type Resolver func(ctx context.Context, name string) ([]netip.Addr, error)

// How often to look. At first the name of a service may not resolve yet, and replicas may start
// together.
const (
	seekOften    = 250 * time.Millisecond // the shortest pause while nobody is found
	seekSeldom   = 30 * time.Second       // the usual pause
	nobodyFor    = 5 * time.Second        // how long nobody is found before the log says so
	resolveLimit = 5 * time.Second
	maxPeers     = 1000 // addresses that are tried
	maxStates    = 10   // known replicas that are joined for a state
	updateLimit  = time.Second
	placeHolds   = 10 * time.Minute // how long an address is taken for the replica that it led to
)

// seek looks for other replicas until the carrier ends, so that the halves of a split fleet find
// each other too. While it finds nobody, it waits a quarter of the time that it has looked so far.
func (c *Carrier) seek() {
	s := seeker{c: c, since: time.Now(), places: make(map[netip.AddrPort]place)}
	for {
		s.look()
		pause := seekSeldom
		if alone := s.alone(); alone || !c.Joined() {
			pause = min(max(time.Since(s.since)/4, seekOften), seekSeldom)
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause):
		case <-c.hurry:
			_ = c.list.UpdateNode(updateLimit) // the locality, if that changed
		}
	}
}

// seeker looks for other replicas.
type seeker struct {
	c        *Carrier
	since    time.Time // when it began to be alone
	together bool      // there are others
	met      bool      // the log says that there are others
	said     bool      // the log says that there is nobody
	places   map[netip.AddrPort]place
}

// place is what is known of an address that was joined.
type place struct {
	replica string    // that it led to; empty: none
	joined  time.Time // when it did
	failing time.Time // since when it cannot be joined; zero: it can
}

// alone reports whether there is no other replica, and keeps since when.
func (s *seeker) alone() bool {
	together := s.c.members.count() > 1
	if s.together && !together {
		s.since = time.Now()
	}
	s.together = together
	return !together
}

// look joins those replicas at the addresses that are not known. Joining one usually makes the
// others known. Gossip may make all of them known to a replica that has taken over no state yet:
// then it joins them for that.
func (s *seeker) look() {
	found, problems := s.c.find(s.c.ctx)
	s.c.doubtAdvertised(found)
	again := maxStates
	for _, at := range found {
		if s.c.ctx.Err() != nil {
			return
		}
		if s.knows(at) {
			if again == 0 || s.c.Joined() || s.c.states.settled() {
				continue
			}
			again--
		}
		if err := s.join(at); err != nil {
			problems = append(problems, err.Error())
		}
	}
	maps.DeleteFunc(s.places, func(at netip.AddrPort, _ place) bool { return !slices.Contains(found, at) })
	if s.c.states.any() || len(found) == 0 && len(problems) == 0 {
		s.c.joined.Store(true)
	}
	s.report(problems)
}

// knows reports whether a live replica is at an address. An address that no replica advertises,
// such as that of a NAT or its other family, is taken for that of the replica that it led to. It may
// lead to another one later, so this holds for some time only, and a replica that is alone tries
// even those addresses again that led to itself.
func (s *seeker) knows(at netip.AddrPort) bool {
	if s.c.members.isAt(at) {
		return true
	}
	p := s.places[at]
	return time.Since(p.joined) < placeHolds && s.c.members.has(p.replica) && (p.replica != s.c.options.Replica || s.together)
}

// join joins the replica at an address. A failure is logged if it lasts: while replicas come and
// go, names lead to some that are gone for a moment.
func (s *seeker) join(at netip.AddrPort) error {
	s.c.states.begin()
	_, err := s.c.list.Join([]string{at.String()})
	if err == nil {
		s.places[at] = place{replica: s.c.states.only(), joined: time.Now()}
		return nil
	}
	err = fmt.Errorf("%s: %s", at, reason(err))
	p := s.places[at]
	if p.failing.IsZero() {
		p.failing = time.Now()
	}
	if s.places[at] = p; time.Since(p.failing) > time.Minute && s.together {
		s.c.log.warn("join", at.String(), "cannot join %v", err)
	}
	return err
}

// reason returns why a replica could not be joined.
func reason(err error) string {
	s := strings.TrimSpace(err.Error())
	switch {
	case strings.Contains(s, "could decrypt the message"):
		return "it has no key in common with this replica: want one key in both key files"
	case strings.Contains(s, "is not encrypted"):
		return "its messages are not encrypted: want the option key there"
	case strings.Contains(s, "encryption is not configured"):
		return "its messages are encrypted: want the option key here"
	case strings.HasSuffix(s, "EOF"), strings.Contains(s, "connection reset"):
		return "it closed the connection: perhaps it is in a fleet of another name"
	}
	if at := strings.LastIndex(s, ": "); at >= 0 {
		s = s[at+2:]
	}
	return s
}

// report logs that there are others, or that there is nobody, when that changes.
func (s *seeker) report(problems []string) {
	now := s.c.members.count()
	switch {
	case now > 1:
		s.c.nobody.Store(nil)
		if !s.met {
			s.c.log.Infof("fleet %s: joined, %s", s.c.options.Fleet, text.Count(now-1, "other replica"))
		}
		s.met, s.said = true, false
	case time.Since(s.since) >= nobodyFor && s.c.ctx.Err() == nil:
		s.sayNobody(problems)
	}
}

// sayNobody logs once that there is nobody. It is a problem unless there is nobody to look for.
func (s *seeker) sayNobody(problems []string) {
	why := "no address but its own"
	if len(problems) > 0 {
		why = text.Few(problems)
	}
	why = "no other replica found, so this one works by itself and keeps looking: " + text.OneLine(why)
	if s.c.nobody.Store(nil); len(problems) > 0 {
		s.c.nobody.Store(&why)
	}
	if !s.said {
		s.c.log.Warningf("fleet %s: %s", s.c.options.Fleet, why)
	}
	s.met, s.said = false, true
}

// find returns the addresses to join, without those of this replica, and what kept it from finding
// more.
func (c *Carrier) find(ctx context.Context) (found []netip.AddrPort, problems []string) {
	own := c.ownAddresses()
	for _, peer := range *c.join.Load() {
		addrs, err := c.resolve(ctx, peer.Host)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", peer.Host, err))
		}
		for _, addr := range addrs {
			at := netip.AddrPortFrom(addr.Unmap(), peer.Port)
			if !c.isOwn(at, own) && len(found) < maxPeers {
				found = append(found, at)
			}
		}
	}
	slices.SortFunc(found, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return slices.Compact(found), problems
}

// resolve returns the addresses of a host.
func (c *Carrier) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	addrs, err := c.options.Resolve(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = errNoAddress
	}
	return addrs, err
}

var errNoAddress = errors.New("the name has no address")

// ownAddresses returns those of this host.
func (c *Carrier) ownAddresses() []netip.Addr {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []netip.Addr
	for _, one := range interfaces {
		if prefix, err := netip.ParsePrefix(one.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own
}

// isOwn reports whether this replica itself listens at an address.
func (c *Carrier) isOwn(at netip.AddrPort, own []netip.Addr) bool {
	if at == c.Advertised() {
		return true
	}
	listen := c.options.Listen
	if at.Port() != listen.Port() {
		return false
	}
	if listen.Addr().IsValid() && !listen.Addr().IsUnspecified() {
		return at.Addr() == listen.Addr()
	}
	return slices.Contains(own, at.Addr()) || at.Addr().IsLoopback()
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The address that others are told to use. memberlist cannot change it, so it is not guessed before
// there is something to guess from.

const (
	guessAgain  = 250 * time.Millisecond // between guesses
	guessNames  = 5 * time.Second        // how long names of other replicas may take to resolve
	findWithin  = 2 * time.Second        // for looking up all names once
	sayNoRoutes = 5 * time.Second        // how long there is no address before the log says so
)

// anywhere are addresses for documentation: the way to them is the default route. Nothing is sent.
var anywhere = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("[2001:db8::1]:9")}

// ListenText writes where a replica listens, as a Corefile may.
func ListenText(at netip.AddrPort) string {
	if !at.Addr().IsValid() {
		return fmt.Sprintf(":%d", at.Port())
	}
	return at.String()
}

// choose returns the address that others are told to use, false if the carrier ended before there
// was one.
func (c *Carrier) choose() (netip.AddrPort, bool) {
	if at, given := c.given(); given {
		return at, true
	}
	began := time.Now()
	for {
		found, problems := c.findNow()
		resolved := len(problems) == 0
		at, toOther, ok := c.guess(found)
		if ok && (toOther || resolved || time.Since(began) >= guessNames) {
			c.blind = !toOther
			return at, true
		}
		if resolved && len(found) == 0 {
			c.joined.Store(true)
		}
		if !ok && time.Since(began) >= sayNoRoutes {
			c.log.warn("advertise", "", "%s", strings.Join(append([]string{"no address of this host reaches others, so this replica works by itself and tries again"}, problems...), ": "))
		}
		select {
		case <-c.ctx.Done():
			return netip.AddrPort{}, false
		case <-time.After(guessAgain):
		}
	}
}

// given returns the address that the options say.
func (c *Carrier) given() (netip.AddrPort, bool) {
	listen := c.options.Listen
	if c.options.Advertise.IsValid() {
		return c.options.Advertise, true
	}
	return listen, listen.Addr().IsValid() && !listen.Addr().IsUnspecified()
}

// findNow returns the addresses to join, and what kept it from finding more.
func (c *Carrier) findNow() ([]netip.AddrPort, []string) {
	ctx, cancel := context.WithTimeout(c.ctx, findWithin)
	defer cancel()
	return c.find(ctx)
}

// guess returns the address that reaches others: the one that this host sends from to the first of
// those found, else to anywhere, else any that it has. toOther reports whether it reaches one of
// those found.
func (c *Carrier) guess(found []netip.AddrPort) (at netip.AddrPort, toOther, ok bool) {
	listen := c.options.Listen
	for i, to := range slices.Concat(found, anywhere) {
		if from, ok := sourceTo(to); ok && fits(from, listen.Addr()) {
			return netip.AddrPortFrom(from, listen.Port()), i < len(found), true
		}
	}
	for _, own := range c.ownAddresses() {
		if own.IsGlobalUnicast() && fits(own, listen.Addr()) {
			return netip.AddrPortFrom(own, listen.Port()), false, true
		}
	}
	return at, false, false
}

// fits reports whether an address is of the family that the sockets listen on.
func fits(addr, listen netip.Addr) bool { return !listen.Is4() || addr.Is4() }

// sourceTo returns the address that packets to another one come from.
func sourceTo(to netip.AddrPort) (netip.Addr, bool) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}, false
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), true
}

// doubtAdvertised warns if others cannot reach this replica at the address that they are told. It
// calls Options.Moved if the address was guessed and another one reaches them now.
func (c *Carrier) doubtAdvertised(found []netip.AddrPort) {
	now := c.Advertised()
	away := slices.IndexFunc(found, func(at netip.AddrPort) bool { return !at.Addr().IsLoopback() })
	if now.Addr().IsLoopback() && away >= 0 {
		c.log.warn("advertise", "", "others are told to reach this replica at %s, but %s is on another host: want another address behind listen or advertise", now, found[away])
	}
	if _, given := c.given(); given || c.options.Moved == nil {
		return
	}
	lost := !slices.Contains(c.ownAddresses(), now.Addr())
	if at, toOther, ok := c.guess(found); ok && at != now && (lost || toOther && c.blind && c.members.count() < 2) {
		c.moved.Do(func() { c.options.Moved(at) })
	}
}

// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

const otherPort = DefaultPort + 1 // of a replica on this host

// guessing returns a carrier that listens on every address, and looks for others at a name that
// leads to this host after a while.
func guessing(after time.Duration) (*Carrier, *replica) {
	r, began := newReplica("r1"), time.Now()
	o := r.options()
	o.Listen, o.Join = netip.AddrPortFrom(netip.Addr{}, DefaultPort), []Peer{{"fleet.example.org", otherPort}}
	o.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		if time.Since(began) < after {
			return nil, errors.New("SERVFAIL")
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2")}, nil
	}
	return newCarrier(o, newLimitedLog(o.Log, o.Fleet)), r
}

// The address that reaches the others is found once their names resolve, though the default route
// would give one at once.
func TestChooseWaitsForNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := guessing(3 * time.Second)
		began := time.Now()
		at, ok := c.choose()
		if want := netip.MustParseAddrPort("127.0.0.1:7946"); at != want || !ok || c.blind {
			t.Errorf("%s, %t; want %s", at, ok, want)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A carrier may end while there is no address.
func TestChooseEnds(t *testing.T) {
	c, _ := guessing(time.Hour)
	c.cancel()
	if _, ok := c.choose(); ok {
		t.Error("there is an address")
	}
}

func TestListenText(t *testing.T) {
	for at, want := range map[netip.AddrPort]string{
		netip.AddrPortFrom(netip.Addr{}, 7946):      ":7946",
		netip.MustParseAddrPort("[2001:db8::1]:80"): "[2001:db8::1]:80",
	} {
		if got := ListenText(at); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// If this host has lost the address that others were told, another carrier is wanted.
func TestMoved(t *testing.T) {
	for advertised, want := range map[string]string{"192.0.2.77:7946": "127.0.0.1:7946", "127.0.0.1:7946": ""} {
		c, _ := guessing(0)
		var moved []string
		c.options.Moved = func(to netip.AddrPort) { moved = append(moved, to.String()) }
		at := netip.MustParseAddrPort(advertised)
		c.advertised.Store(&at)
		found, _ := c.findNow()
		c.doubtAdvertised(found)
		c.doubtAdvertised(found)
		if want == "" && len(moved) > 0 || want != "" && (len(moved) != 1 || moved[0] != want) {
			t.Errorf("%s: moved to %q, want %q once", advertised, moved, want)
		}
	}
}

// An address of the loopback interface is of no use to others on other hosts.
func TestAdvertisesLoopback(t *testing.T) {
	c, r := guessing(0)
	at := netip.MustParseAddrPort("127.0.0.1:7946")
	c.advertised.Store(&at)
	c.doubtAdvertised([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.2:7946"), netip.MustParseAddrPort("192.0.2.1:7946")})
	want := "WARNING fleet dns: others are told to reach this replica at 127.0.0.1:7946, but 192.0.2.1:7946 is on another host: want another address behind listen or advertise"
	if got := r.said(""); len(got) != 1 || got[0] != want {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func claimsOf(t *testing.T, section []byte) (all []claim) {
	t.Helper()
	r := reader{rest: section}
	r.claims(func(c claim) { all = append(all, c) })
	if r.bad {
		t.Fatalf("% x cannot be read", section)
	}
	return all
}

// What is written is read.
func TestClaimsOnTheWire(t *testing.T) {
	refused := "connection refused"
	claims := []claim{
		{at: netip.MustParseAddrPort("192.0.2.1:0"), wanted: true},
		{at: netip.MustParseAddrPort("192.0.2.1:80"), opinion: Opinion{Verdict: Down}, text: refused},
		{at: netip.MustParseAddrPort("[2001:db8::1]:0"), wanted: true, opinion: Opinion{Verdict: Up, Drain: true}, text: "maintenance"},
		{at: netip.MustParseAddrPort("[2001:db8::1]:8080"), opinion: Opinion{Verdict: Up, Load: Utilisation, Share: 90, BadLoad: true}},
		{at: netip.MustParseAddrPort("192.0.2.2:0"), opinion: Opinion{Verdict: Down}, text: refused},
		{at: netip.MustParseAddrPort("192.0.2.3:0"), opinion: Opinion{Verdict: NoSay}},
		{at: netip.MustParseAddrPort("192.0.2.4:0")},
	}
	section := appendClaims(nil, claims)
	if got := claimsOf(t, section); !reflect.DeepEqual(got, claims) {
		t.Errorf("%+v became %+v", claims, got)
	}
	if bytes.Count(section, []byte(refused)) != 1 {
		t.Error("a text travels twice")
	}
	if n := len(appendClaims(nil, claims[6:])) - 1; n != 6 {
		t.Errorf("a claim on an IPv4 address takes %d bytes, want 6", n)
	}
}

// The format is fixed: replicas of another release read it.
func TestFormat(t *testing.T) {
	message := header{version: 1, sender: 0x0102030405060708, check: 9}.bytes()
	message = appendSection(message, kindClaims, func(to []byte) []byte {
		return appendClaims(to, []claim{{netip.MustParseAddrPort("192.0.2.1:80"), true, Opinion{Verdict: Down}, "gone"}})
	})
	want := "\x01" + "\x01\x02\x03\x04\x05\x06\x07\x08" + "\x00\x00\x00\x00\x00\x00\x00\x09" +
		"\x01\x0f" + "\x01\x04gone" + "\x0e\xc0\x00\x02\x01\x00\x50" + "\x02" + "\x00"
	if string(message) != want {
		t.Errorf("% x, want % x", message, want)
	}
}

// Hashes stay as they are from release to release: otherwise replicas of two releases would assign
// endpoints differently, and would not know each other's checks.
func TestHashes(t *testing.T) {
	if h := hashOf(netip.MustParseAddrPort("192.0.2.1:80")); h != 0xdc8f18485e3e6313 {
		t.Errorf("an endpoint is %#x", h)
	}
	if h := hashOf(netip.MustParseAddrPort("[2001:db8::1]:0")); h != 0x504b8dce1c938e43 {
		t.Errorf("an IPv6 address is %#x", h)
	}
	if k := keyOf("dns-1"); k != 0x82da46ca481e4d1b {
		t.Errorf("a replica is %#x", k)
	}
}

// What a later version adds is skipped: sections, extensions of claims, reserved bits.
func TestLaterVersion(t *testing.T) {
	section := binary.AppendUvarint(nil, 0)
	section = append(appendEndpoint(section, netip.MustParseAddrPort("192.0.2.1:0"), flagExtension|1<<7), byte(Up))
	section = append(section, 3, 'n', 'e', 'w')
	section = append(appendEndpoint(section, netip.MustParseAddrPort("192.0.2.2:0"), 0), byte(Down))
	got := claimsOf(t, section)
	if len(got) != 2 || got[0].opinion.Verdict != Up || got[1].opinion.Verdict != Down || got[1].at != netip.MustParseAddrPort("192.0.2.2:0") {
		t.Errorf("%+v", got)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		w.run(time.Second)
		n := w.nodes[0]
		message := header{1, keyOf("r1"), w.check.ID}.bytes()
		message = appendSection(message, 99, func(to []byte) []byte { return append(to, "from the future"...) })
		message = appendSection(message, kindClaims, func(to []byte) []byte {
			return appendClaims(to, []claim{{at: netip.MustParseAddrPort("192.0.2.1:0"), wanted: true}})
		})
		n.fleet.Hear(message)
		w.run(time.Second)
		if _, known := n.byPair[netip.MustParseAddrPort("192.0.2.1:0")]; !known {
			t.Error("what stands beside an unknown section is not read")
		}
		before := n.fleet.Snapshot().Skipped
		n.fleet.Hear(header{2, keyOf("r1"), w.check.ID}.bytes())
		if after := n.fleet.Snapshot().Skipped; after != before+1 || before == 0 {
			t.Errorf("%d messages or sections were skipped, %d before a message of version 2", after, before)
		}
	})
}

// Replicas speak the version that all understand.
func TestCommonVersion(t *testing.T) {
	f := New(Config{Name: "test", Replica: "r0", Log: quiet{}})
	f.Members([]Replica{{Name: "r0", Versions: Understood}, {Name: "r1", Versions: Versions{1, 7}}})
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.view().version; v != 1 {
		t.Errorf("version %d, want 1", v)
	}
}

func TestPrintable(t *testing.T) {
	if got, want := printable([]byte("a\nb\x00\xffc"), 200), "a?b??c"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := printable([]byte("abcdef"), 3), "abc"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Nothing that a peer sends makes this replica fail, grow or probe what it may not.
func FuzzHear(f *testing.F) {
	message := header{1, keyOf("r1"), 7}.bytes()
	some := []claim{{netip.MustParseAddrPort("10.0.0.1:0"), true, Opinion{Verdict: Down}, "gone"}, {at: netip.MustParseAddrPort("[2001:db8::1]:80"), wanted: true}}
	f.Add(appendSection(message, kindClaims, func(to []byte) []byte { return appendClaims(to, some) }))
	f.Add(appendSection(message, kindContested, func(to []byte) []byte { return appendClaims(to, some) }))
	f.Add(appendSection(message, kindBucket, func(to []byte) []byte { return appendClaims(append(to, 0, 0), some) }))
	f.Add(appendSection(message, kindCompare, func(to []byte) []byte {
		return append(binary.BigEndian.AppendUint64(to, keyOf("r0")), append([]byte{0}, make([]byte, 8)...)...)
	}))
	f.Add(appendSection(message, kindBeat, func(to []byte) []byte { return append(to, make([]byte, 11)...) }))
	f.Add(appendSection(message, kindBye, func(to []byte) []byte { return to }))
	f.Add(appendSection(header{1, keyOf("r1"), 0}.bytes(), kindCounts, func(to []byte) []byte { return appendCounts(to, 5, []Count{{"a", 1}}) }))
	f.Fuzz(func(t *testing.T, message []byte) {
		synctest.Test(t, func(t *testing.T) {
			w := newNetwork(t, 2)
			n := w.nodes[0]
			n.allow = func(at netip.AddrPort) bool { return at.Addr().Is4() && at.Addr().As4()[0] == 10 }
			n.see(endpoints(1)[0])
			w.run(time.Second)
			n.fleet.Hear(message)
			n.fleet.Merge(message, true)
			n.awake.Store(true)
			w.run(50 * time.Millisecond)
			for _, at := range n.slots {
				if !n.allow(at) {
					t.Errorf("%s is known", at)
				}
			}
			if len(n.slots) > 1+len(message)/6 {
				t.Errorf("%d endpoints of %d bytes", len(n.slots), len(message))
			}
		})
	})
}

// The same for the state of another replica.
func FuzzMerge(f *testing.F) {
	f.Add([]byte{})
	synctestState(f)
	f.Fuzz(func(t *testing.T, state []byte) {
		synctest.Test(t, func(t *testing.T) {
			w := newNetwork(t, 2)
			w.run(time.Second)
			n := w.nodes[0]
			n.share.takeOver(state)
			n.fleet.Merge(state, true)
			w.run(50 * time.Millisecond)
			if len(n.slots) > len(state)/6 {
				t.Errorf("%d endpoints of %d bytes", len(n.slots), len(state))
			}
		})
	})
}

// synctestState adds a real state as a seed.
func synctestState(f *testing.F) {
	check := Check{ID: 7, Interval: time.Second}
	fl := New(Config{Name: "test", Replica: "r1", Probers: 3, Log: quiet{}})
	n := &node{net: &network{base: time.Now(), check: check}, byPair: map[netip.AddrPort]uint32{}}
	n.share = fl.Join(check, n)
	for _, at := range endpoints(3) {
		n.see(at)
		n.share.Vote(n.byPair[at], Opinion{Verdict: Down}, "gone")
	}
	state := fl.State(true)
	f.Add(state)
	_, r, _ := headerOf(state)
	_, content, _ := r.section()
	f.Add(content.rest[8:])
}

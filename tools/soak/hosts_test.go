// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/internal/probe"
	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

var firstHost = hostsNet.Addr().Next()

func hostThat(m *manner) *backend {
	b := &backend{addr: netip.AddrPortFrom(firstHost, 0)}
	b.manner.Store(m)
	return b
}

// echoFor returns a request for a host.
func echoFor(host netip.Addr) []byte {
	return icmpPacket(nearAddr.AsSlice(), host.AsSlice(), ipv4.ICMPTypeEcho, 0, &icmp.Echo{ID: 4711, Seq: 1, Data: []byte("sixteen octets!!")})
}

// read parses a packet. sound reports whether its checksums are right, as the kernel requires.
func read(t *testing.T, packet []byte) (from netip.Addr, m *icmp.Message, sound bool) {
	t.Helper()
	h, err := ipv4.ParseHeader(packet)
	if err != nil || h.TotalLen != len(packet) || checksum(packet[:h.Len]) != 0 || !h.Dst.Equal(nearAddr.AsSlice()) {
		t.Errorf("packet %x: %v, %v, want one for %s that is whole", packet, h, err, nearAddr)
		return from, nil, false
	}
	from, _ = netip.AddrFromSlice(h.Src.To4())
	m, err = icmp.ParseMessage(icmpInIPv4, packet[h.Len:])
	return from, m, err == nil && checksum(packet[h.Len:]) == 0
}

func TestAnswerEcho(t *testing.T) {
	request := echoFor(firstHost)
	_, asked := echoRequest(request)
	tests := map[string]func(e *icmp.Echo) bool{
		"well": func(e *icmp.Echo) bool {
			return e.ID == asked.ID && e.Seq == asked.Seq && bytes.Equal(e.Data, asked.Data)
		},
		"answers with another id": func(e *icmp.Echo) bool { return e.ID != asked.ID && bytes.Equal(e.Data, asked.Data) },
		"answers with another number": func(e *icmp.Echo) bool {
			return e.ID == asked.ID && e.Seq != asked.Seq && bytes.Equal(e.Data, asked.Data)
		},
		"answers with another token": func(e *icmp.Echo) bool {
			return e.ID == asked.ID && e.Seq == asked.Seq && len(e.Data) == 16 && !bytes.Equal(e.Data, asked.Data)
		},
		"answers with random bytes":        func(e *icmp.Echo) bool { return e.ID == asked.ID && !bytes.Equal(e.Data, asked.Data) },
		"answers when the timeout is over": func(e *icmp.Echo) bool { return bytes.Equal(e.Data, asked.Data) },
		"answers wrongly before it answers": func(e *icmp.Echo) bool {
			return e.ID == asked.ID && e.Seq == asked.Seq && !bytes.Equal(e.Data, asked.Data)
		},
	}
	for _, m := range append(mannersOf("icmp"), well) {
		fits := tests[m.name]
		if fits == nil {
			continue
		}
		delete(tests, m.name)
		replies := hostThat(m).answerEcho(request)
		if want := map[bool]int{false: 1, true: 2}[m.name == "answers wrongly before it answers"]; len(replies) != want {
			t.Errorf("%s: %d replies, want %d", m.name, len(replies), want)
			continue
		}
		from, message, sound := read(t, replies[0])
		if !sound || from != firstHost || message.Type != ipv4.ICMPTypeEchoReply || !fits(message.Body.(*icmp.Echo)) {
			t.Errorf("%s: %+v of %s, sound: %v", m.name, message, from, sound)
		}
	}
	if len(tests) > 0 {
		t.Errorf("no manner has the name of %v", tests)
	}
}

// A shortened packet has the first octets and no more. If it holds a whole header, its checksum is
// right.
func TestAnswerEchoInPart(t *testing.T) {
	b := hostThat(mannerNamed("answers with a part"))
	lengths := make(map[int]bool)
	for range 100 {
		packet := b.answerEcho(echoFor(firstHost))[0]
		_, message, sound := read(t, packet)
		length := len(packet) - ipv4.HeaderLen
		lengths[length] = true
		if whole := length >= 8; whole != sound || whole && len(message.Body.(*icmp.Echo).Data) != length-8 || length >= 24 {
			t.Errorf("%d octets of a message: %+v, sound: %v", length, message, sound)
		}
	}
	if len(lengths) != 24 {
		t.Errorf("%d lengths, want all from 0 to 23", len(lengths))
	}
}

// A router quotes what it could not deliver, as RFC 792 says.
func TestUnreachable(t *testing.T) {
	request := echoFor(firstHost)
	from, message, sound := read(t, hostThat(mannerNamed("has its router say that it is unreachable")).answerEcho(request)[0])
	quoted, ok := message.Body.(*icmp.DstUnreach)
	if !sound || from != routersAddr || message.Type != ipv4.ICMPTypeDestinationUnreachable || message.Code != 1 || !ok || !bytes.Equal(quoted.Data, request) {
		t.Errorf("%+v of %s, sound: %v, want a quotation of %x", message, from, sound, request)
	}
}

// What is no echo request is not answered, whatever its length.
func TestAnswerNoEcho(t *testing.T) {
	request := echoFor(firstHost)
	others := [][]byte{
		icmpPacket(nearAddr.AsSlice(), firstHost.AsSlice(), ipv4.ICMPTypeEchoReply, 0, &icmp.Echo{Data: []byte("x")}),
		append([]byte{0x60}, make([]byte, 47)...), // IPv6
	}
	udp := slices.Clone(request)
	udp[9] = 17
	others = append(others, udp)
	for n := range ipv4.HeaderLen + 8 {
		others = append(others, request[:n])
	}
	for seed := range uint64(1000) {
		others = append(others, noise(seed, int(seed)%100))
	}
	for _, packet := range others {
		if replies := hostThat(well).answerEcho(packet); len(replies) > 0 {
			t.Errorf("%x is answered: %x", packet, replies)
		}
	}
}

// The health of a manner, by which the judge goes, is the one that a real probe finds.
func TestHostsProbed(t *testing.T) {
	if need := hostsNeed(); need != "" {
		t.Skipf("no %s here", need)
	}
	runtime.LockOSThread() // and so to the end: the thread, which is elsewhere, ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
	if err := errors.Join(netns.LoopbackUp(), allowPings(os.Getgid())); err != nil {
		t.Fatal(err)
	}
	check, err := probe.NewICMP(probe.ICMP{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFarm(farmOfHosts, "icmp", 0, 0, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(mannersOf("icmp"), well) {
		if err := f.backends[0].become(m); err != nil {
			t.Fatal(err)
		}
		patience := 10 * time.Second
		if m.health == silent {
			patience = 200 * time.Millisecond
		}
		if got := probedAs(check, firstHost, patience); got != m.health {
			t.Errorf("%s: a probe makes %d of it, want %d", m.name, got, m.health)
		}
		if got := probedAs(check, firstHost.Next(), 10*time.Second); got != healthy {
			t.Errorf("beside a host that %s another is %d, want %d", m.name, got, healthy)
		}
	}
	for _, b := range f.backends {
		b.end()
	}
}

// probedAs returns what a probe finds. A result that is no verdict leaves the health as before.
func probedAs(check *probe.Check, addr netip.Addr, timeout time.Duration) health {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	switch err := check.Probe(ctx, netip.AddrPortFrom(addr, 0)); {
	case err == nil, errors.Is(err, probe.ErrLocal):
		return healthy
	case time.Since(began) < timeout:
		return refusing
	}
	return silent
}

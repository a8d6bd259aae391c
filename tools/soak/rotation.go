// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// order is what is promised about successive answers for an RRset that only one client asks for.
type order interface {
	// next takes in the members of the next answer. It returns what is wrong with them, or nothing.
	next(members []netip.Addr) string
	// forget is called if an answer was lost or the expected members changed.
	forget()
}

// strict is the promise of round_robin: the lead moves on by one, the rest follows in rotation, and
// when members come and go, the one that was due leads. If that one has gone, or was the only one,
// the next after the last lead does.
type strict struct {
	due   netip.Addr // zero: not known, or whoever is next
	after netip.Addr // who led before; zero: not known
}

var _ order = (*strict)(nil)

func (s *strict) next(members []netip.Addr) string {
	if len(members) == 0 {
		s.forget()
		return ""
	}
	sorted := slices.SortedFunc(slices.Values(members), netip.Addr.Compare)
	at := slices.Index(sorted, members[0])
	if want := slices.Concat(sorted[at:], sorted[:at]); !slices.Equal(members, want) {
		return fmt.Sprintf("answer is %s, want a rotation of %s", addrs(members), addrs(sorted))
	}
	due, after := s.due, s.after
	s.due, s.after = netip.Addr{}, members[0]
	if len(sorted) > 1 {
		s.due = sorted[(at+1)%len(sorted)]
	}
	if !after.IsValid() {
		return ""
	}
	want := due
	if !slices.Contains(sorted, due) {
		next, _ := slices.BinarySearchFunc(sorted, after.Next(), netip.Addr.Compare)
		want = sorted[next%len(sorted)]
	}
	if want != members[0] {
		return fmt.Sprintf("%s leads after %s: want %s of %s", members[0], after, want, addrs(sorted))
	}
	return ""
}

func (s *strict) forget() { *s = strict{} }

// weighted is the promise of policy weighted: over any W/gcd answers in a row each member leads
// weight/gcd times.
type weighted struct {
	shares func() map[netip.Addr]int // in force now: weight/gcd; nil if that is not known
	led    []netip.Addr
}

var _ order = (*weighted)(nil)

func (w *weighted) next(members []netip.Addr) string {
	shares := w.shares()
	if shares == nil || len(members) == 0 {
		w.forget()
		return ""
	}
	sum := 0
	for _, n := range shares {
		sum += n
	}
	w.led = append(w.led, members[0])
	if len(w.led) < sum {
		return ""
	}
	w.led = w.led[len(w.led)-sum:]
	count := make(map[netip.Addr]int)
	for _, a := range w.led {
		count[a]++
	}
	for a, n := range shares {
		if count[a] != n {
			return fmt.Sprintf("%s led %d of the last %d answers (%s), want %d", a, count[a], sum, addrs(w.led), n)
		}
	}
	return ""
}

func (w *weighted) forget() { w.led = w.led[:0] }

// faithful is the promise of policy sticky: one client always gets one order.
type faithful struct{ before []netip.Addr }

var _ order = (*faithful)(nil)

func (f *faithful) next(members []netip.Addr) string {
	before := f.before
	f.before = slices.Clone(members)
	if before != nil && !slices.Equal(before, members) {
		return fmt.Sprintf("answer is %s, want what it was: %s", addrs(members), addrs(before))
	}
	return ""
}

func (f *faithful) forget() {}

// addrs returns addresses as text.
func addrs(all []netip.Addr) string {
	var words []string
	for _, a := range all {
		words = append(words, a.String())
	}
	return "[" + strings.Join(words, " ") + "]"
}

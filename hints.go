// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/health"
)

// arrangeHints arranges the addresses that HTTPS and SVCB records carry (RFC 9460, section 7.3),
// because clients may use them until they have A and AAAA records. The hints of a family are
// ordered, filtered and cut as an RRset of those addresses would be. Those of signed records stay
// as they are.
func (a *arrangement) arrangeHints() {
	h := hintArranger{section: a, known: knownHints(a.sectionNow())}
	signed := signedHints(a.in)
	for i, rr := range a.sectionNow() {
		svcb := svcbOf(rr)
		if svcb == nil || len(svcb.Value) == 0 {
			continue
		}
		if len(signed) > 0 && signed[setKey{strings.ToLower(svcb.Hdr.Name), svcb.Hdr.Rrtype}] {
			h.judgeSealed(svcb)
			continue
		}
		if value, changed := h.values(svcb); changed {
			a.own()
			a.out[i] = withValue(rr, value)
			a.removedUnsigned = true // the rest was not validated so
		}
	}
	if h.found > 0 && h.denied == h.found && a.answer.query.rule.allDown.mode == answerServfail {
		a.denial = answerServfail
	}
	if h.found > 0 || h.sealed || a.degraded {
		a.limitHintTTL()
	}
}

// hintArranger arranges the hints of the HTTPS and SVCB records of a section.
type hintArranger struct {
	section *arrangement

	found  int  // hints of unsigned records
	denied int  // of these, the hints whose addresses are all down and replaced
	sealed bool // signed records have hints

	known map[hintKey]arrangedHint // nil if no record can have the hints of another
}

// hintKey is the same for hints that take one turn: those of duplicates, and the same addresses for
// another protocol.
type hintKey struct {
	target   string // lower case
	priority uint16
	key      dns.SVCBKey
	addrs    string // sorted
}

// arrangedHint is what became of a hint.
type arrangedHint struct {
	addrs   []net.IP
	denied  bool // all are down and replaced
	removed removals
}

// knownHints returns a map for the hints of a section, nil if it has a single record.
func knownHints(rrs []dns.RR) map[hintKey]arrangedHint {
	n := 0
	for _, rr := range rrs {
		if svcbOf(rr) != nil {
			n++
		}
	}
	if n < 2 {
		return nil
	}
	return make(map[hintKey]arrangedHint, n)
}

// keyOfHint returns the key of a hint.
func keyOfHint(svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP) hintKey {
	if len(addrs) > 1 {
		addrs = slices.SortedFunc(slices.Values(addrs), func(a, b net.IP) int { return bytes.Compare(a.To16(), b.To16()) })
	}
	b := make([]byte, 0, net.IPv6len*len(addrs))
	for _, addr := range addrs {
		b = append(b, addr.To16()...)
	}
	return hintKey{strings.ToLower(svcb.target()), svcb.Priority, key, string(b)}
}

// judgeSealed notes what would become of the hints of a signed record.
func (h *hintArranger) judgeSealed(svcb *svcbRecord) {
	out := h.section
	would := hintArranger{section: &arrangement{answer: out.answer, buf: out.buf, stays: true}}
	value, _ := would.values(svcb)
	h.sealed = h.sealed || would.found > 0
	out.degraded = out.degraded || would.section.degraded
	if would.section.removed != (removals{}) || len(value) < len(svcb.Value) {
		out.outcome = max(out.outcome, sealed)
	}
}

// values returns the parameters of a record with its hints arranged.
func (h *hintArranger) values(svcb *svcbRecord) (value []dns.SVCBKeyValue, changed bool) {
	value = slices.Clone(svcb.Value)
	for i, kv := range value {
		before := hintOf(kv)
		if len(before) == 0 {
			continue
		}
		after := h.arrangeOnce(svcb, kv.Key(), before)
		h.found++
		if after.denied {
			h.denied++
		}
		switch {
		case slices.EqualFunc(before, after.addrs, net.IP.Equal):
			continue
		case len(after.addrs) > 0:
			value[i] = newHint(kv.Key(), after.addrs)
		case isMandatory(svcb, kv.Key()):
			continue // without it clients would not use the record at all
		default:
			value[i] = nil
		}
		changed = true
	}
	return slices.DeleteFunc(value, func(kv dns.SVCBKeyValue) bool { return kv == nil }), changed
}

// arrangeOnce arranges a hint, unless the section had the same one before.
func (h *hintArranger) arrangeOnce(svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP) arrangedHint {
	if h.known == nil {
		after := h.arrange(svcb, key, addrs)
		h.section.removed.add(after.removed)
		return after
	}
	k := keyOfHint(svcb, key, addrs)
	after, ok := h.known[k]
	if !ok {
		after = h.arrange(svcb, key, addrs)
		h.known[k] = after
	}
	h.section.removed.add(after.removed)
	return after
}

// maxTurningHints is the most different hints of an answer that take turns: the others cost as
// much, and only an attacker has so many.
const maxTurningHints = 16

// stayAsTheyAre reports whether a rule treats all addresses of a hint alike, so that they need no
// arranging except for their turn.
func (h *hintArranger) stayAsTheyAre(target string, addrs []net.IP) bool {
	a := h.section
	if limit := a.answer.query.rule.answers; limit > 0 && len(addrs) > limit {
		return false
	}
	members := make([]member, len(addrs))
	for i, addr := range addrs {
		ip, _ := netip.AddrFromSlice(addr)
		members[i].addr = ip
	}
	rules := a.answer.query.rule.appliedTo(target)
	rules.assess(target, choice{line: noPreference}, len(members), func(i int) *member { return &members[i] }, a.buf)
	a.degraded = a.degraded || !a.buf.awaited.IsZero()
	first := a.buf.standings[0]
	return first.verdict != health.Down && !slices.ContainsFunc(a.buf.standings, func(s standing) bool { return s != first })
}

// arrange arranges the addresses of a hint as an RRset of the record's target.
func (h *hintArranger) arrange(svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP) arrangedHint {
	if len(h.known) >= maxTurningHints && h.stayAsTheyAre(svcb.target(), addrs) {
		return arrangedHint{addrs: addrs}
	}
	b := bufferPool.Get().(*buffers)
	defer b.release()
	out := h.section
	hint := arrangement{answer: out.answer, buf: b, in: hintRecords(svcb, key, addrs), stays: out.stays}
	b.scan.scan(hint.in)
	hint.arrange(turnKey{where: inHints, priority: svcb.Priority})
	out.outcome = max(out.outcome, hint.outcome)
	out.degraded = out.degraded || hint.degraded
	if hint.denial != answerOpen {
		return arrangedHint{denied: true, removed: hint.removed}
	}
	return arrangedHint{addrs: addressesOf(hint.records()), removed: hint.removed}
}

// addressesOf returns the addresses of A and AAAA records.
func addressesOf(rrs []dns.RR) (addrs []net.IP) {
	for _, rr := range rrs {
		switch rr := rr.(type) {
		case *dns.A:
			addrs = append(addrs, rr.A)
		case *dns.AAAA:
			addrs = append(addrs, rr.AAAA)
		}
	}
	return addrs
}

// signedHints returns the RRsets of HTTPS and SVCB records that a section has signatures of, nil if
// there are none.
func signedHints(rrs []dns.RR) map[setKey]bool {
	var signed map[setKey]bool
	for _, rr := range rrs {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || !hasHintTTL(sig) {
			continue
		}
		if signed == nil {
			signed = make(map[setKey]bool)
		}
		signed[setKey{strings.ToLower(sig.Hdr.Name), sig.TypeCovered}] = true
	}
	return signed
}

// limitHintTTL lowers the TTL of the records that carry hints, with that of their signatures.
func (a *arrangement) limitHintTTL() {
	limits := a.answer.query.rule.ttl
	if !limits.limited {
		return
	}
	ttl := limits.limit(a.degraded)
	for _, rr := range a.sectionNow() {
		if hasHintTTL(rr) {
			ttl = min(ttl, rr.Header().Ttl)
		}
	}
	for i, rr := range a.sectionNow() {
		if lowered := svcbWithTTL(rr, ttl); lowered != nil {
			a.own()
			a.out[i] = lowered
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"bytes"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// arrangeHints arranges the addresses that HTTPS and SVCB records carry (RFC 9460, section 7.3): clients
// may go by them until they have A and AAAA records. A family's hints are ordered, filtered and cut down as
// an RRset of those addresses would be. Hints of signed records stay as they are.
func (a *answer) arrangeHints(out *arrangement) {
	hints, signed := hintCount{seen: seenHints(out.sectionNow())}, signedHints(out.in)
	for i, rr := range out.sectionNow() {
		svcb := svcbOf(rr)
		if svcb == nil || len(svcb.Value) == 0 {
			continue
		}
		if len(signed) > 0 && signed[setKey{strings.ToLower(svcb.Hdr.Name), svcb.Hdr.Rrtype}] {
			a.sealedHints(out, svcb, &hints)
			continue
		}
		if value, changed := a.hints(out, svcb, &hints); changed {
			out.own()
			out.out[i] = withValue(rr, value)
			out.removedUnsigned = true // what is left was not validated so
		}
	}
	if hints.all > 0 && hints.denied == hints.all && a.rule.allDown.mode == answerServfail {
		out.denial = answerServfail
	}
	if hints.all > 0 || hints.sealed || out.degraded {
		a.limitHintTTL(out)
	}
}

// sealedHints notes what would become of the hints of a signed record.
func (a *answer) sealedHints(out *arrangement, svcb *svcbRecord, count *hintCount) {
	would, found := arrangement{scratch: out.scratch, stays: true}, hintCount{}
	value, _ := a.hints(&would, svcb, &found)
	count.sealed = count.sealed || found.all > 0
	out.degraded = out.degraded || would.degraded
	if would.removed != (removals{}) || len(value) < len(svcb.Value) {
		out.outcome = max(out.outcome, sealed)
	}
}

// hintCount counts the hints of an answer, and those of which all addresses are down and replaced.
type hintCount struct {
	all, denied int
	sealed      bool // signed records have hints, which do not count

	seen map[hintKey]arranged // nil where no record can have the hints of another
}

// hintKey is what records have in common whose hints take one turn: duplicates, or the same addresses for another protocol.
type hintKey struct {
	target   string // lower case
	priority uint16
	key      dns.SVCBKey
	addrs    string // sorted
}

// arranged is what became of a hint.
type arranged struct {
	addrs   []net.IP
	denied  bool
	removed removals
}

// seenHints returns where to remember the hints of a section, nil where it has one record alone.
func seenHints(rrs []dns.RR) map[hintKey]arranged {
	n := 0
	for _, rr := range rrs {
		if svcbOf(rr) != nil {
			n++
		}
	}
	if n < 2 {
		return nil
	}
	return make(map[hintKey]arranged)
}

// keyOfHint returns the key of a hint.
func keyOfHint(svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP) hintKey {
	sorted := slices.SortedFunc(slices.Values(addrs), func(a, b net.IP) int { return bytes.Compare(a.To16(), b.To16()) })
	var b []byte
	for _, addr := range sorted {
		b = append(b, addr.To16()...)
	}
	return hintKey{strings.ToLower(svcb.target()), svcb.Priority, key, string(b)}
}

// target returns the name that the record's hints are addresses of.
func (s *svcbRecord) target() string {
	if s.Target == "." {
		return s.Hdr.Name
	}
	return s.Target
}

// svcbRecord is an HTTPS or SVCB record.
type svcbRecord struct{ *dns.SVCB }

// svcbOf returns what HTTPS and SVCB records of class IN have in common, nil for others.
func svcbOf(rr dns.RR) *svcbRecord {
	var svcb *dns.SVCB
	switch rr := rr.(type) {
	case *dns.HTTPS:
		svcb = &rr.SVCB
	case *dns.SVCB:
		svcb = rr
	}
	if svcb == nil || !isIN(&svcb.Hdr) {
		return nil
	}
	return &svcbRecord{svcb}
}

// withValue returns a copy of a record with other parameters.
func withValue(rr dns.RR, value []dns.SVCBKeyValue) dns.RR {
	if https, ok := rr.(*dns.HTTPS); ok {
		c := *https
		c.Value = value
		return &c
	}
	c := *rr.(*dns.SVCB)
	c.Value = value
	return &c
}

// hints returns the parameters of a record with its hints arranged.
func (a *answer) hints(out *arrangement, svcb *svcbRecord, count *hintCount) (value []dns.SVCBKeyValue, changed bool) {
	value = slices.Clone(svcb.Value)
	for i, kv := range value {
		before := hintOf(kv)
		if len(before) == 0 {
			continue
		}
		after, denied := a.hintOnce(out, svcb, kv.Key(), before, count.seen)
		count.all++
		if denied {
			count.denied++
		}
		switch {
		case slices.EqualFunc(before, after, net.IP.Equal):
			continue
		case len(after) > 0:
			value[i] = newHint(kv.Key(), after)
		case isMandatory(svcb, kv.Key()):
			continue // without it clients would not take the record at all
		default:
			value[i] = nil
		}
		changed = true
	}
	return slices.DeleteFunc(value, func(kv dns.SVCBKeyValue) bool { return kv == nil }), changed
}

func hintOf(kv dns.SVCBKeyValue) []net.IP {
	switch kv := kv.(type) {
	case *dns.SVCBIPv4Hint:
		return kv.Hint
	case *dns.SVCBIPv6Hint:
		return kv.Hint
	}
	return nil
}

func newHint(key dns.SVCBKey, addrs []net.IP) dns.SVCBKeyValue {
	if key == dns.SVCB_IPV4HINT {
		return &dns.SVCBIPv4Hint{Hint: addrs}
	}
	return &dns.SVCBIPv6Hint{Hint: addrs}
}

// isMandatory tells whether a record names a key as mandatory (RFC 9460, section 8).
func isMandatory(svcb *svcbRecord, key dns.SVCBKey) bool {
	for _, kv := range svcb.Value {
		if m, ok := kv.(*dns.SVCBMandatory); ok && slices.Contains(m.Code, key) {
			return true
		}
	}
	return false
}

// hintOnce is hint, where records of the answer may have the same hints: these take one turn.
func (a *answer) hintOnce(out *arrangement, svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP, seen map[hintKey]arranged) (after []net.IP, denied bool) {
	if seen == nil {
		return a.hint(out, svcb, key, addrs)
	}
	k := keyOfHint(svcb, key, addrs)
	if before, ok := seen[k]; ok {
		out.removed.add(before.removed)
		return before.addrs, before.denied
	}
	sum := out.removed
	out.removed = removals{}
	after, denied = a.hint(out, svcb, key, addrs)
	seen[k] = arranged{after, denied, out.removed}
	out.removed.add(sum)
	return after, denied
}

// hint arranges the addresses of one hint as an RRset of the record's target, and tells whether all
// are down and none is to be answered.
func (a *answer) hint(out *arrangement, svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP) (after []net.IP, denied bool) {
	s := scratches.Get().(*scratch)
	defer s.release()
	rrs := hintRecords(svcb, key, addrs)
	s.scan(rrs)
	arranged := arrangement{stays: out.stays}
	a.arrange(&arranged, s, turnKey{where: inHints, priority: svcb.Priority}, rrs)
	out.outcome = max(out.outcome, arranged.outcome)
	out.degraded = out.degraded || arranged.degraded
	out.removed.add(arranged.removed)
	if arranged.denial != answerOpen {
		return nil, true
	}
	for _, rr := range arranged.records() {
		switch rr := rr.(type) {
		case *dns.A:
			after = append(after, rr.A)
		case *dns.AAAA:
			after = append(after, rr.AAAA)
		}
	}
	return after, false
}

// hintRecords returns the addresses of a hint as records of the record's target.
func hintRecords(svcb *svcbRecord, key dns.SVCBKey, addrs []net.IP) []dns.RR {
	header := dns.RR_Header{Name: svcb.target(), Class: dns.ClassINET, Ttl: svcb.Hdr.Ttl, Rrtype: dns.TypeAAAA}
	rrs := make([]dns.RR, 0, len(addrs))
	for _, addr := range addrs {
		if key == dns.SVCB_IPV4HINT {
			header.Rrtype = dns.TypeA
			rrs = append(rrs, &dns.A{Hdr: header, A: addr})
		} else {
			rrs = append(rrs, &dns.AAAA{Hdr: header, AAAA: addr})
		}
	}
	return rrs
}

// signedHints returns the RRsets of HTTPS and SVCB records that a section has signatures of, nil where there are none.
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
func (a *answer) limitHintTTL(out *arrangement) {
	if !a.rule.ttl.limited {
		return
	}
	ttl := a.rule.ttl.limit(out.degraded)
	for _, rr := range out.sectionNow() {
		if hasHintTTL(rr) {
			ttl = min(ttl, rr.Header().Ttl)
		}
	}
	for i, rr := range out.sectionNow() {
		if lowered := svcbWithTTL(rr, ttl); lowered != nil {
			out.own()
			out.out[i] = lowered
		}
	}
}

// hasHintTTL tells whether a record is one of HTTPS or SVCB, or the signature of such, which have one TTL.
func hasHintTTL(rr dns.RR) bool {
	if sig, ok := rr.(*dns.RRSIG); ok {
		return isIN(&sig.Hdr) && (sig.TypeCovered == dns.TypeHTTPS || sig.TypeCovered == dns.TypeSVCB)
	}
	return svcbOf(rr) != nil
}

// svcbWithTTL returns a copy of an HTTPS or SVCB record, or of its signature, with another TTL; nil for
// other records and where it has that TTL.
func svcbWithTTL(rr dns.RR, ttl uint32) dns.RR {
	if !hasHintTTL(rr) || rr.Header().Ttl == ttl {
		return nil
	}
	switch rr := rr.(type) {
	case *dns.HTTPS:
		c := *rr
		c.Hdr.Ttl = ttl
		return &c
	case *dns.SVCB:
		c := *rr
		c.Hdr.Ttl = ttl
		return &c
	case *dns.RRSIG:
		c := *rr
		c.Hdr.Ttl = ttl
		return &c
	}
	return nil
}

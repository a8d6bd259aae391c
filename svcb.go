// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net"
	"slices"

	"github.com/miekg/dns"
)

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

// hintOf returns the addresses of a parameter, nil if it is no hint.
func hintOf(kv dns.SVCBKeyValue) []net.IP {
	switch kv := kv.(type) {
	case *dns.SVCBIPv4Hint:
		return kv.Hint
	case *dns.SVCBIPv6Hint:
		return kv.Hint
	}
	return nil
}

// newHint returns the parameter of a key with other addresses.
func newHint(key dns.SVCBKey, addrs []net.IP) dns.SVCBKeyValue {
	if key == dns.SVCB_IPV4HINT {
		return &dns.SVCBIPv4Hint{Hint: addrs}
	}
	return &dns.SVCBIPv6Hint{Hint: addrs}
}

// isMandatory reports whether a record names a key as mandatory (RFC 9460, section 8).
func isMandatory(svcb *svcbRecord, key dns.SVCBKey) bool {
	for _, kv := range svcb.Value {
		if m, ok := kv.(*dns.SVCBMandatory); ok && slices.Contains(m.Code, key) {
			return true
		}
	}
	return false
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

// hasHintTTL reports whether a record is an HTTPS or SVCB record, or a signature of these.
func hasHintTTL(rr dns.RR) bool {
	if sig, ok := rr.(*dns.RRSIG); ok {
		return isIN(&sig.Hdr) && (sig.TypeCovered == dns.TypeHTTPS || sig.TypeCovered == dns.TypeSVCB)
	}
	return svcbOf(rr) != nil
}

// svcbWithTTL returns a copy of an HTTPS or SVCB record, or of its signature, with another TTL. It
// returns nil for other records, and if the TTL is the same.
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

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/locality"
)

// client is the client of a query, if the rule depends on it. What an answer does not need is never
// worked out. Owned by one query.
type client struct {
	writer dns.ResponseWriter
	qname  string            // as asked; plugins below may rewrite the question
	subnet *dns.EDNS0_SUBNET // of the query, if a resolver sent it that is trusted; else nil

	held      conditionSet      // of the rule's prefer lines
	place     locality.Locality // if a prefer line goes by it
	consulted bool              // an answer depended on who asks

	explanation *explanation // nil unless somebody asks why
}

// needsClient reports whether answers may depend on the client, or tell a resolver which clients
// they are for.
func (r *rule) needsClient() bool { return r.policy.byClient || len(r.prefer) > 0 || len(r.ecs) > 0 }

// clientOf returns who asks.
func (r *rule) clientOf(w dns.ResponseWriter, query *dns.Msg) client {
	c := client{writer: w, qname: query.Question[0].Name}
	if qtype := query.Question[0].Qtype; len(r.ecs) > 0 && qtype != dns.TypeAXFR && qtype != dns.TypeIXFR {
		c.subnet = r.trustedSubnet(addrOf(w.RemoteAddr()), query)
	}
	return c
}

// addr returns the client's address: that of the client subnet option if a trusted resolver sent
// one, else the sender's. It is the zero Addr if there is none.
func (c *client) addr() netip.Addr {
	c.consulted = true
	if c.subnet != nil && c.subnet.SourceNetmask > 0 {
		if addr, ok := netip.AddrFromSlice(c.subnet.Address); ok {
			if p, err := addr.Unmap().Prefix(int(c.subnet.SourceNetmask)); err == nil {
				return p.Addr()
			}
		}
	}
	return addrOf(c.writer.RemoteAddr())
}

// key returns the client's key for the policies that go by it.
func (c *client) key(r *rule) uint64 {
	return clientKey(c.addr(), r.sticky, c.qname)
}

// trustedSubnet returns the client subnet option of a query (RFC 7871). It returns nil if there is
// none, or if the rule does not trust the resolver that sent it.
func (r *rule) trustedSubnet(resolver netip.Addr, query *dns.Msg) *dns.EDNS0_SUBNET {
	if !slices.ContainsFunc(r.ecs, func(p netip.Prefix) bool { return p.Contains(resolver) }) {
		return nil
	}
	subnet := subnetOf(query.IsEdns0())
	if subnet == nil {
		return nil
	}
	own := *subnet // plugins below may rewrite the query
	own.Address = slices.Clone(subnet.Address)
	return &own
}

// dependsOnClient reports whether answers may differ from client to client.
func (r *rule) dependsOnClient() bool {
	return r.policy.byClient || slices.ContainsFunc(r.prefer, func(p preference) bool { return !p.isBare() })
}

// addressBits returns the length of the addresses of a family in the option, in bits, 0 for an
// unknown family.
func addressBits(family uint16) int {
	switch family {
	case 1:
		return 32
	case 2:
		return 128
	}
	return 0
}

// subnetOf returns the client subnet option of an OPT record, nil if there is none.
func subnetOf(opt *dns.OPT) *dns.EDNS0_SUBNET {
	if opt == nil {
		return nil
	}
	for _, option := range opt.Option {
		if subnet, ok := option.(*dns.EDNS0_SUBNET); ok {
			return subnet
		}
	}
	return nil
}

// scopeOf returns how many leading bits of a client's address the rule's answers depend on. The
// address has the given number of bits: 32 or 128.
func (r *rule) scopeOf(bits int) int {
	scope := 0
	if r.policy.byClient {
		scope = r.sticky.v6
		if bits == 32 {
			scope = r.sticky.v4
		}
	}
	for _, p := range r.prefer {
		if p.near != nil {
			scope = max(scope, r.localities.longestPrefix(bits))
		}
		for _, from := range p.from {
			if from.Addr().BitLen() == bits {
				scope = max(scope, from.Bits())
			}
		}
	}
	return scope
}

// withSubnet returns a reply that tells a trusted resolver for which other clients it may keep the
// answer. It returns res itself if the query had no client subnet option.
func (a *answer) withSubnet(res *dns.Msg) *dns.Msg {
	if a.client == nil || a.client.subnet == nil || res == nil {
		return res
	}
	return a.client.withSubnet(a.query.rule.rule, res)
}

func (c *client) withSubnet(r *rule, res *dns.Msg) *dns.Msg {
	query := c.subnet
	reply := *query
	reply.SourceScope = 0
	bits := uint8(addressBits(query.Family))
	if c.consulted && query.SourceNetmask > 0 {
		reply.SourceScope = uint8(r.scopeOf(int(bits)))
		if r.conditional { // an expression may depend on all of it
			reply.SourceScope = max(reply.SourceScope, query.SourceNetmask)
		}
	}
	if upstream := subnetOf(res.IsEdns0()); upstream != nil && upstream.Family == query.Family && upstream.SourceNetmask == query.SourceNetmask && upstream.Address.Equal(query.Address) {
		// Its answer may be for some clients only.
		reply.SourceScope = min(max(reply.SourceScope, upstream.SourceScope), bits)
	}
	out := *res
	out.Extra = slices.DeleteFunc(slices.Clone(res.Extra), func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	if before := res.IsEdns0(); before != nil {
		opt.Hdr = before.Hdr
		opt.Option = slices.DeleteFunc(slices.Clone(before.Option), func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0SUBNET })
	}
	opt.Option = append(opt.Option, &reply)
	out.Extra = append(out.Extra, opt)
	return &out
}

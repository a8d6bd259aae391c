// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"strings"

	"github.com/miekg/dns"
)

// chainFirst returns the records of an answer with its CNAMEs and DNAMEs moved ahead, in the order
// in which they lead from qname to the records behind them (RFC 1034, section 3.6.2): some stub
// resolvers, glibc's among them, read an answer only once. A DNAME goes ahead of the CNAME made
// from it (RFC 6672, section 3.1), if it is among the first maxFollowed links. All other records
// keep their order.
func chainFirst(qname string, rrs []dns.RR) []dns.RR {
	c := newChain(rrs)
	out := make([]dns.RR, 0, len(rrs))
	followed := 0
	for name := strings.ToLower(qname); ; followed++ {
		if followed < maxFollowed {
			out = append(out, c.takeDNAMEs(name)...)
		}
		cnames := c.take(c.cnames, name)
		if len(cnames) == 0 {
			break
		}
		out = append(out, cnames...)
		name = strings.ToLower(cnames[0].(*dns.CNAME).Target)
	}
	for _, rr := range c.links { // those that are not on the way
		if !c.taken[rr] {
			out = append(out, rr)
		}
	}
	return append(out, c.rest...)
}

// maxFollowed is the most names of a chain for which DNAMEs are looked up, because every label
// costs a lookup. No resolver follows nearly as many.
const maxFollowed = 64

// chain is an answer taken apart.
type chain struct {
	links  []dns.RR            // CNAMEs and DNAMEs
	cnames map[string][]dns.RR // by owner, in lower case
	dnames map[string][]dns.RR
	taken  map[dns.RR]bool
	rest   []dns.RR
}

func newChain(rrs []dns.RR) *chain {
	c := &chain{cnames: map[string][]dns.RR{}, dnames: map[string][]dns.RR{}, taken: map[dns.RR]bool{}}
	for _, rr := range rrs {
		owner := ""
		if !isIN(rr.Header()) {
			c.rest = append(c.rest, rr)
			continue
		}
		switch rr := rr.(type) {
		case *dns.CNAME:
			owner = strings.ToLower(rr.Hdr.Name)
			c.cnames[owner] = append(c.cnames[owner], rr)
		case *dns.DNAME:
			owner = strings.ToLower(rr.Hdr.Name)
			c.dnames[owner] = append(c.dnames[owner], rr)
		default:
			c.rest = append(c.rest, rr)
			continue
		}
		c.links = append(c.links, rr)
	}
	return c
}

// take returns what byOwner has under name, once.
func (c *chain) take(byOwner map[string][]dns.RR, name string) []dns.RR {
	links := byOwner[name]
	delete(byOwner, name)
	for _, rr := range links {
		c.taken[rr] = true
	}
	return links
}

// takeDNAMEs returns the DNAMEs above name.
func (c *chain) takeDNAMEs(name string) (links []dns.RR) {
	if len(c.dnames) == 0 {
		return nil
	}
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		links = append(links, c.take(c.dnames, name[off:])...)
	}
	return append(links, c.take(c.dnames, ".")...)
}

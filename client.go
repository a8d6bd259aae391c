// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"net/netip"

	"github.com/miekg/dns"
)

// client is who asks. What is not needed for an answer is never worked out. Owned by one query.
type client struct {
	writer dns.ResponseWriter
	qname  string // as asked; plugins below may rewrite the question
}

// addr returns the client's address: the zero Addr where it has none.
func (c *client) addr() netip.Addr { return addrOf(c.writer.RemoteAddr()) }

// key returns the client's key for the policies that go by it.
func (c *client) key(r *rule) uint64 {
	return clientKey(c.addr(), r.sticky, c.qname)
}

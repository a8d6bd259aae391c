// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	golog "log"
	"strconv"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind" // the bind directive

	"github.com/miekg/dns"

	_ "github.com/seed-f1518d44/balance" // the balance plugin
	"github.com/seed-f1518d44/balance/internal/directives"
	"github.com/seed-f1518d44/balance/tools/internal/fakes"
)

// zone holds the names of the endpoints.
const zone = "bench."

// dnsServer is the address of the prober's CoreDNS, in its own namespace.
const dnsServer = "127.0.0.1:5300"

// upstream is the plugin below balance: it answers every name n<i> with the addresses of
// RecordsPerName endpoints, made at each query, so that it holds no memory.
type upstream struct{}

const upstreamName = "benchprobes"

// Name implements plugin.Handler.
func (upstream) Name() string { return upstreamName }

// ServeDNS implements plugin.Handler.
func (upstream) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m := new(dns.Msg)
	m.SetReply(r)
	name := r.Question[0].Name
	i, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "n"), "."+zone))
	if err != nil || r.Question[0].Qtype != dns.TypeA {
		m.Rcode = dns.RcodeNameError
		return dns.RcodeSuccess, w.WriteMsg(m)
	}
	for n := range RecordsPerName {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
			A:   fakes.Address(i*RecordsPerName + n).AsSlice(),
		})
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// installPlugins makes balance and the upstream directives of the servers of this process.
func installPlugins() error {
	caddy.Quiet, dnsserver.Quiet = true, true
	golog.SetOutput(io.Discard) // new verdicts are put into words, but not written
	plugin.Register(upstreamName, func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return upstream{} })
		return nil
	})
	if err := directives.Install(); err != nil {
		return err
	}
	return dnsserver.SetDirectives(append(dnsserver.Directives, upstreamName))
}

// corefile is a Corefile as Caddy wants it.
type corefile string

// Body implements caddy.Input.
func (c corefile) Body() []byte { return []byte(c) }

// Path implements caddy.Input.
func (c corefile) Path() string { return "Corefile" }

// ServerType implements caddy.Input.
func (c corefile) ServerType() string { return "dns" }

// corefileWith returns the Corefile of a server with an option of balance, or none.
func corefileWith(option string) corefile {
	return corefile(fmt.Sprintf("%s:5300 {\n  bind 127.0.0.1\n  balance {\n    policy round_robin\n    %s\n  }\n  %s\n}\n", zone, option, upstreamName))
}

// healthCheck returns the health_check of a scenario.
func (s Scenario) healthCheck(port int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "health_check %s %d {\n allow 127.0.0.0/8\n interval %s\n timeout %s\n", s.Check, port, s.Interval, s.Timeout)
	fmt.Fprintf(&b, " max_endpoints %d\n max_in_flight %d\n", s.Endpoints, s.MaxInFlight)
	if s.MaxInterval > 0 {
		fmt.Fprintf(&b, " max_interval %s\n", s.MaxInterval)
	}
	if s.Hold {
		b.WriteString(" hold\n")
	}
	b.WriteString(" }")
	return b.String()
}

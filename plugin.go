// SPDX-License-Identifier: Apache-2.0

// Package balance is a CoreDNS plugin that decides which records of an answer a client gets, and
// in which order, whatever plugin produced the answer.
//
// It owns no zone data. A Corefile enables it with one word, which means strict round robin for
// every zone of the server block; README.md has the whole syntax.
//
// # How an answer travels
//
//	Balance.ServeDNS   finds the rule of the question's name, calls the next plugin      plugin.go
//	answer.WriteMsg    takes what came up the chain and hands on what goes out           plugin.go
//	answer.balance     leaves alone what is not ours, else goes through the sections     plugin.go
//	scratch.scan       finds the RRsets of a section and the slots that each holds       rrset.go
//	answer.arrange     goes through them; what follows is for each                       plugin.go
//	zoneRule.turns     finds how often the RRset was answered, whatever came up since    turns.go
//	classify           decides who answers, given weights, tiers and verdicts            classify.go
//	plan               holds what follows from it; immutable, made anew when that changes plan.go
//	policy             turns the turn into an order                    roundrobin.go, weighted.go
//	arrangement.place  puts the records into their slots: order, answers N, TTL          arrange.go
//
// A probe's way, from schedule to verdict, is in internal/health. The two meet in health.go, when a plan is made:
// looking up the verdicts on its members registers them for probing, and a new verdict outdates the plan.
//
// # Where things are
//
//	setup.go        the directive: the table of options, validation after; an option that has a file is
//	                parsed there, arguments.go has what they share
//	corefile.go     lines, their positions in errors, and how a table of options is read
//	zones.go        the zones of a stanza
//	healthcheck.go  health_check: the table of protocols, checkoptions.go the table of options in its block
//	rule.go         a stanza and the search for the one that a name belongs to
//	policy.go       the table of policies and what a policy is
//	roundrobin.go, weighted.go, random.go, sticky.go   the policies: what each asks of internal/schedule
//	weights.go      the weight file, which internal/weights reads, file.go files that are read while the server runs
//	overrides.go    what operators say of members
//	client.go       who asks, and for whom
//	observe.go      to decide everything and change nothing
//	targets.go      MX and SRV whose targets are dead, hints.go addresses in HTTPS and SVCB
//	prefer.go, ttl.go, alldown.go, chain.go   an option or a step each
//	turntable.go    where the turns of RRsets are kept: found without a lock, and bounded
//	index.go        members found by hash, for upstreams that shuffle
//	member.go       one record of an RRset, as a value that compares
//	health.go       what a rule asks of internal/health, watch.go the names that are resolved from the start
//	life.go         what starts and stops with a server
//	status.go       the page that shows rules, overview.go what is on it, outlook.go what the next answers will be;
//	                internal/statuspage serves it
//	ledger.go       who led, and which RRsets are in use, for that page only
//	outcome.go      what became of an answer, and why records left it
//	log.go          the logger, and the plugin's name
//	metrics.go      what is counted, scrape.go what is looked up when it is scraped
//	position.go     the warnings about a chain that defeats us
package balance

import (
	"context"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
	"github.com/opentracing/opentracing-go"
)

// Balance is the plugin's handler. One stands in every chain that a server block is compiled into;
// they share what their rules know. Immutable once built, safe for concurrent use.
type Balance struct {
	Next plugin.Handler

	rules rules
}

var _ plugin.Handler = (*Balance)(nil)

// Name implements plugin.Handler.
func (b *Balance) Name() string { return pluginName }

// Ready implements the ready plugin's Readiness: true as soon as there is a verdict on the endpoints
// of all watched names, or after five seconds. What the verdicts are does not matter.
func (b *Balance) Ready() bool {
	for _, served := range b.rules.byZone {
		if len(served.watched()) > 0 && !served.watcher.ready.Load() {
			return false
		}
	}
	return true
}

// ServeDNS implements plugin.Handler. The rule is the one whose zone holds the question's name. A
// query that comes from another balance of this server, which follows a CNAME, is left alone: one
// client query is one turn.
func (b *Balance) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	a := b.answerTo(ctx, w, r)
	if a == nil {
		return plugin.NextOrFailure(b.Name(), b.Next, ctx, w, r)
	}
	if b.Next == nil || opentracing.SpanFromContext(ctx) != nil {
		return plugin.NextOrFailure(b.Name(), b.Next, &a.query, a, r)
	}
	// The rest of NextOrFailure is for writers that record which plugin wrote, and this one does not. It
	// would cost an allocation, and a frame on a stack that is about to grow.
	return b.Next.ServeDNS(&a.query, a, r)
}

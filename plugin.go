// SPDX-License-Identifier: Apache-2.0

// Package balance is a CoreDNS plugin that decides which records of an answer a client gets, and
// in which order, whatever plugin produced the answer.
//
// It owns no zone data. A Corefile enables it with one word, which means strict round robin for
// every zone of the server block; README.md has the whole syntax.
//
// # How an answer travels
//
//	Balance.ServeDNS          finds the rule of the question's name, calls the next plugin   plugin.go
//	answer.WriteMsg           receives the next plugin's reply, passes on the result         answer.go
//	answer.balance            arranges the sections of the message                           answer.go
//	scanner.scan              finds the RRsets of a section, with their positions            scanner.go
//	arrangement.arrangeSet    arranges one RRset, in the steps that follow                   arrangement.go
//	applied.stateOf           finds its plan and its turns in the turn cache                 applied.go
//	classify                  decides which members answer, by tier and verdict              classify.go
//	plan                      keeps that decision until something it depends on changes      plan.go
//	group.schedule            turns a turn number into an order                              policy.go
//	arrangement.place         puts the records into their slots, with their TTL              arrangement.go
//
// # How a probe travels
//
// internal/health describes that, from schedule to verdict. The two flows meet in health.go. A plan
// is made from verdicts: looking up the verdict on a member registers the member for probing, and a
// new verdict makes the plan stale. Queries only read published snapshots and hold no lock that
// another query can wait for.
//
// # Where things are
//
// The Corefile:
//
//	setup.go        the directive, the table of options, checks across options
//	corefile.go     lines, their positions in errors, how a table of options is read; arguments.go words
//	zones.go        the zones of a stanza, and stanzas with the same zone
//	listeners.go    where a server block listens, and why a listener failed
//	moved.go        the words that loadbalance takes
//	healthcheck.go  health_check: the table of protocols; checkoptions.go the options in its block;
//	                credentials.go certificates and keys that are read again
//	fleet.go        the fleet block
//	rule.go         a stanza, and the search for the one that a name belongs to
//	weights.go      the weight file; overrides.go operators' overrides; files.go both files
//
// An answer:
//
//	client.go       the client of a query; context.go queries that this server makes itself
//	applied.go      the rules that apply to an RRset; nested.go a pass through another block's rule
//	buffers.go      the memory for working out an answer
//	recordorder.go  which records belong to which member; index.go finds members by hash
//	member.go       one record of an RRset, as a comparable value; svcb.go HTTPS and SVCB records
//	group.go        members that take turns among themselves
//	turncache.go    where turns are kept: found without a lock, and bounded; turns.go the turns
//	policy.go       the table of policies; roundrobin.go, weighted.go, random.go, sticky.go
//	targets.go      MX and SRV records, by their targets; hints.go addresses in HTTPS and SVCB
//	glue.go         addresses that no record of the answer leads to, such as those of name servers
//	prefer.go       preferences; condition.go when, near.go and spill.go prefer locality
//	localities.go   which locality an address is in
//	past.go         slow_start, damp and failback, which depend on the past of members;
//	                handover.go what other replicas of a fleet have told about failback
//	load.go         weights that follow the load that members report
//	fit.go, ttl.go, alldown.go, chain.go, observe.go   an option or a step each
//
// What operators see:
//
//	status.go       the status page; overview.go what is on it, process.go about the process
//	forecast.go     which members lead the next answers; explain.go, explanation.go why
//	leadcounts.go   which members led; localitycounts.go leads by the client's locality;
//	                internal/statuspage serves the page
//	announce.go     what is logged about a new plan; log.go the logger
//	outcome.go      the results of an answer, and the reasons why records left it
//	metrics.go      counters; scrape.go metrics made at a scrape
//	position.go     warnings about the position in plugin.cfg
//	dryrun.go       the flag -balance.check; dryrunzones.go the zones that a Corefile loads;
//	                comparison.go a rule compared with them; unmatched.go its lines that match nothing
//
// Life:
//
//	health.go       what a rule asks of internal/health; watch.go names resolved from the start
//	life.go         what starts and stops with a server; lives.go what runs
//	replica.go      this process in its fleet; resolve.go what it asks of the rules that run
//	keeper.go       what replicas tell each other about failback; voters.go the fleet for the page
package balance

import (
	"context"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
	"github.com/opentracing/opentracing-go"
)

// Balance is the plugin's handler. Each chain built from a server block has its own; they share the
// rules. Immutable once built, safe for concurrent use.
type Balance struct {
	Next plugin.Handler

	rules rules
}

var _ plugin.Handler = (*Balance)(nil)

// Name implements plugin.Handler.
func (b *Balance) Name() string { return pluginName }

// Ready implements the ready plugin's Readiness. It reports true once the endpoints of all watched
// names have verdicts, up or down. A replica of a fleet must also know what the others know. After
// five seconds it waits for neither. With "locality kubernetes" it waits until the nodes have been
// read.
func (b *Balance) Ready() bool {
	for _, served := range b.rules.byZone {
		if r := inFleet.current.Load(); served.fleet != nil && r != nil && !r.ready() {
			return false
		}
		if len(served.watched()) > 0 && !served.watcher.ready.Load() || !served.localities.ready() {
			return false
		}
	}
	return true
}

// ServeDNS implements plugin.Handler. The rule is the one whose zone holds the question's name. A
// query that this server makes itself, to follow a CNAME, takes no turn: one client query is one
// turn.
func (b *Balance) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	a := b.rules.answerTo(ctx, w, r)
	if a == nil {
		return plugin.NextOrFailure(b.Name(), b.Next, ctx, w, r)
	}
	if b.Next == nil || opentracing.SpanFromContext(ctx) != nil {
		return plugin.NextOrFailure(b.Name(), b.Next, &a.query, a, r)
	}
	// NextOrFailure would make the same call, at the cost of an allocation and a stack frame.
	return b.Next.ServeDNS(&a.query, a, r)
}

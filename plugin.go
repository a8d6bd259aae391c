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
//	stack.go        queries that need not grow their stacks
//	position.go     the warnings about a chain that defeats us
package balance

import (
	"context"
	"math/rand/v2"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"

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
// query that another balance of this server has in hand already, for it re-entered the server to
// follow a CNAME, is left alone: one client query is one turn.
func (b *Balance) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	growStack(0)
	a := b.answerTo(ctx, w, r)
	if a == nil {
		return plugin.NextOrFailure(b.Name(), b.Next, ctx, w, r)
	}
	if b.Next == nil || opentracing.SpanFromContext(ctx) != nil {
		return plugin.NextOrFailure(b.Name(), b.Next, &a.inHand, a, r)
	}
	// All else that NextOrFailure does is for a writer that is asked which plugin wrote, as ours is not. It would
	// cost an allocation, and a frame on a stack that is about to grow.
	return b.Next.ServeDNS(&a.inHand, a, r)
}

// answerTo returns the writer for a query's answer, nil where the answer is not ours to balance.
func (b *Balance) answerTo(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) *answer {
	rule := b.rules.of(r)
	if rule == nil || nested(ctx) {
		return nil
	}
	a := &answer{ResponseWriter: w, rule: rule, counters: rule.countersFor(ctx), inHand: clientQuery{ctx}}
	a.place = uint8(rand.Uint32()) //nolint:gosec // no secret
	rule.watcher.note(ctx)
	if rule.asksWho() {
		a.client = rule.clientOf(w, r)
	}
	return a
}

// answer is the writer that the plugins below are given: what they write goes out balanced. Owned
// by the one client query that it was made for.
type answer struct {
	dns.ResponseWriter
	rule *servedRule

	counters *counters
	client   *client // nil where the rule does not go by it
	inHand   clientQuery
	reply    dns.Msg   // the first message handed on, where it is not the one that came up
	few      [3]dns.RR // the first section of that, where it is so small: with it the answer fills a size class of the allocator
	used     bool      // reply is taken
	fewUsed  bool      // few is taken
	place    uint8     // where it counts what passes, so that few do at the same place
}

// WriteMsg implements dns.ResponseWriter. It neither writes to res nor to anything that res
// refers to, for both belong to a plugin below that may hand them out again.
func (a *answer) WriteMsg(res *dns.Msg) error {
	decided := a.balance(res)
	if a.rule.observe {
		return a.ResponseWriter.WriteMsg(res)
	}
	return a.ResponseWriter.WriteMsg(a.withSubnet(decided))
}

// Write implements dns.ResponseWriter: packed bytes go out as they came.
func (a *answer) Write(packed []byte) (int, error) {
	a.counters.count(a.place, passed)
	return a.ResponseWriter.Write(packed)
}

// balance returns what is to go out in place of res: res itself where nothing changes. Its frame
// is gone before the next writer is called, which keeps a query's stack small.
func (a *answer) balance(res *dns.Msg) *dns.Msg {
	if !a.rule.balances(res) {
		a.counters.count(a.place, passed)
		return res
	}
	s := scratches.Get().(*scratch)
	defer s.release()

	var out, extra arrangement
	extra.in = res.Extra
	s.scan(res.Answer)
	if s.carriesTargets { // their addresses are in the additional section, and tell which targets are dead
		s.scan(res.Extra)
		a.arrange(&extra, s, turnKey{where: inExtra}, res.Extra)
		extra.outcome = min(extra.outcome, filtered) // it is for the answer to fail open
		s.findDeadTargets(s.plans)
		s.scan(res.Answer)
	}
	a.answerSection(&out, s, res)
	if len(s.dead) > 0 && out.removed[wasDown] > 0 {
		extra.dropGlue(out.sectionNow())
	}
	c := a.counters
	c.count(s.place, max(out.outcome, extra.outcome))
	c.countRemoved(s.place, &out.removed)
	c.countRemoved(s.place, &extra.removed)
	return a.message(res, &out, &extra, s.removedUnsigned)
}

// answerSection arranges the answer section, which was scanned, CNAMEs first.
func (a *answer) answerSection(out *arrangement, s *scratch, res *dns.Msg) {
	rrs := res.Answer
	if s.chainLate {
		rrs = chainFirst(res.Question[0].Name, rrs)
		s.scan(rrs)
	}
	hints := s.carriesHints
	a.arrange(out, s, turnKey{where: inAnswer}, rrs)
	if hints {
		a.arrangeHints(out)
	}
}

// arrange arranges the records of a section that was scanned. The key says where they are.
func (a *answer) arrange(out *arrangement, s *scratch, key turnKey, rrs []dns.RR) {
	out.scratch, out.answer, out.in = s, a, rrs
	s.plans = s.plans[:0]
	for i := range s.sets {
		set := &s.sets[i]
		alone := len(set.slots) < 2
		if alone && !a.rule.judges() {
			s.plans = append(s.plans, nil)
			continue
		}
		key.rrtype, key.line = set.rrtype, a.preference(set)
		now, lineup := a.rule.turns(s, key, set, rrs)
		plan := now.plan
		s.plans = append(s.plans, plan)
		out.countAsItCame(now, lineup)
		switch {
		case plan.allDown && key.where != inExtra && set.holdsAddresses() && !set.sealed && a.rule.allDown.mode != answerOpen:
			out.replace(set, now)
		case !alone || a.rule.allDown.mode != answerOpen: // else an only record is left alone, and its TTL too
			out.place(set, now, lineup)
		default:
			out.leave(now)
		}
	}
}

// preference returns the number of the prefer line that the client's address falls under.
func (a *answer) preference(set *rrset) int8 {
	if len(a.rule.prefer) == 0 || !set.holdsAddresses() {
		return noPreference
	}
	return a.rule.preferenceFor(a.client.addr())
}

// message returns res with other sections: res itself where they are its own. A copy is made in
// the answer's own memory where that is free; a message is kept by the writers above for as long
// as they like, so that is used once.
func (a *answer) message(res *dns.Msg, answers, extra *arrangement, removedUnsigned bool) *dns.Msg {
	if answers.out == nil && extra.out == nil && answers.same(res.Answer) {
		return res
	}
	reply := &a.reply
	if a.used {
		reply = new(dns.Msg)
	}
	a.used = true
	*reply = *res
	reply.Answer, reply.Extra = answers.records(), extra.records()
	if removedUnsigned { // what is left was not validated as an RRset (RFC 4035, section 3.2.3)
		reply.AuthenticatedData = false
	}
	if answers.denial != answerOpen {
		a.rule.deny(reply, answers.denial, answers.denied)
	}
	return reply
}

// room returns memory for a section of n records that goes out.
func (a *answer) room(n int) []dns.RR {
	if n > len(a.few) || a.fewUsed {
		return make([]dns.RR, n)
	}
	a.fewUsed = true
	return a.few[:n:n]
}

// balances tells whether res is an answer with records to choose from: everything else passes
// untouched, a truncated answer because the client will ask again, an answer to ANY (RFC 8482)
// and a zone transfer because they are not choices. An only record is a choice where it may be
// down.
func (r *rule) balances(res *dns.Msg) bool {
	if res == nil || len(res.Answer) == 0 || len(res.Answer) == 1 && !r.judges() && svcbOf(res.Answer[0]) == nil {
		return false
	}
	if res.Rcode != dns.RcodeSuccess || res.Opcode != dns.OpcodeQuery || res.Truncated {
		return false
	}
	if len(res.Question) != 1 || res.Question[0].Qclass != dns.ClassINET {
		return false
	}
	switch res.Question[0].Qtype {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR:
		return false
	}
	return len(res.Answer) <= maxRecords && len(res.Extra) <= maxRecords
}

// clientQuery is the context that the plugins below are given: it marks the client's query as in
// hand. It is part of the answer rather than made with context.WithValue to save an allocation.
type clientQuery struct{ context.Context }

type clientQueryKey struct{}

// Value implements context.Context.
func (q *clientQuery) Value(key any) any {
	if key == (clientQueryKey{}) {
		return q
	}
	return q.Context.Value(key)
}

// nested tells whether ctx belongs to a query that a balance above has in hand.
func nested(ctx context.Context) bool { return ctx.Value(clientQueryKey{}) != nil }

// countersFor returns the counters of the rule for the server and view that a query came in by. Servers
// that differ in their address only have one chain.
func (r *servedRule) countersFor(ctx context.Context) *counters {
	server := metrics.WithServer(ctx)
	for {
		known := r.counters.Load()
		if known != nil {
			for _, c := range *known {
				if c.labels.server == server {
					return c
				}
			}
		}
		more := []*counters{allCounters.of(counterLabels{server, r.zone, metrics.WithView(ctx)})}
		if known != nil {
			more = append(more, *known...)
		}
		r.counters.CompareAndSwap(known, &more)
	}
}

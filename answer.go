// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"
)

// answer is the writer that the plugins below get: what they write goes out balanced. It is made
// for one client query and owned by it.
type answer struct {
	dns.ResponseWriter
	query clientQuery // with the rule

	counters *counters
	client   *client // nil unless the rule depends on it
	reply    dns.Msg // the first message that goes out, unless it is the one that came up
	// The first section of reply if it is so small; it fills a size class of the allocator.
	few     [3]dns.RR
	used    bool   // reply is taken
	fewUsed bool   // few is taken
	shard   uint8  // of the counters
	nested  bool   // another balance above orders what this one filters
	size    uint16 // of the reply that the client takes over UDP, for answers fit; 0: any
	most    uint16 // the most members of an RRset that fit; 0: all
}

// answerTo returns the writer for a query's answer, nil if the answer is not ours to balance.
func (r *rules) answerTo(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) *answer {
	rule := r.of(query)
	if rule == nil {
		return nil
	}
	above := queryAbove(ctx)
	if above != nil {
		if above.rule == nil || above.rule.zoneRule == rule.zoneRule {
			return nil // a query of our own, or one that the same rule has in hand
		}
		above.rule.warnOfAlias(query.Question[0].Name, rule.zoneRule)
		if !rule.filters() {
			return nil
		}
	}
	a := rule.newAnswer(above != nil)
	a.ResponseWriter, a.query.Context, a.query.rule, a.counters = w, ctx, rule, rule.countersFor(ctx)
	a.shard = uint8(rand.Uint32()) //nolint:gosec // no secret
	rule.watcher.note(ctx)
	if a.nested {
		a.explainedBy(ctx)
		return a
	}
	a.readQuery(ctx, w, query)
	return a
}

// newAnswer returns an empty answer. Its client, if it needs one, comes with it in one allocation.
func (r *servedRule) newAnswer(nested bool) *answer {
	if nested || !r.needsClient() {
		return &answer{nested: nested}
	}
	both := new(struct {
		answer answer
		client client
	})
	both.answer.client = &both.client
	return &both.answer
}

// filters reports whether the rule filters the answer to a query that another rule has in hand for
// a client. That rule orders the records and takes the turn.
func (r *servedRule) filters() bool { return r.judges() || r.ttl.limited || r.block != nil }

// readQuery notes what the answer depends on in a client's query, before plugins below rewrite it.
func (a *answer) readQuery(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) {
	rule := a.query.rule
	if a.client != nil {
		*a.client = rule.clientOf(w, query)
	}
	if rule.fits {
		a.size = sizeFor(w, query)
	}
	if rule.conditional {
		a.client.held = rule.conditionsFor(ctx, w, query)
	}
}

// WriteMsg implements dns.ResponseWriter. It writes neither to res nor to what res refers to: both
// belong to a plugin below that may use them again.
func (a *answer) WriteMsg(res *dns.Msg) error {
	if res == nil {
		return errNoMessage
	}
	decided := a.balance(res)
	if a.query.rule.observe {
		return a.ResponseWriter.WriteMsg(res)
	}
	return a.ResponseWriter.WriteMsg(a.withSubnet(decided))
}

var errNoMessage = errors.New("no message to write")

// Write implements dns.ResponseWriter. Packed bytes go out as they came.
func (a *answer) Write(packed []byte) (int, error) {
	a.counters.count(a.shard, passed)
	return a.ResponseWriter.Write(packed)
}

// balance returns what goes out for res: res itself if nothing changes. Its frame is gone before
// the next writer is called, which keeps a query's stack small.
func (a *answer) balance(res *dns.Msg) *dns.Msg {
	if !a.query.rule.balances(res) {
		a.counters.count(a.shard, passed)
		return res
	}
	b := bufferPool.Get().(*buffers)
	defer b.release()

	var answers, extra arrangement
	answers.answer, answers.buf, answers.in = a, b, res.Answer
	extra.answer, extra.buf, extra.in = a, b, res.Extra
	if a.size > 0 {
		a.most = b.scan.mostThatFit(res, int(a.size))
	}
	b.scan.scan(res.Answer)
	switch {
	case b.scan.carriesTargets:
		extra.arrangeTargets()
		b.scan.scan(res.Answer)
	case len(res.Extra) > 1:
		extra.arrangeGlue()
		b.scan.scan(res.Answer)
	}
	answers.arrangeAnswer(res)
	if len(b.targets.known) > 0 && answers.removed != (removals{}) {
		extra.dropGlue(answers.in, answers.sectionNow())
	}
	if a.nested && !a.query.rule.observe && (answers.degraded || extra.degraded || a.query.degraded.Load()) {
		queryAbove(a.query.Context).degraded.Store(true)
	}
	a.counters.count(b.shard, max(answers.outcome, extra.outcome))
	a.counters.countRemoved(b.shard, &answers.removed)
	a.counters.countRemoved(b.shard, &extra.removed)
	if x := a.explanation(); x != nil {
		x.result = max(answers.outcome, extra.outcome)
	}
	return a.message(res, &answers, &extra)
}

// arrangeTargets arranges the addresses that records of the answer lead to, and notes what is known
// of them.
func (a *arrangement) arrangeTargets() {
	b := a.buf
	b.scan.scan(a.in)
	a.arrange(turnKey{where: inExtra})
	a.outcome = min(a.outcome, filtered) // only the answer section fails open
	if rule := a.answer.query.rule; rule.judges() || rule.block != nil || rule.policy.weighs || len(rule.prefer) > 0 {
		b.targets.learn(a.in, b.scan.sets, b.plans)
	}
}

// arrangeAnswer arranges the answer section, which was scanned, with its CNAMEs first.
func (a *arrangement) arrangeAnswer(res *dns.Msg) {
	if a.buf.scan.chainLate {
		a.in = chainFirst(res.Question[0].Name, a.in)
		a.buf.scan.scan(a.in)
	}
	hints := a.buf.scan.carriesHints
	a.arrange(turnKey{where: inAnswer})
	if hints {
		a.arrangeHints()
	}
}

// explanation returns what the answer notes, nil unless somebody asks why.
func (a *answer) explanation() *explanation {
	if a.client == nil {
		return nil
	}
	return a.client.explanation
}

// specify adds to the key of an RRset what its answer depends on: what the client prefers and, for
// addresses, how many members fit.
func (a *answer) specify(key *turnKey, set *rrset) {
	if len(a.query.rule.prefer) > 0 && !a.nested {
		key.prefer = a.query.rule.choiceFor(a.client)
		key.prefer.spilled = key.prefer.spilled || key.where == inGlue // nothing is left out there
	}
	if a.most > 0 && set.holdsAddresses() && !set.sealed && key.where != inHints && int(a.most) < len(set.slots) {
		key.most = a.most
	}
}

// stateOf returns the plan and turns for the records of a set, and which records are which members.
func (a *arrangement) stateOf(rules *applied, key turnKey, set *rrset) (*state, *recordOrder) {
	if a.answer.client == nil { // nobody asks why, and nothing depends on who asks
		return rules.stateOf(a.buf, key, set, a.in)
	}
	now, order := a.answer.stateFor(rules, a.buf, key, set, a.in)
	if set.holdsAddresses() && a.answer.query.rule.spillsFor(key.prefer) {
		return a.answer.spilled(rules, a.buf, key, set, a.in, now, order)
	}
	return now, order
}

// stateFor is stateOf for the client's own choice, without spilling. It takes no turn if somebody
// asks why.
func (a *answer) stateFor(rules *applied, b *buffers, key turnKey, set *rrset, rrs []dns.RR) (*state, *recordOrder) {
	if a.explanation() != nil {
		return rules.copyOf(b, key, set, rrs)
	}
	return rules.stateOf(b, key, set, rrs)
}

// spilled returns the state for an answer that spills: that of the locality whose members lead it,
// or now if they are the client's own.
func (a *answer) spilled(rules *applied, b *buffers, key turnKey, set *rrset, rrs []dns.RR, now *state, order *recordOrder) (*state, *recordOrder) {
	own := key.prefer
	shared := key
	shared.where, shared.prefer = key.where+inSpill, choice{line: own.line}
	way := allTurns.entry(a.query.rule.scope, shared, set.owner).spillway()
	lead := way.next(own.place)
	if a.explanation() == nil {
		z := a.query.rule.zoneRule
		lead = way.lead(own.place, now.plan.weights, time.Now(), &spillSource{z.hub, z.zone, set.owner, shared.rrtype, uint8(shared.where), own.line})
	}
	if lead == own.place {
		return now, order
	}
	key.prefer.place, key.prefer.spilled = lead, a.query.rule.nearOf(own).only
	return a.stateFor(rules, b, key, set, rrs)
}

// message returns res with the sections arranged: res itself if they are its own. The copy is made
// in the answer's own memory. The writers above keep a message for as long as they like, so that
// memory is used once.
func (a *answer) message(res *dns.Msg, answers, extra *arrangement) *dns.Msg {
	if answers.out == nil && extra.out == nil && answers.came(res.Answer) {
		return res
	}
	reply := &a.reply
	if a.used {
		reply = new(dns.Msg)
	}
	a.used = true
	*reply = *res
	reply.Answer, reply.Extra = answers.records(), extra.records()
	// The rest was not validated as an RRset (RFC 4035, section 3.2.3).
	if answers.removedUnsigned || extra.removedUnsigned {
		reply.AuthenticatedData = false
	}
	if answers.denial != answerOpen {
		a.query.rule.deny(reply, answers.denial, answers.denied)
	}
	return reply
}

// room returns memory for a section of n records.
func (a *answer) room(n int) []dns.RR {
	if n > len(a.few) || a.fewUsed {
		return make([]dns.RR, n)
	}
	a.fewUsed = true
	return a.few[:n:n]
}

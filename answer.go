// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/miekg/dns"
)

// answer is the writer that the plugins below get: what they write goes out balanced. It is made for
// one client query and owned by it.
type answer struct {
	dns.ResponseWriter
	rule *servedRule

	counters *counters
	client   *client // nil unless the rule depends on it
	query    clientQuery
	reply    dns.Msg   // the first message that goes out, unless it is the one that came up
	few      [3]dns.RR // the first section of reply if it is so small; it fills a size class of the allocator
	used     bool      // reply is taken
	fewUsed  bool      // few is taken
	shard    uint8     // of the counters

	explanation *explanation // nil unless somebody asks why
}

// answerTo returns the writer for a query's answer, nil if the answer is not ours to balance.
func (r *rules) answerTo(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) *answer {
	rule := r.of(query)
	if rule == nil || nested(ctx) {
		return nil
	}
	a := &answer{ResponseWriter: w, rule: rule, counters: rule.countersFor(ctx), query: clientQuery{ctx}}
	a.shard = uint8(rand.Uint32()) //nolint:gosec // no secret
	rule.watcher.note(ctx)
	if rule.asksWho() {
		a.client = rule.clientOf(w, query)
	}
	return a
}

// WriteMsg implements dns.ResponseWriter. It writes neither to res nor to what res refers to: both
// belong to a plugin below that may use them again.
func (a *answer) WriteMsg(res *dns.Msg) error {
	if res == nil {
		return errNoMessage
	}
	decided := a.balance(res)
	if a.rule.observe {
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

// balance returns what goes out for res: res itself if nothing changes. Its frame is gone before the
// next writer is called, which keeps a query's stack small.
func (a *answer) balance(res *dns.Msg) *dns.Msg {
	if !a.rule.balances(res) {
		a.counters.count(a.shard, passed)
		return res
	}
	b := bufferPool.Get().(*buffers)
	defer b.release()

	answers := arrangement{answer: a, buf: b, in: res.Answer}
	extra := arrangement{answer: a, buf: b, in: res.Extra}
	b.scan.scan(res.Answer)
	if b.scan.carriesTargets {
		extra.arrangeTargets()
		b.scan.scan(res.Answer)
	}
	answers.arrangeAnswer(res)
	if len(b.targets.dead) > 0 && answers.removed[wasDown] > 0 {
		extra.dropGlue(answers.sectionNow())
	}
	a.counters.count(b.shard, max(answers.outcome, extra.outcome))
	a.counters.countRemoved(b.shard, &answers.removed)
	a.counters.countRemoved(b.shard, &extra.removed)
	if x := a.explanation; x != nil {
		x.result = max(answers.outcome, extra.outcome)
	}
	return a.message(res, &answers, &extra)
}

// arrangeTargets arranges the addresses that records of the answer lead to, and learns from them
// which targets are dead.
func (a *arrangement) arrangeTargets() {
	b := a.buf
	b.scan.scan(a.in)
	a.arrange(turnKey{where: inExtra})
	a.outcome = min(a.outcome, filtered) // only the answer section fails open
	b.targets.learn(b.scan.sets, b.plans)
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

// preference returns what the client prefers of an RRset.
func (a *answer) preference(set *rrset) choice {
	if len(a.rule.prefer) == 0 || !set.holdsAddresses() {
		return choice{line: noPreference}
	}
	return a.rule.choiceFor(a.client.addr())
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
	if answers.removedUnsigned || extra.removedUnsigned { // the rest was not validated as an RRset (RFC 4035, section 3.2.3)
		reply.AuthenticatedData = false
	}
	if answers.denial != answerOpen {
		a.rule.deny(reply, answers.denial, answers.denied)
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

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/filewatch"
	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/text"
)

// Why a client gets an answer: the query takes the way of every other one, except that it works on
// copies of the turns, looks verdicts up without a trace, and counts nowhere.

// explain returns the answer that a client would get from each of some server blocks that has a
// rule for the name.
func explain(ctx context.Context, lives []*life, q statuspage.Question) *statuspage.Why {
	host, _ := os.Hostname() //nolint:errcheck // empty then
	why := &statuspage.Why{
		Version: statuspage.Version, Time: time.Now().UTC(), Host: host, Name: q.Name, Type: dns.TypeToString[q.Type],
		Client: q.Client.String(), Answers: []statuspage.WhyAnswer{},
	}
	for _, r := range rulesFor(newOverview(lives).rules, q.Name) {
		why.Answers = append(why.Answers, r.explain(ctx, q))
	}
	return why
}

// rulesFor returns the rules whose zone holds a name: of each server block the one with the
// longest.
func rulesFor(rules []shownRule, name string) (found []shownRule) {
	longest := make(map[*life]shownRule)
	for _, r := range rules {
		best, ok := longest[r.life]
		if r.holds(name) && (!ok || len(r.zone) > len(best.zone)) {
			longest[r.life] = r
		}
	}
	for _, r := range longest {
		found = append(found, r)
	}
	slices.SortFunc(found, func(a, b shownRule) int {
		return cmp.Or(cmp.Compare(len(b.zone), len(a.zone)), slices.Compare(a.life.servers, b.life.servers), cmp.Compare(a.life.view, b.life.view))
	})
	return found
}

// explain returns the answer of the rule's server block.
func (r shownRule) explain(ctx context.Context, q statuspage.Question) statuspage.WhyAnswer {
	shown := statuspage.WhyAnswer{
		Servers: r.life.servers, View: r.life.view, Zone: r.zone, Rule: r.heading.String(), Observe: r.observe,
		Answer: []string{}, Authority: []string{}, Additional: []string{}, RRsets: []statuspage.WhyRRset{},
	}
	x := &explanation{now: filewatch.Clock(), result: passed}
	reply, err := r.answerFor(ctx, q, x)
	if err != nil {
		shown.Problem = err.Error()
		return shown
	}
	shown.Rcode = dns.RcodeToString[reply.Rcode]
	shown.Answer, shown.Authority, shown.Additional = texts(reply.Answer), texts(reply.Ns), texts(reply.Extra)
	shown.Result = outcomeNames[x.result]
	switch {
	case reply.Rcode == dns.RcodeServerFailure && r.watcher.server.Load() == nil:
		shown.Problem = "no client has asked yet: before that, nothing follows a CNAME into another server block"
	case len(x.sets) == 0 && len(reply.Answer) > 0:
		shown.Problem = "the rule leaves this answer as it is: it offers no choice"
	}
	shown.RRsets = append(shown.RRsets, x.sets...)
	return shown
}

// texts returns records in zone file format, without the OPT pseudo-record.
func texts(rrs []dns.RR) []string {
	lines := []string{}
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			lines = append(lines, rr.String())
		}
	}
	return lines
}

// answerFor asks the plugins below, and arranges what they answer as for a client.
func (r shownRule) answerFor(ctx context.Context, q statuspage.Question, x *explanation) (*dns.Msg, error) {
	next := r.watcher.next.Load()
	if next == nil {
		return nil, fmt.Errorf("the server block of %s has not started", r.zone)
	}
	// Plugins look up there what a CNAME leads to.
	if server := r.watcher.server.Load(); server != nil {
		ctx = context.WithValue(ctx, dnsserver.Key{}, server)
	}
	ctx = context.WithValue(ctx, explanationKey{}, x)
	query := new(dns.Msg)
	query.SetQuestion(q.Name, q.Type)
	w := &recorder{from: &net.TCPAddr{IP: q.Client.AsSlice(), Port: 53}}
	a := &answer{ResponseWriter: w, counters: new(counters)}
	a.query.Context, a.query.rule = ctx, &servedRule{zoneRule: r.zoneRule}
	asking := r.clientOf(a, query)
	asking.explanation = x
	a.client = &asking
	if r.conditional {
		a.client.held = r.conditionsFor(ctx, w, query)
	}
	rcode, err := serveBelow(*next, a, query)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the plugins below failed: %s", text.OneLine(err.Error()))
	case w.msg == nil && !plugin.ClientWrite(rcode):
		return nil, fmt.Errorf("the plugins below answer %s", dns.RcodeToString[rcode])
	case w.msg == nil:
		return nil, errors.New("the plugins below gave no answer")
	}
	return w.msg, nil
}

// serveBelow asks the plugins below. A panic of theirs is an error, as it is for a client's query.
func serveBelow(next plugin.Handler, a *answer, query *dns.Msg) (rcode int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return plugin.NextOrFailure(pluginName, next, &a.query, a, query)
}

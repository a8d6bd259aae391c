// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/overrides"
	"github.com/seed-f1518d44/balance/internal/text"
)

// maxLinesPerSecond is the most lines about plans that a rule logs in a second, because names come
// from clients.
const maxLinesPerSecond = 10

// announcer logs what a new plan means to an operator. Safe for concurrent use.
type announcer struct {
	second  atomic.Int64 // since 1970
	lines   atomic.Int32 // in it
	omitted atomic.Int32 // since the last line
}

// warnOfAlias logs once that answers of this rule, which has checks, hold addresses of a name whose
// own rule has none.
func (z *zoneRule) warnOfAlias(name string, other *zoneRule) {
	if z.checked() && !other.checked() && z.aliased.CompareAndSwap(false, true) {
		log.Warningf("%s: answers hold addresses of %s, which get no health_check when asked for themselves: want one in the rule for %s too",
			z.zone, text.OneLine(name), other.zone)
	}
}

// announce logs what is different with a new plan for an RRset. The state before may be nil.
func (r *applied) announce(e *entry, before *state, p *plan) {
	z := r.question
	if r.owner != nil {
		z.warnOfAlias(e.owner, r.owner)
	}
	change := changeOf(before, p, z.allDown)
	if change == "" {
		return
	}
	if omitted, ok := z.announcer.admit(time.Now()); ok {
		z.log(fmt.Sprintf("%s %s%s: %s", text.OneLine(e.owner), dns.TypeToString[e.key.rrtype], sectionNotes[e.key.where], change), omitted)
	}
}

// log writes a line, and how many were omitted before it.
func (z *zoneRule) log(text string, omitted int32) {
	if omitted > 0 {
		text += fmt.Sprintf("; %d such lines omitted before", omitted)
	}
	log.Warning(text + z.observeNote())
}

// sectionNotes say which records of a name a line is about.
var sectionNotes = [...]string{inAnswer: "", inExtra: " in the additional section", inHints: " hints", inGlue: "", inWatch: ""}

// changeOf returns what changes with a plan, empty for nothing that an operator must know.
func changeOf(before *state, p *plan, d allDown) string {
	var was plan
	if before != nil {
		was = *before.plan
	}
	switch {
	case p.basis.kept.number == 0 && p.failedOver && (!was.failedOver || was.tier() != p.tier()):
		return fmt.Sprintf("tier %d answers, because too few members of an earlier tier are up", p.tier()+1)
	case p.basis.kept.number > 0 && was.basis.kept.number != p.basis.kept.number:
		return p.keptText()
	case was.failedOver && !p.failedOver && !p.allDown:
		return fmt.Sprintf("tier %d answers again", p.tier()+1)
	case d.mode == answerOpen && p.forcedDown() && !was.forcedDown():
		return "all members are overridden down, and answered anyway, as all_down open says: " +
			"all_down nodata, servfail or fallback changes that"
	}
	return ""
}

// forcedDown reports whether an operator calls all members down.
func (p *plan) forcedDown() bool {
	return p.allDown && !slices.ContainsFunc(p.standings, func(s standing) bool { return s.override != overrides.Down })
}

// admit reports whether one more line may be logged, and how many were omitted since the last.
func (a *announcer) admit(now time.Time) (omitted int32, ok bool) {
	if second := now.Unix(); a.second.Swap(second) != second {
		a.lines.Store(0)
	}
	if a.lines.Add(1) > maxLinesPerSecond {
		a.omitted.Add(1)
		return 0, false
	}
	return a.omitted.Swap(0), true
}

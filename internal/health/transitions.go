// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// transition is a new verdict on an endpoint.
type transition struct {
	endpoint    *endpoint
	scopes      scopes // whose answers hold it
	before, now *status
	halfLife    time.Duration // of penalties
	votes       string        // what the replicas of the fleet say; empty without a fleet
}

// transitionLog keeps the log readable when many verdicts change at once. The first few changes of
// a second are logged at once. The others wait for the end of the second; if there are many, they
// become one line.
type transitionLog struct {
	began   time.Duration // when the current second began; 0: nothing has changed in it
	atOnce  int           // changes in this second that were logged at once
	waiting []transitionLine
	counts  [len(verdictNames)]int // of those that wait, by the new verdict
	scopes  scopes                 // of those that wait
	busy    time.Duration          // changes before this time wait
}

// transitionLine is a line of the log.
type transitionLine struct {
	text  string
	brief string // the endpoint, and why it is down
	down  bool
}

const (
	transitionWindow = time.Second
	maxAtOnce        = 3  // changes that are logged at once
	maxLines         = 20 // changes in a window that have a line each
)

// nextFlush returns when to log the changes that wait, or its argument if nothing waits.
func (l *transitionLog) nextFlush(otherwise time.Duration) time.Duration {
	if l.began == 0 {
		return otherwise
	}
	return l.began + transitionWindow
}

// add adds a change, and reports whether to log it at once.
func (l *transitionLog) add(t transition, line transitionLine, now time.Duration) (atOnce bool) {
	if l.began == 0 {
		l.began = max(now, 1)
	}
	if l.atOnce < maxAtOnce && now >= l.busy {
		l.atOnce++
		return true
	}
	l.counts[t.now.verdict]++
	if l.atOnce+len(l.waiting) <= maxLines {
		l.waiting = append(l.waiting, line)
	}
	for _, s := range t.scopes {
		if len(l.scopes) <= maxLines && !slices.Contains(l.scopes, s) {
			l.scopes = append(l.scopes, s)
		}
	}
	return false
}

// flush returns the lines that are due at the end of a window, and starts over.
func (l *transitionLog) flush(check string, now time.Duration) []transitionLine {
	lines, waiting := l.waiting, l.counts[Up]+l.counts[Down]
	busy := l.busy
	if l.atOnce+waiting > maxLines {
		lines, busy = []transitionLine{l.summary(check, waiting)}, now+transitionWindow
	}
	*l = transitionLog{busy: busy}
	return lines
}

// summary returns one line for the changes that wait.
func (l *transitionLog) summary(check string, waiting int) transitionLine {
	more := ""
	if l.atOnce > 0 {
		more = "more "
	}
	var first []string
	for _, line := range l.waiting[:min(len(l.waiting), maxAtOnce)] {
		first = append(first, line.brief)
	}
	text := fmt.Sprintf("%s: %s: %d %schanges of verdict within a second: %d down, %d up; the first: %s",
		l.scopes.zones(), check, waiting, more, l.counts[Down], l.counts[Up], strings.Join(first, ", "))
	if observing := l.scopes.observing(); len(observing) > 0 {
		text += "; observe: the answers of " + observing.zones() + " stay as they are"
	}
	return transitionLine{text: text, down: l.counts[Down] > 0}
}

// logTransition logs a new verdict, at once or at the end of the second.
func (p *pool) logTransition(t transition) {
	if line := t.line(p.check.Name()); p.transitions.add(t, line, p.now()) {
		p.writeTransition(line)
	}
}

// flushTransitions logs the verdicts that wait, if their second is over.
func (p *pool) flushTransitions(now time.Duration) {
	if p.transitions.nextFlush(now+1) > now {
		return
	}
	for _, line := range p.transitions.flush(p.check.Name(), now) {
		p.writeTransition(line)
	}
}

func (p *pool) writeTransition(line transitionLine) {
	if line.down {
		p.log.Warningf("%s", line.text)
		return
	}
	p.log.Infof("%s", line.text)
}

// line says which endpoint has a new verdict, why, how long it had the old one, and whether the end
// of its connection triggered the probe.
func (t *transition) line(check string) transitionLine {
	before, now, name := t.before, t.now, t.endpoint.name()
	reason, noticed := before.problem, ""
	is, brief := now.verdict.String(), name
	if now.verdict == Down {
		is, reason, brief = "down: "+now.problem, "", name+" ("+now.problem+")"
		if t.endpoint.isHinted() {
			noticed = ", noticed by hold"
		}
	}
	if reason != "" {
		reason = ": " + reason
	}
	was := max(now.since.Sub(before.since), 0).Round(time.Millisecond) // a verdict taken over is older
	text := fmt.Sprintf("%s: endpoint %s %s is %s (was %s for %s%s%s)%s%s%s",
		t.scopes.zones(), name, check, is, before.verdict, was, reason, noticed, t.votes, t.damped(), t.observed())
	return transitionLine{text: text, brief: brief, down: now.verdict == Down}
}

// damped says for how long an endpoint that is up is to stay out of the answers.
func (t *transition) damped() string {
	until := t.now.reuse(t.halfLife)
	if until.IsZero() {
		return ""
	}
	return fmt.Sprintf("; damp: it flaps, so it is to stay out for %s (penalty %.0f)", until.Sub(t.now.since).Round(time.Second), t.now.damping.penalty)
}

// observed says what the verdict would do to the answers of the rules that only observe.
func (t *transition) observed() string {
	observing := t.scopes.observing()
	switch {
	case len(observing) == 0:
	case t.now.verdict == Down:
		return "; observe: would leave the answers of " + observing.zones()
	case t.before.verdict == Down:
		return "; observe: would be back in the answers of " + observing.zones()
	}
	return ""
}

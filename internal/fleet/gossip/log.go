// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/text"
)

// Logger is where a carrier writes what operators should know.
type Logger interface {
	Debugf(format string, values ...any)
	Infof(format string, values ...any)
	Warningf(format string, values ...any)
	Errorf(format string, values ...any)
}

// limitedLog is a log in which others can cause a bounded number of lines. Addresses can be forged,
// so what is said about many of them leaves room for what is said of other kinds. Safe for
// concurrent use.
type limitedLog struct {
	Logger
	fleet string

	mu   sync.Mutex
	said map[string]map[string]warning // by kind of line and whom it is about

	failed map[string]time.Time // when an exchange with a replica failed
}

// warning is a line that was written, and perhaps left out since.
type warning struct {
	line       string
	said, seen time.Time
}

const (
	sayAgain = 10 * time.Minute // the same about the same
	maxAbout = 10               // lines of a kind in that time
	lasts    = 2 * time.Minute  // how long a warning is a problem
)

func newLimitedLog(l Logger, fleet string) *limitedLog {
	return &limitedLog{Logger: l, fleet: fleet, said: make(map[string]map[string]warning), failed: make(map[string]time.Time)}
}

// warn writes a warning, unless one of its kind about the same was written lately. There are few
// kinds.
func (l *limitedLog) warn(kind, about, format string, values ...any) {
	line := text.OneLine(fmt.Sprintf(format, values...))
	left := l.left(kind, about, line)
	if left == 0 {
		return
	}
	if left == 1 {
		line += fmt.Sprintf("; more such lines are left out for %d minutes", sayAgain/time.Minute)
	}
	l.Warningf("fleet %s: %s", l.fleet, line)
}

// left returns how many lines of a kind may be written, and counts one. It is 0 if this one may
// not.
func (l *limitedLog) left(kind, about, line string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	said := l.said[kind]
	if said == nil {
		said = make(map[string]warning)
		l.said[kind] = said
	}
	maps.DeleteFunc(said, func(_ string, w warning) bool { return now.Sub(w.said) >= sayAgain })
	w, lately := said[about]
	switch {
	case lately:
		w.seen = now
		said[about] = w
		return 0
	case len(said) >= maxAbout:
		return 0
	}
	said[about] = warning{line, now, now}
	return maxAbout + 1 - len(said)
}

// problems returns the warnings whose reason was seen lately.
func (l *limitedLog) problems() (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, said := range l.said {
		for _, w := range said {
			if time.Since(w.seen) < lasts {
				lines = append(lines, w.line)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// joined ends the problems with a host, because a replica there has joined. If they come back, the
// log says so at once.
func (l *limitedLog) joined(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, said := range l.said {
		delete(said, host)
	}
}

// listLog takes the lines that memberlist logs, each with a level in brackets.
type listLog struct{ *limitedLog }

// translation is what a line of memberlist means to an operator.
type translation struct {
	has  string // a part of the line
	kind string
	says string // HOST is the one that it is about, FLEET the fleet of that
}

var translations = []translation{
	{"could decrypt the message", "key",
		"HOST sends messages that none of the keys here decrypts, so they are discarded: want a key in common in the key files of both"},
	{"too small to decrypt", "key", "HOST sends something that no replica encrypted, so it is discarded"},
	{"unsupported encryption version", "key", "HOST sends something that no replica encrypted, so it is discarded"},
	{"remote state is not encrypted", "key", "HOST sends messages that are not encrypted, so they are discarded: want the option key there"},
	{"encryption is not configured", "key", "HOST sends encrypted messages, so they are discarded: want the option key here"},
	{"unacceptable label", "label", "HOST belongs to FLEET, so what it sends is discarded: want the same name behind fleet, or join without it"},
	{"over TCP but UDP probes failed", "udp", "HOST is reached over TCP but not over UDP: want both open"},
	{"Conflicting address", "conflict", "HOST has the name of another replica"},
}

// expected begin lines about replicas that are gone, which the listener hears of anyway.
var expected = []string{
	"Failed to send UDP", "Failed to send indirect", "Failed to send gossip", "Failed to send ack", "Failed to send nack", "Failed to forward ack",
	"Failed fallback TCP ping", "Push/Pull with", "Got ping for unexpected node", "Refuting",
}

// Write implements io.Writer.
func (l listLog) Write(line []byte) (int, error) {
	s := strings.TrimSpace(string(line))
	level, rest, _ := strings.Cut(strings.TrimPrefix(s, "["), "] ")
	rest = strings.TrimPrefix(rest, "memberlist: ")
	l.pass(level, rest)
	return len(line), nil
}

// pass writes a line at the level that it deserves.
func (l listLog) pass(level, line string) {
	host := subject(line)
	if level == "DEBUG" || level == "INFO" {
		l.Debugf("fleet %s: %s", l.fleet, text.OneLine(line))
		return
	}
	for _, t := range translations {
		if strings.Contains(line, t.has) {
			l.warn(t.kind, host, "%s", strings.NewReplacer("HOST", host, "FLEET", fleetIn(line)).Replace(t.says))
			return
		}
	}
	if name, ok := exchangeFailed(line); ok && l.failsAgain(name) {
		l.warn("tcp", name, "%s is reached over UDP but not over TCP: want both open", name)
		return
	}
	for _, start := range expected {
		if strings.HasPrefix(line, start) {
			l.Debugf("fleet %s: %s", l.fleet, text.OneLine(line))
			return
		}
	}
	what, _, _ := strings.Cut(line, ":")
	l.warn("other", what+" "+host, "%s", line)
}

// exchangeFailed returns the replica with which memberlist could not exchange lists.
func exchangeFailed(line string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(line, "Push/Pull with ")
	name, _, found := strings.Cut(rest, " failed: ")
	return name, ok && found
}

const (
	goneWithin  = 20 * time.Second // memberlist has removed a replica that is gone
	maxExchange = 100              // replicas with which an exchange failed
)

// failsAgain reports whether an exchange with a replica has failed twice, so long apart that the
// replica is still there.
func (l *limitedLog) failsAgain(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(l.failed, func(_ string, at time.Time) bool { return now.Sub(at) >= sayAgain })
	at, before := l.failed[name]
	if !before && len(l.failed) < maxExchange {
		l.failed[name] = now
	}
	return before && now.Sub(at) >= goneWithin
}

// fleetIn returns the fleet in a line about a label, which is quoted there.
func fleetIn(line string) string {
	_, label, _ := strings.Cut(line, "label ")
	label, _, _ = strings.Cut(label, ": from=")
	if label == `""` || label == "" {
		return "no fleet"
	}
	return "the fleet " + label
}

// subject returns the host that a line is about: the one behind "from=", or the first word.
func subject(line string) string {
	_, from, ok := strings.Cut(line, "from=")
	if !ok {
		if _, to, found := strings.Cut(line, "connect to "); found {
			from, _, _ = strings.Cut(to, " ")
			return from
		}
		return "a replica"
	}
	from, _, _ = strings.Cut(from, " ")
	if host, _, err := net.SplitHostPort(from); err == nil {
		return host
	}
	return from
}

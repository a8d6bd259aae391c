// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"fmt"
	"maps"
	"net"
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
	said map[string]map[string]time.Time // by kind of line and whom it is about
}

const (
	sayAgain = 10 * time.Minute // the same about the same
	maxAbout = 10               // lines of a kind in that time
)

func newLimitedLog(l Logger, fleet string) *limitedLog {
	return &limitedLog{Logger: l, fleet: fleet, said: make(map[string]map[string]time.Time)}
}

// warn writes a warning, unless one of its kind about the same was written lately. There are few
// kinds.
func (l *limitedLog) warn(kind, about, format string, values ...any) {
	left := l.left(kind, about)
	if left == 0 {
		return
	}
	line := text.OneLine(fmt.Sprintf(format, values...))
	if left == 1 {
		line += fmt.Sprintf("; more such lines are left out for %d minutes", sayAgain/time.Minute)
	}
	l.Warningf("fleet %s: %s", l.fleet, line)
}

// left returns how many lines of a kind may be written, and counts one. It is 0 if this one may
// not.
func (l *limitedLog) left(kind, about string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	said := l.said[kind]
	if said == nil {
		said = make(map[string]time.Time)
		l.said[kind] = said
	}
	maps.DeleteFunc(said, func(_ string, last time.Time) bool { return now.Sub(last) >= sayAgain })
	if _, lately := said[about]; lately || len(said) >= maxAbout {
		return 0
	}
	said[about] = now
	return maxAbout + 1 - len(said)
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
	for _, t := range translations {
		if strings.Contains(line, t.has) {
			l.warn(t.kind, host, "%s", strings.NewReplacer("HOST", host, "FLEET", fleetIn(line)).Replace(t.says))
			return
		}
	}
	usual := level == "DEBUG" || level == "INFO"
	for _, start := range expected {
		usual = usual || strings.HasPrefix(line, start)
	}
	if usual {
		l.Debugf("fleet %s: %s", l.fleet, text.OneLine(line))
		return
	}
	what, _, _ := strings.Cut(line, ":")
	l.warn("other", what+" "+host, "%s", line)
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

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/seed-f1518d44/balance/internal/load"
)

// Agent asks a program on the endpoint's host what it thinks of the endpoint, as HAProxy's
// agent-check does: it connects, may send a text, and reads one line of words.
//
//	up                           the endpoint is up
//	down, fail, failed, stopped  it is down
//	drain, maint, 0%             it is up, and wants no new clients
//	ready                        it wants new clients
//	75%                          the share of its weight that it can take
//	maxconn:N                    ignored
//	#text                        why
//
// Words in conflict count in their order. Each line stands for itself: what it leaves out is up,
// ready and 100%. An agent that cannot be reached, or says none of these words, has no say: the
// error is ErrNoSay.
type Agent struct {
	Port   uint16     // 1 to 65535
	Send   string     // written first; "" for nothing
	Proxy  Proxy      // header to begin with
	Source netip.Addr // to probe from, for endpoints of its family; zero for any
}

type agentProbe struct {
	*line
	send string
}

// NewAgent builds the check. It fails on options that make no sense.
func NewAgent(o Agent) (*Check, error) {
	if err := checkPort(o.Port); err != nil {
		return nil, err
	}
	l, key, err := newLine(o.Port, o.Source, o.Proxy, nil, "")
	if err != nil {
		return nil, err
	}
	l.speaksFirst = l.speaksFirst || o.Send != ""
	return &Check{
		name:     fmt.Sprintf("agent:%d", o.Port),
		key:      fmt.Sprintf("agent %s send=%+q", key, o.Send),
		port:     o.Port,
		protocol: &agentProbe{line: l, send: o.Send},
	}, nil
}

func (p *agentProbe) probe(ctx context.Context, endpoint netip.AddrPort) error {
	_, err := p.report(ctx, endpoint)
	return err
}

func (p *agentProbe) report(ctx context.Context, endpoint netip.AddrPort) (Report, error) {
	said, err := p.ask(ctx, endpoint)
	if err != nil {
		return Report{}, &noSay{err}
	}
	return parseAgent(said)
}

// ask returns the line that the agent says.
func (p *agentProbe) ask(ctx context.Context, endpoint netip.AddrPort) (said string, err error) {
	err = p.talk(ctx, endpoint, func(c *call) error {
		if p.send != "" {
			if _, err := io.WriteString(c, p.send); err != nil {
				return err
			}
		}
		c.peerFirst = true
		said, err = readAgent(c)
		return err
	})
	return said, err
}

const maxAgentLine = 1024 // bytes

// readAgent reads a line, or what comes before the agent closes.
func readAgent(from io.Reader) (string, error) {
	got := make([]byte, 0, maxAgentLine)
	for len(got) < cap(got) {
		n, err := from.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
		end := bytes.IndexAny(got, "\r\n")
		switch {
		case end >= 0:
			return string(got[:end]), nil
		case errors.Is(err, io.EOF) && len(got) > 0:
			return string(got), nil
		case err != nil:
			u := &unmet{awaited: "answer", err: err}
			if len(got) > 0 {
				u = &unmet{awaited: "end of the line", seen: "got " + quote(got), err: err}
			}
			return "", u
		}
	}
	return "", reason("a line longer than 1 KiB; got " + quote(got))
}

// noSay is an error that leaves the agent without a say.
type noSay struct{ error }

func (n *noSay) Unwrap() error        { return n.error }
func (n *noSay) Is(target error) bool { return target == ErrNoSay }

// parseAgent reads what an agent says.
func parseAgent(said string) (Report, error) {
	words, why, _ := strings.Cut(said, "#")
	r, down, valid := Report{Reason: agentReason(why), Load: load.Report{Kind: load.Share, Value: 1}}, "", false
	for _, word := range strings.FieldsFunc(words, isAgentSeparator) {
		switch word = strings.ToLower(word); word {
		case "up":
			down = ""
		case "ready":
			r.Drain = false
		case "down", "fail", "failed", "stopped":
			down = word
		case "drain", "maint":
			r.Drain = true
		default:
			percent, ok := agentPercent(word)
			if !ok {
				continue // maxconn, and what newer versions may bring
			}
			r.Load.Value, r.Drain = float64(percent)/100, r.Drain || percent == 0
		}
		valid = true
	}
	switch {
	case !valid:
		return Report{}, &qualified{reason: reason("no word of the agent protocol; got " + quote(said)), kind: ErrNoSay}
	case down != "":
		return Report{}, reason(strings.TrimSuffix("the agent says "+down+": "+r.Reason, ": "))
	}
	return r, nil
}

// isAgentSeparator reports whether a character stands between the words of an agent.
func isAgentSeparator(c rune) bool { return strings.ContainsRune(" \t,", c) }

// agentPercent reads "75%", and "150%" as 100: a member's weight is what the operator wrote at
// most.
func agentPercent(word string) (percent int, ok bool) {
	digits, ok := strings.CutSuffix(word, "%")
	n, err := strconv.ParseUint(digits, 10, 16)
	return min(int(n), 100), ok && err == nil
}

// agentReason returns an agent's own words in a form that can be shown.
func agentReason(why string) string {
	why = strings.TrimSpace(why)
	if why == "" {
		return ""
	}
	return quote(why)
}

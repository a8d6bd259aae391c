// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/seed-f1518d44/balance/internal/load"
)

func TestAgent(t *testing.T) {
	share := func(part float64) load.Report { return load.Report{Kind: load.Share, Value: part} }
	all := Report{Load: share(1)}
	drained := Report{Drain: true, Load: share(1)}
	for _, tc := range []struct {
		said  string
		want  Report
		err   string
		noSay bool
	}{
		{"up\n", all, "", false},
		{"UP\r\n", all, "", false},
		{"ready\n", all, "", false},
		{"up ready 75%\n", Report{Load: share(0.75)}, "", false},
		{"75%\n", Report{Load: share(0.75)}, "", false},
		{"150%\n", all, "", false},
		{"0%\n", Report{Drain: true, Load: share(0)}, "", false},
		{"up", all, "", false},
		{"up maxconn:30\n", all, "", false},
		{"drain\n", drained, "", false},
		{"maint # disk swap\n", Report{Drain: true, Reason: `"disk swap"`, Load: share(1)}, "", false},
		{"drain,ready\n", all, "", false},
		{"up\tdrain\n", drained, "", false},
		{"down\n", Report{}, "the agent says down", false},
		{"down#disk full\n", Report{}, `the agent says down: "disk full"`, false},
		{"fail\n", Report{}, "the agent says fail", false},
		{"failed #1\x1b[31m\n", Report{}, `the agent says failed: "1\x1b[31m"`, false},
		{"stopped\nup\n", Report{}, "the agent says stopped", false},
		{"down up\n", all, "", false},
		{"\n", Report{}, `no word of the agent protocol; got ""`, true},
		{"maxconn:30\n", Report{}, `no word of the agent protocol; got "maxconn:30"`, true},
		{"#up\n", Report{}, `no word of the agent protocol; got "#up"`, true},
		{"-5%\n", Report{}, `no word of the agent protocol; got "-5%"`, true},
		{"HTTP/1.1 400 Bad Request\r\n", Report{}, `no word of the agent protocol; got "HTTP/1.1 400 Bad Request"`, true},
		{"", Report{}, "connection closed, no answer", true},
		{strings.Repeat("up ", 400) + "\n", Report{}, `a line longer than 1 KiB; got "` + strings.Repeat("up ", 20) + `"...`, true},
	} {
		t.Run(tc.said, func(t *testing.T) {
			c := must(t)(NewAgent(Agent{Port: serve(t, leaves(tc.said))}))
			got, err := c.Report(t.Context(), local)
			if got != tc.want || text(err) != tc.err || errors.Is(err, ErrNoSay) != tc.noSay {
				t.Errorf("got  %+v, %v, no say %t\nwant %+v, %s, no say %t", got, err, errors.Is(err, ErrNoSay), tc.want, tc.err, tc.noSay)
			}
			if probed := c.Probe(t.Context(), local); text(probed) != tc.err {
				t.Errorf("Probe: got %v", probed)
			}
		})
	}
}

// text returns what an error says, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// An agent that cannot be asked has no say.
func TestAgentUnreachable(t *testing.T) {
	judges(t, must(t)(NewAgent(Agent{Port: serve(t, says("up"))})), brief, `connected, no end of the line within 1s; got "up"`)
	err := must(t)(NewAgent(Agent{Port: closedPort(t)})).Probe(t.Context(), local)
	if text(err) != "connection refused" || !errors.Is(err, ErrNoSay) {
		t.Errorf("got %v, want ErrNoSay", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := must(t)(NewAgent(Agent{Port: 1})).Probe(ctx, local); !errors.Is(err, ErrLocal) || errors.Is(err, ErrNoSay) {
		t.Errorf("cancelled: got %v, want ErrLocal", err)
	}
}

// What is sent comes first: one agent may serve several names.
func TestAgentSend(t *testing.T) {
	c := must(t)(NewAgent(Agent{Port: serve(t, redis), Send: "PING\r\n"}))
	if got := verdict(t, c, patience); got != `no word of the agent protocol; got "+PONG"` {
		t.Error(got)
	}
}

func FuzzAgentReply(f *testing.F) {
	for _, said := range []string{"up ready 75% #why\n", "down#no\r\n", "maint,drain", "\x00\n", "300%"} {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said string) {
		line, err := readAgent(strings.NewReader(said))
		judged(t, err)
		if err != nil {
			return
		}
		report, err := parseAgent(line)
		judged(t, err)
		if !(report.Load.Value >= 0 && report.Load.Value <= 1) || err != nil && report != (Report{}) {
			t.Errorf("%q: %+v, %v", said, report, err)
		}
	})
}

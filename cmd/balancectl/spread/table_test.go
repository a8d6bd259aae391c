// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// sample returns the report of a run whose answers are given as zone files, each so many times.
func sample(t *testing.T, args string, answers ...any) *report {
	t.Helper()
	o, err := readOptions(strings.Fields(args), &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	counted := newTally(o.question())
	for i := 0; i < len(answers); i += 2 {
		r := reply{took: time.Duration(i+1) * time.Millisecond}
		switch answer := answers[i].(type) {
		case error:
			r.problem = answer
		case nil:
			r.lost = true
		case int:
			r.message = &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: answer}}
		case string:
			r.message = message(t, answer)
		}
		for range answers[i+1].(int) {
			counted.add(r)
		}
	}
	return newReport(o, counted, 1234*time.Millisecond)
}

// message returns an answer with records: as a zone file has them, or addresses alone.
func message(t *testing.T, text string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	for _, line := range strings.Split(text, "\n") {
		if !strings.Contains(line, " ") {
			line = "www.example.org. 300 IN A " + line
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

const at = "@192.0.2.53 "

// samples are reports of every kind.
func samples(t *testing.T) map[string]*report {
	return map[string]*report{
		"exact": sample(t, at+"www.example.org", "192.0.2.1\n192.0.2.2\n192.0.2.10", 333, "192.0.2.2\n192.0.2.10\n192.0.2.1", 334, "192.0.2.10\n192.0.2.1\n192.0.2.2", 333),
		"uneven": sample(t, at+"-weights 192.0.2.1=2,192.0.2.3=1 -over both www.example.org", "192.0.2.1\n192.0.2.2", 50, "192.0.2.2", 60,
			nil, 3, errors.New("connection refused"), 1, dns.RcodeServerFailure, 2),
		"few": sample(t, at+"www.example.org", "192.0.2.1\n192.0.2.2", 1),
		"ipv6": sample(t, at+"www.example.org AAAA", "a. 30 IN AAAA 2001:db8:1111:2222:3333:4444:5555:6666\na. 30 IN AAAA 2001:db8::1", 60,
			"a. 5 IN AAAA 2001:db8::1\na. 5 IN AAAA 2001:db8:1111:2222:3333:4444:5555:6666", 58),
		"mx": sample(t, at+"-weights B.example.org=3 example.org MX", "a. 30 IN MX 10 a.example.org.\na. 30 IN MX 10 b.example.org.\na. 30 IN MX 20 c.", 25,
			"a. 30 IN MX 20 c.\na. 30 IN MX 10 b.example.org.\na. 30 IN MX 10 a.example.org.", 60),
		"https":   sample(t, at+"-weights 192.0.2.1=1 example.org HTTPS", "a. 30 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,192.0.2.2 port=8443", 50, "a. 30 IN HTTPS 1 . alpn=h2 ipv4hint=192.0.2.2 port=8443", 50),
		"nothing": sample(t, at+"www.example.org", dns.RcodeNameError, 5, dns.RcodeSuccess, 1),
		"silence": sample(t, at+"www.example.org", nil, 5),
		"markup":  sample(t, at+"example.org SRV", `a. 30 IN SRV 1 1 80 <b>&\"x.`, 10),
	}
}

func TestTable(t *testing.T) {
	for name, r := range samples(t) {
		golden(t, name+".txt", r.table(screen{terminal.Screen{Width: 80, Unicode: true}}))
		golden(t, name+".svg", r.svg())
		for _, width := range []int{terminal.LeastWidth, 60, 100, terminal.MostWidth} {
			for _, line := range strings.Split(r.table(screen{terminal.Screen{Width: width}}), "\n") {
				if n := utf8.RuneCountInString(line); n > width && width >= 60 {
					t.Errorf("%s: a line of %d columns where there are %d: %q", name, n, width, line)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r > '~' || r < ' ' }) {
					t.Errorf("%s: a line that is not plain ASCII: %q", name, line)
				}
			}
		}
	}
	golden(t, "exact_narrow.txt", samples(t)["exact"].table(screen{terminal.Screen{Width: 60}}))
	golden(t, "uneven_wide_colour.txt", samples(t)["uneven"].table(screen{terminal.Screen{Width: 120, Unicode: true, Colour: true}}))
}

func TestJSON(t *testing.T) {
	for _, name := range []string{"exact", "uneven", "silence"} {
		text, err := json.MarshalIndent(samples(t)[name], "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", string(text)+"\n")
	}
}

func TestExitStatus(t *testing.T) {
	want := map[string]int{
		"exact": exitAsWanted, "uneven": exitNotAsWanted, "few": exitNoVerdict, "ipv6": exitAsWanted, "mx": exitAsWanted,
		"https": exitAsWanted, "nothing": exitNoVerdict, "silence": exitNoVerdict, "markup": exitNoVerdict,
	}
	for name, r := range samples(t) {
		if got := r.exitStatus(); got != want[name] {
			t.Errorf("%s: exit status %d, want %d", name, got, want[name])
		}
	}
}

func TestBar(t *testing.T) {
	tests := []struct {
		part, mark float64
		columns    int
		unicode    bool
		want       string
	}{
		{0.5, -1, 8, true, "████    "},
		{0.55, -1, 8, true, "████▍   "},
		{1, 1, 4, true, "███│"},
		{0, 0.5, 4, true, " │  "},
		{0.5, 0, 4, false, "|#  "},
		{0.6, 1, 10, false, "######   |"},
		{0.5, 1, 0, false, ""},
	}
	for _, tc := range tests {
		if got := (screen{terminal.Screen{Unicode: tc.unicode}}).bar(tc.part, tc.mark, tc.columns); got != tc.want {
			t.Errorf("bar(%v, %v, %d) is %q, want %q", tc.part, tc.mark, tc.columns, got, tc.want)
		}
	}
}

func TestProgress(t *testing.T) {
	counted := newTally(dns.Question{})
	counted.asked, counted.lost = 512, 2
	var out strings.Builder
	p := newProgress(&out, screen{terminal.Screen{Terminal: true, Width: 60}}, 1024)
	p.draw(counted, p.start.Add(time.Millisecond))
	if out.Len() > 0 {
		t.Errorf("drawn at once: %q", &out)
	}
	p.draw(counted, p.start.Add(time.Second))
	p.draw(counted, p.start.Add(time.Second+time.Millisecond))
	p.clear()
	if got, want := out.String(), "\r\x1b[K#############             512 of 1024, 512 a second, 2 lost\r\x1b[K"; got != want {
		t.Errorf("drawn is\n%q, want\n%q", got, want)
	}
	out.Reset()
	p = newProgress(&out, screen{terminal.Screen{Width: 60}}, 1024)
	p.draw(counted, p.start.Add(time.Second))
	p.clear()
	if out.Len() > 0 {
		t.Errorf("drawn where there is no terminal: %q", &out)
	}
}

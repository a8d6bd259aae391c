// SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// A reload gives the sockets to new servers: the clients keep theirs.
func TestTurnsOutliveAReload(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	more := "file " + zone(t, "example.org.", threeAs+as("www", "192.0.2.0", "192.0.2.4"))
	fewer := "file " + zone(t, "example.org.", as("www", "192.0.2.1", "192.0.2.3"))
	tests := []struct {
		name   string
		lines  []string
		sorted []string
	}{
		{"same", []string{"balance", db}, threeSorted},
		{"cache added", []string{"balance", "cache", db}, threeSorted},
		{"options added", []string{"balance {\n ttl 5\n answers 2\n }", db}, threeSorted},
		{"stanza added", []string{"balance", "balance sub.example.org", db}, threeSorted},
		{"members added", []string{"balance", more}, []string{"192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}},
		{"members removed", []string{"balance", fewer}, []string{"192.0.2.1", "192.0.2.3"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			for range len(threeSorted) { // from every place
				s := start(t, block("balance", db))
				c := dial(t, "udp", s.udp(), "")
				next := func() string { return members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0] }
				next()
				before := next()
				if err := s.restart(block(tc.lines...)); err != nil {
					t.Fatal(err)
				}
				due := threeSorted[(slices.Index(threeSorted, before)+1)%3]
				if !slices.Contains(tc.sorted, due) { // then the one after it is due
					due = threeSorted[(slices.Index(threeSorted, due)+1)%3]
				}
				var order []string
				for range 2 * len(tc.sorted) {
					order = append(order, next())
				}
				follows(t, tc.sorted, order)
				if order[0] != due {
					t.Errorf("%s leads after %s, want %s", order[0], before, due)
				}
				s.stop()
			}
		})
	}
}

func TestABrokenCorefileChangesNothing(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	s := start(t, block("balance {\n answers 2\n }", db))
	c := dial(t, "udp", s.udp(), "")
	var order []string
	for _, broken := range []string{
		block("balance {\n policy fastest\n }", db),
		block("balance", "balance {\n answers 1\n }", "balance {\n answers 2\n }", db),
		block("balance", "file /does/not/exist/at/all", "nonsense"),
		block("balance", db) + "example.net:0 {\nbind 127.0.0.1\nbalance {\n answers 0\n}\n}\n",
		// What listens last fails after everything has started; file would leave a goroutine
		// behind.
		block("balance", "whoami") + "example.net:0 {\nbind 192.0.2.1\nbalance\nwhoami\n}\n",
	} {
		for range 2 {
			reply := c.Ask(query("www.example.org.", dns.TypeA))
			order = append(order, members(reply, dns.TypeA)[0])
			if got := members(reply, dns.TypeA); len(got) != 2 {
				t.Fatalf("answer is %v, want two", got)
			}
		}
		if err := s.restart(broken); err == nil {
			t.Errorf("no error for\n%s", broken)
		}
	}
	order = append(order, members(c.Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
	follows(t, threeSorted, order)
}

func TestSetupErrorsNameTheLine(t *testing.T) {
	s := start(t, block("balance", "file "+zone(t, "example.org.", threeAs)))
	err := s.restart("example.org:0 {\n  bind 127.0.0.1\n  balance {\n    answers many\n  }\n}\n")
	if err == nil || !strings.Contains(err.Error(), `plugin/balance: Corefile:4: answers: bad number "many": want a whole number from 1 to 65535`) {
		t.Errorf("error is %v, want one that names file, line and what is wanted", err)
	}
}

// No query is lost while the Corefile is reloaded a hundred times, every fourth of them broken. The
// clients use UDP: CoreDNS closes TCP connections when it reloads.
func TestAHundredReloadsUnderLoad(t *testing.T) {
	onlyWhole(t, "it takes long")
	db := "file " + zone(t, "example.org.", threeAs)
	corefiles := []string{
		block("balance", db), block("balance", "cache", db), block("balance {\n ttl 5\n }", db), block("balance {\n nonsense\n }", db),
	}
	s := start(t, corefiles[0])
	crowd := newCrowd(t, s, 4)
	before := runtime.NumGoroutine()
	stop := crowd.askOn()
	for i := range 100 {
		crowd.wait(8)
		broken := i%len(corefiles) == 3
		if err := s.restart(corefiles[i%len(corefiles)]); (err != nil) != broken {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	lead := stop()
	if len(lead) != 3 || lead["nobody"] > 0 {
		t.Errorf("leads are %v, want those of three members", lead)
	}
	eventually(t, "goroutines back to where they were", func() bool { return runtime.NumGoroutine() <= before })
}

// crowd is a number of clients that ask on and on over UDP.
type crowd struct {
	t        *testing.T
	clients  []*testserver.Client
	answered atomic.Int64
}

func newCrowd(t *testing.T, s *server, n int) *crowd {
	t.Helper()
	c := &crowd{t: t}
	for range n {
		c.clients = append(c.clients, dial(t, "udp", s.udp(), ""))
	}
	return c
}

// askOn has them ask until the function that it returns is called, which says who led.
func (c *crowd) askOn() (stop func() leads) {
	ctx, done := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	all := make([]leads, len(c.clients))
	for i, client := range c.clients {
		all[i] = leads{}
		wg.Go(func() {
			for ctx.Err() == nil {
				reply, err := client.TryAsk(query("www.example.org.", dns.TypeA))
				if err != nil {
					c.t.Errorf("query lost: %v", err)
					return
				}
				all[i].add(reply, dns.TypeA)
				c.answered.Add(1)
			}
		})
	}
	return func() leads {
		done()
		wg.Wait()
		return sum(all)
	}
}

// wait returns after so many more answers.
func (c *crowd) wait(n int64) {
	for enough := c.answered.Load() + n; c.answered.Load() < enough && !c.t.Failed(); {
		runtime.Gosched()
	}
}

// Queries that come in by TCP are answered by whoever has the listener.
func TestReloadsKeepTCPListeners(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	s := start(t, block("balance", db))
	var order []string
	for range 10 {
		order = append(order, members(dial(t, "tcp", s.tcp(), "").Ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
		if err := s.restart(block("balance", db)); err != nil {
			t.Fatal(err)
		}
	}
	follows(t, threeSorted, order)
}

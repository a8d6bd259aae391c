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
				next := func() string { return members(c.ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0] }
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
		block("balance", "balance", db),
		block("balance", "file /does/not/exist/at/all", "nonsense"),
		block("balance", db) + "example.net:0 {\nbind 127.0.0.1\nbalance {\n answers 0\n}\n}\n",
		// What listens last fails after everything has started; file would leave a goroutine behind.
		block("balance", "whoami") + "example.net:0 {\nbind 192.0.2.1\nbalance\nwhoami\n}\n",
	} {
		for range 2 {
			reply := c.ask(query("www.example.org.", dns.TypeA))
			order = append(order, members(reply, dns.TypeA)[0])
			if got := members(reply, dns.TypeA); len(got) != 2 {
				t.Fatalf("answer is %v, want two", got)
			}
		}
		if err := s.restart(broken); err == nil {
			t.Errorf("no error for\n%s", broken)
		}
	}
	order = append(order, members(c.ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
	follows(t, threeSorted, order)
}

func TestSetupErrorsNameTheLine(t *testing.T) {
	s := start(t, block("balance", "file "+zone(t, "example.org.", threeAs)))
	err := s.restart("example.org:0 {\n  bind 127.0.0.1\n  balance {\n    answers many\n  }\n}\n")
	if err == nil || !strings.Contains(err.Error(), `plugin/balance: Corefile:4 - Error during parsing: answers: bad number "many": want a whole number from 1 to 65535`) {
		t.Errorf("error is %v, want one that names file, line and what is wanted", err)
	}
}

// No query is lost, and nobody leads more than others, while the Corefile is reloaded a hundred
// times. The clients use UDP: CoreDNS closes TCP connections when it reloads.
func TestAHundredReloadsUnderLoad(t *testing.T) {
	const clients = 4
	db := "file " + zone(t, "example.org.", threeAs)
	corefiles := []string{
		block("balance", db), block("balance", "cache", db), block("balance {\n ttl 5\n }", db), block("balance {\n nonsense\n }", db),
	}
	s := start(t, corefiles[0])
	all := make([]leads, clients)
	var sockets []*client
	for i := range all {
		all[i] = leads{}
		sockets = append(sockets, dial(t, "udp", s.udp(), ""))
		sockets[i].ask(query("www.example.org.", dns.TypeA))
	}
	before := runtime.NumGoroutine()
	ctx, done := context.WithCancel(t.Context())
	defer done()
	var answered atomic.Int64
	var wg sync.WaitGroup
	for i, c := range sockets {
		wg.Go(func() {
			for ctx.Err() == nil {
				reply, err := c.tryAsk(query("www.example.org.", dns.TypeA))
				if err != nil || len(reply.Answer) != 3 {
					t.Errorf("query lost: %v %v", reply, err)
					return
				}
				all[i].add(reply, dns.TypeA)
				answered.Add(1)
			}
		})
	}
	for i := range 100 {
		for enough := answered.Load() + 2*clients; answered.Load() < enough && !t.Failed(); {
			runtime.Gosched()
		}
		broken := i%len(corefiles) == 3
		if err := s.restart(corefiles[i%len(corefiles)]); (err != nil) != broken {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	done()
	wg.Wait()
	sum := leads{}
	for _, l := range all {
		for who, n := range l {
			sum[who] += n
		}
	}
	sum.even(t, 3, 1)
	eventually(t, "goroutines back to where they were", func() bool { return runtime.NumGoroutine() <= before })
}

// Queries that come in by TCP are answered by whoever has the listener.
func TestReloadsKeepTCPListeners(t *testing.T) {
	db := "file " + zone(t, "example.org.", threeAs)
	s := start(t, block("balance", db))
	var order []string
	for range 10 {
		order = append(order, members(dial(t, "tcp", s.tcp(), "").ask(query("www.example.org.", dns.TypeA)), dns.TypeA)[0])
		if err := s.restart(block("balance", db)); err != nil {
			t.Fatal(err)
		}
	}
	follows(t, threeSorted, order)
}

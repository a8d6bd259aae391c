// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/health"
	"github.com/seed-f1518d44/balance/internal/inforce"
)

// letterAddr returns the address of a member of setOf.
func letterAddr(letter byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, letter - 'a' + 1}) }

// record makes the record of a member of setOf known.
func (v *verdicts) record(letter byte, r health.Record) {
	at := withoutPort(letterAddr(letter))
	v.known[at] = health.Endpoint{At: at, Verdict: r.Verdict}
	v.records[at] = r
	v.rule.epoch.Add(1)
}

// downs has some members go down, and the others of a to d come back, or stay, up.
func (v *verdicts) downs(down string) {
	for letter := byte('a'); letter <= 'd'; letter++ {
		r := v.records[withoutPort(letterAddr(letter))]
		switch {
		case strings.IndexByte(down, letter) >= 0:
			v.record(letter, health.Record{Verdict: health.Down, Since: time.Now()})
		case r.Verdict != health.Up:
			v.record(letter, health.Record{Verdict: health.Up, Since: time.Now(), CameUp: r.Verdict == health.Down})
		}
	}
}

// recorded is judged, with the records of a to d, which have just come up for the first time.
func recorded(t *testing.T, options string) (plugin.Handler, *verdicts) {
	t.Helper()
	h := judged(t, options, echo)
	v := verdictsOf(h.(*Balance).rules.only)
	v.records = make(map[netip.AddrPort]health.Record)
	v.downs("")
	return h, v
}

// running has the files of a handler's rules read, and its metrics made, until the synctest bubble
// ends.
func running(t *testing.T, h plugin.Handler) *life {
	t.Helper()
	t.Cleanup(inUse.forget)
	l := lifeOf(h)
	ctx, cancel := context.WithCancel(t.Context())
	for _, r := range l.rules {
		for _, f := range r.files() {
			l.tasks.Go(func() { f.Poll(ctx) })
		}
	}
	lives.Lock()
	lives.running[l] = struct{}{}
	lives.Unlock()
	t.Cleanup(func() {
		lives.Lock()
		delete(lives.running, l)
		lives.Unlock()
		cancel()
		l.tasks.Wait()
	})
	return l
}

// leadsOf asks some times for an RRset, and writes how often each member leads.
func leadsOf(t *testing.T, h plugin.Handler, letters string, times int) string {
	t.Helper()
	count := make(map[byte]int)
	for range times {
		count[order(ask(t, h, setOf("www.h.", letters)))[0]]++
	}
	var b strings.Builder
	for _, letter := range letters {
		fmt.Fprintf(&b, "%c%d ", letter, count[byte(letter)])
	}
	return strings.TrimSpace(b.String())
}

// A member that comes back leads 1 of 21 answers at first, and more and more until it has its
// share. Nobody ramps when all are new.
func TestSlowStart(t *testing.T) {
	for _, policy := range []string{"round_robin", "weighted"} {
		synctest.Test(t, func(t *testing.T) {
			freshTurns(t)
			h, v := recorded(t, "policy "+policy+"\n ttl 10\n slow_start 60s")
			want := func(times int, leads string) {
				t.Helper()
				if got := leadsOf(t, h, "abc", times); got != leads {
					t.Errorf("%s: leads %s, want %s", policy, got, leads)
				}
			}
			want(9, "a3 b3 c3")
			v.downs("c")
			want(10, "a5 b5 c0")
			wait(time.Hour)
			v.downs("")
			want(42, "a20 b20 c2")
			wait(30 * time.Second)
			want(25, "a10 b10 c5")
			wait(29 * time.Second)
			want(59, "a20 b20 c19")
			wait(time.Second)
			want(9, "a3 b3 c3")
		})
	}
}

// A member that joins a known RRset ramps, without any health_check too. Those that an RRset has
// from the first do not, nor do those that come and go within the window.
func TestSlowStartOfJoiningMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h := newHandler(t, "balance {\n slow_start 60s\n}", echo)
		want := func(letters string, times int, leads string) {
			t.Helper()
			if got := leadsOf(t, h, letters, times); got != leads {
				t.Errorf("leads %s, want %s", got, leads)
			}
		}
		want("ab", 4, "a2 b2")
		want("abc", 42, "a20 b20 c2")
		wait(30 * time.Second)
		want("ab", 4, "a2 b2")
		want("abc", 25, "a10 b10 c5")
		wait(30 * time.Second)
		want("abc", 9, "a3 b3 c3")
		want("ab", 4, "a2 b2")
		wait(time.Minute)
		want("abc", 42, "a20 b20 c2")
	})
}

// A member that an operator took down for longer than the window ramps when it is back, although its
// probes passed meanwhile. One that was drained does not: it may have served all the time.
func TestSlowStartAfterAnOverride(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		writeFile(t, file, "10.0.0.3 down until 2000-01-01T01:00:00Z # disk swap\n10.0.0.1 drain until 2000-01-01T01:00:00Z\n")
		h, _ := recorded(t, "ttl 10\n slow_start 60s\n overrides "+file)
		running(t, h)
		want := func(times int, leads string) {
			t.Helper()
			if got := leadsOf(t, h, "abc", times); got != leads {
				t.Errorf("leads %s, want %s", got, leads)
			}
		}
		want(3, "a0 b3 c0")
		wait(time.Hour)
		want(42, "a20 b20 c2")
		wait(time.Minute)
		want(9, "a3 b3 c3")
	})
}

// While a member ramps, nobody loses a turn at a step: the others go on in their places.
func TestStepsSkipNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, "ttl 10\n slow_start 60s")
		v.downs("d")
		ask(t, h, setOf("www.h.", "abcd"))
		v.downs("")
		last, longest := map[byte]int{}, 0
		for i := range 60 * 7 {
			lead := order(ask(t, h, setOf("www.h.", "abcd")))[0]
			if before, led := last[lead]; led && lead != 'd' {
				longest = max(longest, i-before)
			}
			last[lead] = i
			wait(time.Second / 7)
		}
		if longest > 5 {
			t.Errorf("a steady member of four waited for %d answers, want at most one more than four", longest)
		}
	})
}

// With sticky, a member that comes back takes over few clients at first, and keeps them.
func TestSlowStartOfSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, "policy sticky\n ttl 10\n slow_start 60s")
		v.downs("c")
		clients := func() (of map[string]bool) {
			of = make(map[string]bool)
			for i := range 1000 {
				client := fmt.Sprintf("10.%d.%d.1", i/256, i%256)
				of[client] = order(askFrom(t, h, setOf("www.h.", "abc"), client))[0] == 'c'
			}
			return of
		}
		clients()
		wait(time.Hour)
		v.downs("")
		before, counts := map[string]bool{}, []int{}
		for range 3 {
			now, count := clients(), 0
			for client, has := range now {
				if has {
					count++
				} else if before[client] {
					t.Fatalf("%s was moved away from the member that ramps", client)
				}
			}
			before, counts = now, append(counts, count)
			wait(30 * time.Second)
		}
		for i, want := range []int{48, 200, 333} {
			if counts[i] < want-50 || counts[i] > want+50 {
				t.Errorf("%d clients of 1000 in steps of 30s, want about %d", counts, want)
			}
		}
	})
}

// Members that flap leave, and are back on time. Half of the members stay, those first that flapped
// least.
func TestDampedMembersLeave(t *testing.T) {
	until := func(letters string, after time.Duration) map[byte]time.Duration {
		all := make(map[byte]time.Duration)
		for i := range letters {
			all[letters[i]] = after * time.Duration(i+1)
		}
		return all
	}
	for _, tc := range []struct {
		name, options string
		damped        map[byte]time.Duration
		want          string
		ttl           uint32
	}{
		{"one of four", "", until("c", time.Minute), "abd", 5},
		{"three of four", "", until("abc", time.Minute), "ad", 5},
		{"all", "", until("dcba", time.Minute), "cd", 5},
		{"min_healthy", "tier 10.0.0.0/24\n min_healthy 3", until("abc", time.Minute), "abd", 5},
		{"none", "", nil, "abcd", 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				freshTurns(t)
				h, v := recorded(t, "damp\n"+tc.options)
				for letter, after := range tc.damped {
					v.record(letter, health.Record{Verdict: health.Up, Since: time.Now(), CameUp: true, Reuse: time.Now().Add(after)})
				}
				check := func(want string, ttl uint32) {
					t.Helper()
					m := ask(t, h, setOf("www.h.", "abcd"))
					if got := sorted(order(m)); got != want || m.Answer[0].Header().Ttl != ttl {
						t.Errorf("%s with TTL %d, want %s with TTL %d", got, m.Answer[0].Header().Ttl, want, ttl)
					}
				}
				check(tc.want, tc.ttl)
				wait(5 * time.Minute)
				check("abcd", 30)
			})
		})
	}
}

// targetsAsked returns the targets of an answer to an SRV question, in order.
func targetsAsked(t *testing.T, h plugin.Handler, srv *dns.Msg) string {
	t.Helper()
	var targets []byte
	for _, rr := range ask(t, h, srv).Answer {
		targets = append(targets, rr.(*dns.SRV).Target[0])
	}
	return string(targets)
}

// recordsTo returns SRV records that lead to hosts a to d with the addresses of setOf, and perhaps
// these addresses.
func recordsTo(t *testing.T, glued bool) *dns.Msg {
	t.Helper()
	var srv, glue []string
	for letter := byte('a'); letter <= 'd'; letter++ {
		srv = append(srv, fmt.Sprintf("_s.h. 300 SRV 1 1 80 %c.h.", letter))
		glue = append(glue, fmt.Sprintf("%c.h. 300 A %s", letter, letterAddr(letter)))
	}
	m := message(t, "_s.h. SRV", strings.Join(srv, "\n"))
	if glued {
		m.Extra = message(t, "_s.h. SRV", strings.Join(glue, "\n")).Answer
	}
	return m
}

// An SRV record is left out while all addresses of its target flap, if half of the records stay. A
// target with an address that does not flap stays.
func TestDampedTargetsLeave(t *testing.T) {
	for _, glued := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			freshTurns(t)
			h, v := recorded(t, "damp")
			if !glued {
				for letter := byte('a'); letter <= 'd'; letter++ {
					ask(t, h, message(t, fmt.Sprintf("%c.h. A", letter), fmt.Sprintf("%c.h. 300 A %s", letter, letterAddr(letter))))
				}
			}
			for i, letter := range []byte("abc") {
				v.record(letter, health.Record{Verdict: health.Up, Since: time.Now(), CameUp: true, Reuse: time.Now().Add(time.Duration(i+1) * time.Minute)})
			}
			srv := recordsTo(t, glued)
			if got := sorted(targetsAsked(t, h, srv)); got != "ad" {
				t.Errorf("glue %v: records to %s, want those to a and d", glued, got)
			}
			wait(2*time.Minute + time.Second)
			if got := sorted(targetsAsked(t, h, srv)); got != "abd" {
				t.Errorf("glue %v: records to %s, want all but those to c", glued, got)
			}
			if glued {
				srv.Extra = append(srv.Extra, message(t, "c.h. A", "c.h. 300 A 10.0.0.4").Answer...)
				if got := sorted(targetsAsked(t, h, srv)); got != "abcd" {
					t.Errorf("records to %s, want all: one address of c does not flap", got)
				}
			}
			wait(time.Minute)
			if got := sorted(targetsAsked(t, h, srv)); got != "abcd" {
				t.Errorf("glue %v: records to %s, want all", glued, got)
			}
		})
	}
}

// An SRV record whose target comes back leads few answers at first.
func TestSlowStartOfTargets(t *testing.T) {
	for _, policy := range []string{"round_robin", "weighted"} {
		synctest.Test(t, func(t *testing.T) {
			freshTurns(t)
			h, v := recorded(t, "policy "+policy+"\n ttl 10\n slow_start 60s")
			srv := recordsTo(t, true)
			leads := func(times int) (d int) {
				for range times {
					if targetsAsked(t, h, srv)[0] == 'd' {
						d++
					}
				}
				return d
			}
			leads(1)
			v.downs("d")
			leads(1)
			v.downs("")
			if d := leads(310); d != 10 {
				t.Errorf("%s: the target that came back leads %d of 310, want 10", policy, d)
			}
			wait(time.Minute)
			if d := leads(400); d != 100 {
				t.Errorf("%s: after its slow start it leads %d of 400, want 100", policy, d)
			}
		})
	}
}

func sorted(letters string) string {
	all := []byte(letters)
	slices.Sort(all)
	return string(all)
}

// Whatever flaps, damping takes out no more than half of the members that could answer, none that a
// tier needs for its quorum, and lets nobody answer who could not without it.
func TestDampingNeverEmptiesATier(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		standings := make([]standing, 1+rng.IntN(8))
		for i := range standings {
			s := &standings[i]
			s.weight, s.tier, s.verdict = uint16(rng.IntN(2)), uint16(rng.IntN(2)), health.Verdict(rng.IntN(3))
			if s.verdict == health.Up && rng.IntN(2) == 0 {
				s.reuse = 1 + rng.Uint32N(100)
			}
		}
		by := criteria{minHealthy: quorum{count: 1 + rng.IntN(3)}}
		steady := slices.Clone(standings)
		for i := range steady {
			steady[i].reuse = 0
		}
		with, without := classify(standings, by), classify(steady, by)
		quorum := min(len(without.answering), by.minHealthy.count)
		switch {
		case 2*len(with.answering) < len(without.answering), len(with.answering) < quorum:
			t.Fatalf("%v answer, without damping %v: %+v", with.answering, without.answering, standings)
		case slices.ContainsFunc(with.answering, func(m uint16) bool { return !slices.Contains(without.answering, m) }):
			t.Fatalf("%v answer, without damping %v: %+v", with.answering, without.answering, standings)
		case with.allDown != without.allDown, with.failedOver != without.failedOver:
			t.Fatalf("damping changes the tier: %+v", standings)
		}
		for _, out := range with.excluded {
			for _, in := range with.answering {
				if out.why == damped && standings[in].reuse > standings[out.member].reuse {
					t.Fatalf("%d is out, and %d, which flapped more, answers: %+v", out.member, in, standings)
				}
			}
		}
	}
}

// After a failover the earlier tier must have been healthy for ten minutes. If the tier that serves
// fails, the earlier one serves at once. A reload keeps that.
func TestFailbackAfter(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		const options = "tier 10.0.0.1 10.0.0.2\n failback after 10m"
		h, v := recorded(t, options)
		want := func(letters string, ttl uint32) {
			t.Helper()
			m := ask(t, h, setOf("www.h.", "abcd"))
			if got := sorted(order(m)); got != letters || m.Answer[0].Header().Ttl != ttl {
				t.Errorf("%s with TTL %d, want %s with TTL %d", got, m.Answer[0].Header().Ttl, letters, ttl)
			}
		}
		want("ab", 30)
		v.downs("ab")
		want("cd", 5)
		wait(time.Hour)
		v.downs("b") // a is back, and nobody asks for a minute
		wait(time.Minute)
		want("cd", 5)
		wait(8 * time.Minute)
		records := v.records
		h, v = recorded(t, options) // a reload
		v.records = records
		v.downs("b")
		want("cd", 5)
		wait(59 * time.Second)
		want("cd", 5)
		wait(2 * time.Second)
		want("a", 5)
		v.downs("ab")
		want("cd", 5)
		v.downs("")
		want("cd", 5)
		v.downs("cd") // the tier that serves fails
		want("ab", 30)
	})
	for _, want := range []string{
		"www.h. A: tier 2 answers, because too few members of an earlier tier are up",
		"www.h. A: tier 2 goes on serving although an earlier one could, until 2000-01-01T01:10:00Z, as failback says",
		"www.h. A: tier 1 answers again",
	} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("logged\n%s\nwant %q", logged, want)
		}
	}
}

// With failback manual the later tier serves, with the TTL MAX, until an operator writes a line.
func TestFailbackManual(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides")
	writeFile(t, file, "")
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, "tier 10.0.0.1 10.0.0.2\n failback manual\n overrides "+file+" 5s\n status")
		running(t, h)
		want := func(letters string, ttl uint32, waiting float64) {
			t.Helper()
			m := ask(t, h, setOf("www.h.", "abcd"))
			if got := sorted(order(m)); got != letters || m.Answer[0].Header().Ttl != ttl {
				t.Errorf("%s with TTL %d, want %s with TTL %d", got, m.Answer[0].Header().Ttl, letters, ttl)
			}
			if got := metric(t, "coredns_balance_failback_waiting", "."); got != waiting {
				t.Errorf("%v RRsets wait, want %v", got, waiting)
			}
		}
		want("ab", 30, 0)
		v.downs("ab")
		want("cd", 30, 0)
		v.downs("abc")
		want("d", 5, 0)
		v.downs("")
		want("cd", 30, 1)
		h.(*Balance).rules.only.watcher.next.Store(new(answering(setOf("www.h.", "abcd"))))
		steps := fmt.Sprint(why(t, h, "www.h.", dns.TypeA, "127.0.0.1").RRsets[0].Steps)
		if !strings.Contains(steps, "tier 2 goes on serving although an earlier one could: failback manual waits for an operator") {
			t.Errorf("why says %s", steps)
		}
		wait(24 * time.Hour)
		want("cd", 30, 1)
		writeFile(t, file, "www.h failback at "+time.Now().Add(time.Minute).UTC().Format(time.RFC3339)+"\n")
		wait(55 * time.Second)
		want("cd", 30, 1)
		wait(6 * time.Second)
		want("ab", 30, 0)
		v.downs("ab") // the line has had its effect
		want("cd", 30, 0)
		v.downs("")
		wait(time.Hour)
		want("cd", 30, 1)
	})
}

// If a reload gives the tiers other numbers, the same one goes on serving. If it is gone, the first
// one serves.
func TestFailbackTiersChange(t *testing.T) {
	const first = "tier 10.0.0.1 10.0.0.2\n "
	rest := strings.TrimPrefix(manualTiers(t), first)
	for name, tc := range map[string]struct{ before, down, after, want string }{
		"another before it":   {first, "ab", "tier 10.0.0.1\n tier 10.0.0.2\n ", "cd"},
		"the same in another": {first, "ab", "tier 10.0.0.2 10.0.0.1\n ", "cd"},
		"none is left":        {first, "ab", "tier 10.0.0.1\n tier 10.0.0.3 10.0.0.4\n tier 10.0.0.2\n ", "a"},
		"swapped":             {"tier 10.0.0.1\n tier 10.0.0.2\n ", "a", "tier 10.0.0.2\n tier 10.0.0.1\n ", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				freshTurns(t)
				h, v := recorded(t, tc.before+rest)
				running(t, h)
				v.downs(tc.down)
				tierOf(t, h)
				h, _ = recorded(t, tc.after+rest)
				running(t, h)
				if got := tierOf(t, h); got != tc.want {
					t.Errorf("%s answers, want %s", got, tc.want)
				}
			})
		})
	}
}

// If failback leaves the Corefile, and comes back later, the tier that served at first does not serve
// again.
func TestFailbackTakenOut(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, options)
		running(t, h)
		v.downs("ab")
		tierOf(t, h)
		v.downs("")
		rule := h.(*Balance).rules.only.zoneRule
		rule.failback.Mode = failback.AtOnce
		rule.epoch.Add(1)
		if got := tierOf(t, h); got != "ab" {
			t.Errorf("%s answers without failback, want ab", got)
		}
		wait(time.Hour)
		rule.failback.Mode = failback.Manual
		rule.epoch.Add(1)
		if got := tierOf(t, h); got != "ab" {
			t.Errorf("%s answers with failback again, want ab, which served before", got)
		}
	})
}

// What is known of members in a slow start is on the page, and counted, and forgotten when it ends.
func TestSlowStartIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, "ttl 10\n slow_start 60s\n status")
		l := running(t, h)
		ask(t, h, setOf("www.h.", "abc"))
		v.downs("c")
		ask(t, h, setOf("www.h.", "abc"))
		v.downs("")
		ask(t, h, setOf("www.h.", "abc"))
		for _, want := range []struct {
			ramp  int
			force float64
			count float64
		}{{10, 0.1, 1}, {50, 0.5, 1}, {0, 1, 0}} {
			doc := newOverview([]*life{l}).document()
			for _, m := range doc.Names[0].Members {
				if m.Member == "10.0.0.3" && (m.Ramp != want.ramp || m.WeightInForce != want.force) {
					t.Errorf("%+v, want a ramp of %d%%", m, want.ramp)
				}
			}
			if got := metric(t, "coredns_balance_ramping", "."); got != want.count {
				t.Errorf("%v members ramp, want %v", got, want.count)
			}
			wait(30 * time.Second)
		}
	})
}

// A member that is damped does not answer, so it has no part of its weight.
func TestDampedMemberDoesNotRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, "ttl 10\n slow_start 60s\n damp\n status")
		running(t, h)
		v.record('c', health.Record{Verdict: health.Up, Since: time.Now(), CameUp: true, Reuse: time.Now().Add(time.Minute)})
		h.(*Balance).rules.only.watcher.next.Store(new(answering(setOf("www.h.", "abc"))))
		for _, want := range []struct {
			reasons bool
			count   float64
		}{{false, 0}, {true, 1}} {
			ask(t, h, setOf("www.h.", "abc"))
			if got := metric(t, "coredns_balance_ramping", "."); got != want.count {
				t.Errorf("%v members ramp, want %v", got, want.count)
			}
			if got := fmt.Sprint(why(t, h, "www.h.", dns.TypeA, "127.0.0.1").RRsets[0].Members); strings.Contains(got, "weight in force") != want.reasons {
				t.Errorf("why says %s, want its weight in force: %v", got, want.reasons)
			}
			wait(time.Minute)
		}
	})
}

// Members that ramp are few plans apart: a plan is made anew at a step, not for every answer.
func TestPlansLastForAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v := recorded(t, "ttl 10\n slow_start 60s")
		v.downs("c")
		m := setOf("www.h.", "abc")
		ask(t, h, m)
		v.downs("")
		plans := make(map[*plan]bool)
		for range 600 {
			ask(t, h, setOf("www.h.", "abc"))
			e := allTurns.known(h.(*Balance).rules.only.scope, turnKey{rrtype: dns.TypeA, prefer: choice{line: noPreference}}, "www.h.")
			plans[e.state.Load().plan] = true
			wait(100 * time.Millisecond)
		}
		if len(plans) < 10 || len(plans) > 21 {
			t.Errorf("%d plans in a ramp, want one a step", len(plans))
		}
	})
}

// Without these options a standing is what it was, and nothing is remembered.
func TestNothingIsRememberedWithoutNeed(t *testing.T) {
	freshTurns(t)
	h := judged(t, "", echo)
	ask(t, h, setOf("www.h.", "abc"))
	z := h.(*Balance).rules.only
	key := turnKey{rrtype: dns.TypeA, prefer: choice{line: noPreference}}
	e := allTurns.known(z.scope, key, "www.h.")
	if s := e.state.Load(); s.past != nil || !s.plan.settled || s.plan.standings[0].factors != (inforce.Factors{}) {
		t.Errorf("%+v", s)
	}
	if allTurns.known(z.scope, pastKey(key), "www.h.") != nil {
		t.Error("there is an entry for the past")
	}
}

// The past of an RRset is one for all its clients, whatever their answers depend on.
func TestPastIsThatOfAllClients(t *testing.T) {
	freshTurns(t)
	h := newHandler(t, "balance {\n slow_start 60s\n prefer 10.0.0.9 from 10.1.0.0/16\n}", echo)
	ask(t, h, setOf("www.h.", "ab"))
	ask(t, h, setOf("www.h.", "abc"))
	count := 0
	for range 42 {
		if order(askFrom(t, h, setOf("www.h.", "abc"), "10.1.0.1"))[0] == 'c' {
			count++
		}
	}
	if count > 4 {
		t.Errorf("the member that joined leads %d of 42 answers to another client, want a few", count)
	}
}

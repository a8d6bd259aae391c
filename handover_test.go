// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/failback"
	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/fleet/gossip"
)

// handingOver is recorded in a fleet, as the only rule of a replica that is told nothing yet.
func handingOver(t *testing.T, options string) (plugin.Handler, *verdicts, *handover) {
	t.Helper()
	h, v := recorded(t, options)
	z, told := h.(*Balance).rules.only.zoneRule, new(handover)
	z.handover = told
	z.identify("")
	running(t, h)
	return h, v, told
}

// tierOf asks, and returns the letters of the members that answer.
func tierOf(t *testing.T, h plugin.Handler) string {
	t.Helper()
	return sorted(order(ask(t, h, setOf("www.h.", "abcd"))))
}

// manualTiers returns options with two tiers and failback manual.
func manualTiers(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "overrides")
	writeFile(t, file, "")
	return "tier 10.0.0.1 10.0.0.2\n failback manual\n overrides " + file + " 5s\n status"
}

// A replica that has not answered an RRset begins with the tier that serves at another one, and
// says so. If that tier fails, it decides for itself from then on.
func TestFailbackHandedOver(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, other := handingOver(t, options)
		tierOf(t, h)
		v.downs("ab")
		tierOf(t, h)
		v.downs("")
		tierOf(t, h)
		wait(time.Hour)
		saved := tierKeeper{other}.Save()

		freshTurns(t)
		h, v, here := handingOver(t, options)
		tierKeeper{here}.Load("dns-1", saved)
		if got := tierOf(t, h); got != "cd" {
			t.Errorf("the first answer has %s, want cd", got)
		}
		h.(*Balance).rules.only.watcher.next.Store(new(answering(setOf("www.h.", "abcd"))))
		steps := fmt.Sprint(why(t, h, "www.h.", dns.TypeA, "127.0.0.1").RRsets[0].Steps)
		if !strings.Contains(steps, "waits for an operator; it was serving at replica dns-1, from which this one took it over") {
			t.Errorf("why says %s", steps)
		}
		if again := (tierKeeper{here}).Save(); len(parseHanded("", again[1:])) != 1 {
			t.Errorf("it hands over %q, was handed %q", again, saved)
		}
		v.downs("cd")
		if got := tierOf(t, h); got != "ab" {
			t.Errorf("%s answers, want ab: the tier that was taken over failed", got)
		}
		v.downs("")
		tierKeeper{here}.Load("dns-1", saved)
		if got := tierOf(t, h); got != "ab" {
			t.Errorf("%s answers, want ab: this replica has a state of its own", got)
		}
	})
}

// beginsToJoin has a replica wait for what the others tell.
func beginsToJoin(h *handover) {
	opening := &replica{handover: h}
	opening.session.Store(&session{carrier: new(gossip.Carrier), opened: time.Now()})
	h.ready = opening.ready
}

// Before a replica has joined, its answers settle nothing.
func TestFailbackHandedOverLate(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, other := handingOver(t, options)
		v.downs("ab")
		tierOf(t, h)
		saved := tierKeeper{other}.Save()

		freshTurns(t)
		h, _, here := handingOver(t, options)
		beginsToJoin(here)
		if got := tierOf(t, h); got != "ab" {
			t.Errorf("%s answers before anybody has said anything, want ab", got)
		}
		tierKeeper{here}.Load("dns-1", saved)
		if got := tierOf(t, h); got != "cd" {
			t.Errorf("%s answers once another replica has named its tier, want cd", got)
		}
	})
}

// If no other replica names a tier, the one that answers while this replica joins is kept afterwards.
func TestFailbackAfterNobodyAnswered(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, here := handingOver(t, options)
		beginsToJoin(here)
		v.downs("ab")
		if got := tierOf(t, h); got != "cd" {
			t.Errorf("%s answers while the first tier is down, want cd", got)
		}
		wait(2 * joinedWithin)
		tierOf(t, h)
		v.downs("")
		if got := tierOf(t, h); got != "cd" {
			t.Errorf("%s answers once the first tier is up again, want cd: nobody asked to go back", got)
		}
	})
}

// Of several replicas the one whose tier began to serve last counts, in whatever order they say so.
// One that takes it back, or is not heard of any more, does not count.
func TestFailbackHandedOverBySeveral(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, other := handingOver(t, options)
		v.downs("ab")
		tierOf(t, h)
		early := tierKeeper{other}.Save()
		wait(time.Minute)
		late := tierKeeper{other}.Save() // says that it began a minute ago
		z := h.(*Balance).rules.only.zoneRule
		for name, tc := range map[string]struct {
			load func(*handover)
			want string
		}{
			"the later one last":   {func(h *handover) { h.load("old", late); h.load("new", early) }, "new"},
			"the later one first":  {func(h *handover) { h.load("new", early); h.load("old", late) }, "new"},
			"it takes it back":     {func(h *handover) { h.load("new", early); h.load("new", []byte{handoverVersion}) }, ""},
			"it is gone":           {func(h *handover) { h.load("new", early); wait(2 * handedFor); h.load("old", []byte{handoverVersion}) }, ""},
			"it talks differently": {func(h *handover) { h.load("new", append([]byte{handoverVersion + 1}, early[1:]...)) }, ""},
			"it breaks off":        {func(h *handover) { h.load("new", early[:len(early)-1]) }, ""},
		} {
			z.handover = new(handover)
			tc.load(z.handover)
			got := ""
			if told := z.handover.of(z.identity, "WWW.h.", dns.TypeA); told != nil {
				got = told.replica
			}
			if got != tc.want {
				t.Errorf("%s: %q counts, want %q", name, got, tc.want)
			}
		}
	})
}

// A replica that has just started says nothing, so of two that start together neither takes the
// other's silence for an answer.
func TestHandoverOfReplicaThatJoins(t *testing.T) {
	joined := false
	joins, here := &handover{ready: func() bool { return joined }}, new(handover)
	tierKeeper{here}.Load("dns-1", tierKeeper{joins}.Save())
	if here.heard.Load() {
		t.Error("a replica that awaits the others counts as one that knows which tiers serve")
	}
	joined = true
	tierKeeper{here}.Load("dns-1", tierKeeper{joins}.Save())
	if !here.heard.Load() {
		t.Error("a replica that has joined does not count")
	}
}

// If a replica names a tier for an RRset twice, as with two server blocks for a zone, the one that
// began to serve last counts.
func TestHandedTwice(t *testing.T) {
	entry := func(tier, age byte) string {
		return "\x00\x00\x00\x00\x00\x00\x00\x01\x02h.\x00\x01" + string([]byte{tier, age, 0, 0})
	}
	for _, said := range []string{entry(1, 9) + entry(2, 7), entry(2, 7) + entry(1, 9)} {
		h := new(handover)
		h.load("dns-1", []byte("\x01"+said))
		if got := h.of(1, "h.", dns.TypeA).state.Tier(); got != 2 {
			t.Errorf("%q: tier %d counts, want 2", said, got)
		}
	}
}

// What a replica that is gone has said is not used after an hour, even if no other one says
// anything meanwhile.
func TestHandedExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(handover)
		h.load("dns-1", []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x01\x02h.\x00\x01\x01\x00\x00\x00"))
		time.Sleep(handedFor)
		if h.of(1, "h.", dns.TypeA) == nil {
			t.Error("it is forgotten too early")
		}
		time.Sleep(time.Second)
		if h.of(1, "h.", dns.TypeA) != nil {
			t.Error("it is still used")
		}
	})
}

// What is saved fits a message between replicas: one that does not is not sent at all.
func TestSavedTiersFitMessage(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, here := handingOver(t, options)
		v.downs("ab")
		for i := range maxHanded {
			labels := strings.Repeat(strings.Repeat("x", 60)+".", 4)
			order(ask(t, h, setOf(fmt.Sprintf("%d%s.h.", 1000+i, labels[:len(labels)-6]), "abcd")))
		}
		saved := tierKeeper{here}.Save()
		if len(saved) > fleet.MaxKept || len(parseHanded("", saved[1:])) < maxHanded/2 {
			t.Errorf("%d bytes with %d RRsets, want at most %d", len(saved), len(parseHanded("", saved[1:])), fleet.MaxKept)
		}
	})
}

// An RRset that is in use is handed over even after its past was evicted from the cache.
func TestHandoverOfEvictedPast(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, here := handingOver(t, options)
		v.downs("ab")
		for i := range 2 * exactRRsets {
			if i%1000 == 0 {
				tierOf(t, h)
			}
			allTurns.entry(0, turnKey{}, strconv.Itoa(i))
		}
		if saved := (tierKeeper{here}).Save(); len(parseHanded("", saved[1:])) != 1 {
			t.Errorf("it hands over %q", saved)
		}
	})
}

// A rule without failback any more names no tier, whatever served before.
func TestHandoverWithoutFailback(t *testing.T) {
	options := manualTiers(t)
	synctest.Test(t, func(t *testing.T) {
		freshTurns(t)
		h, v, here := handingOver(t, options)
		v.downs("ab")
		tierOf(t, h)
		h.(*Balance).rules.only.failback.Mode = failback.AtOnce
		if saved := (tierKeeper{here}).Save(); len(parseHanded("", saved[1:])) != 0 {
			t.Errorf("it hands over %q", saved)
		}
	})
}

// A rule with other tiers, in another zone or in another view is another rule.
func TestRuleIdentity(t *testing.T) {
	identity := func(tiers, zone, view string) uint64 {
		z := &zoneRule{rule: parsedRule(t, "balance {\n"+tiers+"\n}"), zone: zone}
		z.identify(view)
		return z.identity
	}
	const tiers = "tier 10.0.0.1 10.0.0.2\n tier 10.0.0.3"
	if identity(tiers, "h.", "") != identity(tiers+"\n failback after 5m\n answers 2", "h.", "") {
		t.Error("rules with the same tiers differ")
	}
	for _, other := range []uint64{
		identity("tier 10.0.0.1\n tier 10.0.0.2 10.0.0.3", "h.", ""), identity(tiers, "g.", ""), identity(tiers, "h.", "inside"),
	} {
		if other == identity(tiers, "h.", "") {
			t.Error("rules are the same that differ")
		}
	}
}

// What another replica says is bounded, whatever it is.
func TestHandoverIsBounded(t *testing.T) {
	var said []byte
	for i := range 3 * maxHanded {
		owner := fmt.Sprintf("host%d.h.", i)
		said = append(append(append(said, 0, 0, 0, 0, 0, 0, 0, 1, byte(len(owner))), owner...), 0, 1, 1, 1, 1, 0)
	}
	h := new(handover)
	for i := range 3 {
		h.load(fmt.Sprint("dns-", i), append([]byte{handoverVersion}, said[i*len(said)/9:]...))
		h.load(fmt.Sprint("dns-", i), append([]byte{handoverVersion}, said...))
	}
	if got := len(*h.told.Load()); got != maxHanded {
		t.Errorf("%d RRsets are kept, want %d", got, maxHanded)
	}
}

func FuzzHandover(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x01\x02h.\x00\x01\x01\x01\x01\x00"))
	f.Fuzz(func(t *testing.T, saved []byte) {
		h := new(handover)
		h.load("dns-1", saved)
		if told := h.told.Load(); told != nil && len(*told) > maxHanded {
			t.Errorf("%d RRsets", len(*told))
		}
	})
}

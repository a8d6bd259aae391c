// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/probe"
)

// replicas are the replicas of a fleet in one process, each with pools and backends of its own.
type replicas struct {
	t      testing.TB
	change func(*Check)
	byLoad bool // the rule goes by load reports
	mu     sync.Mutex
	all    []*replica
}

type replica struct {
	*replicas
	name     string
	fleet    *fleet.Fleet
	pools    *Registry
	backends *backends
	check    *Check
	rule     *Subscription
	gone     bool
	deaf     bool // cut from the others
}

func newReplicas(t *testing.T, n int) *replicas { return newReplicasOf(t, n, func(*Check) {}) }

// newReplicasOf is newReplicas with checks that a function changes.
func newReplicasOf(t testing.TB, n int, change func(*Check)) *replicas {
	all := &replicas{t: t, change: change}
	for i := range n {
		all.join(fmt.Sprintf("r%d", i))
	}
	all.members()
	return all
}

// join adds a replica.
func (all *replicas) join(name string) *replica {
	r := &replica{
		replicas: all, name: name, pools: NewRegistry(logged{}), backends: newBackends(all.t),
		fleet: fleet.New(fleet.Config{Name: "test", Replica: name, Probers: 3, Log: logged{}}),
	}
	r.fleet.Start(r)
	all.mu.Lock()
	others := append([]*replica(nil), all.all...)
	all.all = append(all.all, r)
	all.mu.Unlock()
	for _, other := range others {
		if !other.gone {
			r.fleet.Merge(other.fleet.State(true), true)
			break
		}
	}
	r.check = r.backends.checkOf()
	r.check.Fleet = r.fleet
	all.change(r.check)
	sub := in("example.org.")
	sub.GoesByLoad = all.byLoad
	r.rule = r.pools.Join(r.check, sub)
	all.t.Cleanup(r.end)
	return r
}

func (r *replica) end() {
	if !r.gone {
		r.gone = true
		r.rule.Leave()
		r.fleet.Stop(context.Background())
	}
}

// members tells every replica who is there.
func (all *replicas) members() {
	for _, r := range all.all {
		var live []fleet.Replica
		for _, other := range all.all {
			if other == r || !other.gone && !other.deaf && !r.deaf {
				live = append(live, fleet.Replica{Name: other.name, Versions: fleet.Understood})
			}
		}
		r.fleet.Members(live)
	}
}

// Tell implements fleet.Carrier.
func (r *replica) Tell(name string, message []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.all {
		if other.name == name && !other.gone && !other.deaf && !r.deaf {
			other.fleet.Hear(message)
		}
	}
}

// TellAll implements fleet.Carrier.
func (r *replica) TellAll(message []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.all {
		if other != r && !other.gone && !other.deaf && !r.deaf {
			other.fleet.Hear(message)
		}
	}
}

// Leave implements fleet.Carrier.
func (r *replica) Leave(context.Context) {}

// set makes an endpoint fail or pass for all replicas.
func (all *replicas) set(at netip.AddrPort, err error) {
	for _, r := range all.all {
		r.backends.set(at, err)
	}
}

// verdicts fails the test unless all replicas have a verdict on an endpoint.
func (all *replicas) verdicts(at netip.AddrPort, want Verdict) {
	all.t.Helper()
	for _, r := range all.all {
		if known, _ := r.rule.Peek(at); !r.gone && known.Verdict != want {
			all.t.Errorf("%s says %v of %s, want %v; votes %+v", r.name, known.Verdict, nameOf(at), want, r.rule.Voters(at))
		}
	}
}

// probes returns how many probes of an endpoint were made by all replicas.
func (all *replicas) probes(at netip.AddrPort) (n int) {
	for _, r := range all.all {
		n += r.backends.count(at)
	}
	return n
}

// Replicas of different releases share a check, so its ID never changes.
func TestFleetID(t *testing.T) {
	idOf := func(source netip.Addr, change func(*Check)) fleet.CheckID {
		prober, err := probe.NewTCP(probe.TCP{Port: 80, Source: source})
		if err != nil {
			t.Fatal(err)
		}
		c := Check{
			Prober: prober, MaxEndpoints: 10, MaxInFlight: 2, HalfLife: time.Minute,
			Timing: Timing{5 * time.Second, 2 * time.Second, time.Second, 30 * time.Second, 2, 3},
		}
		change(&c)
		return c.FleetID()
	}
	const want fleet.CheckID = 0x7ed67147dfa29cd6
	for _, source := range []netip.Addr{{}, netip.MustParseAddr("192.0.2.1")} {
		if id := idOf(source, func(c *Check) { c.MaxEndpoints, c.MaxInFlight = 20, 4 }); id != want {
			t.Errorf("source %v: ID %#x, want %#x", source, id, want)
		}
	}
	for i, change := range []func(*Check){
		func(c *Check) { c.Timing.Interval++ }, func(c *Check) { c.Timing.Timeout++ }, func(c *Check) { c.Timing.FastInterval++ },
		func(c *Check) { c.Timing.MaxInterval++ }, func(c *Check) { c.Timing.Rise++ }, func(c *Check) { c.Timing.Fall++ },
		func(c *Check) { c.HalfLife++ }, func(c *Check) { c.Hold = new(Hold) },
	} {
		if idOf(netip.Addr{}, change) == want {
			t.Errorf("change %d leaves the ID as it was", i)
		}
	}
}

// Five replicas probe as three would, and all know what these find.
func TestFleet(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 5)
		for _, at := range addresses(20) {
			all.all[0].rule.Seen(at)
		}
		wait(2 * time.Second)
		for _, at := range addresses(20) {
			all.verdicts(at, Up)
		}
		wait(10 * time.Second)
		before := all.probes(addresses(1)[0])
		wait(time.Minute)
		if n := all.probes(addresses(1)[0]) - before; n < 34 || n > 38 {
			t.Errorf("%d probes in a minute, want 36", n)
		}
		at := addresses(20)[7]
		all.set(at, errRefused)
		wait(8 * time.Second)
		all.verdicts(at, Down)
		if known, _ := all.all[0].rule.Peek(at); known.Problem != "connection refused" {
			t.Errorf("the reason is %q", known.Problem)
		}
		all.set(at, nil)
		wait(9 * time.Second)
		all.verdicts(at, Up)
	})
	if logged.count("10.0.0.8 fake:1 is down: connection refused (was up for") != 5 || logged.count(" of 3 votes: r") < 10 {
		t.Errorf("logged\n%s", logged)
	}
}

// The replicas that are assigned to an endpoint divide the interval among themselves.
func TestFleetSpreadsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 3)
		endpoints := addresses(20)
		for _, at := range endpoints {
			all.all[0].rule.Seen(at)
		}
		wait(5 * time.Minute)
		for _, at := range endpoints {
			var starts []time.Duration
			for _, r := range all.all {
				probes := r.backends.probes[at]
				starts = append(starts, time.Duration(probes[len(probes)-1].UnixNano()%int64(5*time.Second)))
			}
			slices.Sort(starts)
			for i, gap := range []time.Duration{starts[1] - starts[0], starts[2] - starts[1], 5*time.Second + starts[0] - starts[2]} {
				if gap < time.Second || gap > 2400*time.Millisecond {
					t.Errorf("%s: gap %d between probes is %v, want about a third of 5s", nameOf(at), i, gap)
				}
			}
		}
	})
}

// Who kills a prober while an endpoint dies waits no longer.
func TestFleetLosesReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 4)
		for _, at := range addresses(40) {
			all.all[0].rule.Seen(at)
			all.all[1].rule.Seen(at)
		}
		wait(20 * time.Second)
		all.all[3].end()
		at := addresses(40)[5]
		all.set(at, errRefused)
		wait(8 * time.Second)
		all.verdicts(at, Down)
		all.members()
		wait(20 * time.Second)
		for _, at := range addresses(40)[6:] {
			all.verdicts(at, Up)
			if n := probing(all, at); n != 3 {
				t.Errorf("%d replicas probe %s, want 3", n, at)
			}
		}
	})
}

// probing returns how many replicas probe an endpoint.
func probing(all *replicas, at netip.AddrPort) (n int) {
	for _, r := range all.all {
		if tally, known := r.rule.Tally(at); known && !r.gone && tally.Probing() {
			n++
		}
	}
	return n
}

// A replica whose path is cut sees the fleet's verdicts, and no endpoint leaves its answers.
func TestFleetPathCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 3)
		for _, at := range addresses(20) {
			all.all[0].rule.Seen(at)
		}
		wait(10 * time.Second)
		for _, at := range addresses(20) {
			all.all[0].backends.set(at, errRefused)
		}
		for range 60 {
			wait(time.Second)
			for _, at := range addresses(20) {
				all.verdicts(at, Up)
			}
		}
		for _, at := range addresses(20) {
			all.set(at, errRefused)
		}
		wait(20 * time.Second)
		for _, at := range addresses(20) {
			all.verdicts(at, Down)
		}
	})
}

// A replica that joins has the verdicts before it has probed, and starts without a burst.
func TestFleetJoiner(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 2)
		endpoints := addresses(100)
		for _, at := range endpoints {
			all.all[0].rule.Seen(at)
		}
		all.set(endpoints[3], errRefused)
		wait(time.Minute)
		r := all.join("late")
		r.backends.set(endpoints[3], errRefused)
		all.members()
		synctest.Wait()
		all.verdicts(endpoints[3], Down)
		all.verdicts(endpoints[4], Up)
		if known, _ := r.rule.Peek(endpoints[3]); time.Since(known.Since) < 50*time.Second || known.Problem != "connection refused" {
			t.Errorf("%+v", known)
		}
		wait(time.Second)
		if n := r.backends.all(); n > 35 {
			t.Errorf("%d probes in the first second: a burst", n)
		}
		wait(5 * time.Second)
		if n := r.backends.all(); n < 90 {
			t.Errorf("%d probes in the first interval, want about 120", n)
		}
	})
	if logged.count("10.0.0.4 fake:1 is down: connection refused (was unknown for 0s); taken over from another replica") != 1 {
		t.Errorf("logged\n%s", logged)
	}
}

// A replica that joins knows which endpoints flap, and for how long they are to stay out.
func TestFleetJoinerKnowsFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicasOf(t, 3, func(c *Check) {
			c.Timing.Rise, c.Timing.Fall, c.Timing.MaxInterval, c.HalfLife = 1, 1, c.Timing.Interval, time.Minute
		})
		all.all[0].rule.Seen(a1)
		all.all[0].rule.Seen(a2)
		wait(10 * time.Second)
		for range 3 {
			all.set(a1, errRefused)
			wait(7 * time.Second)
			all.set(a1, nil)
			wait(7 * time.Second)
		}
		was := all.all[1].rule.Record(a1)
		if !was.CameUp || time.Until(was.Reuse) < 30*time.Second {
			t.Fatalf("%+v after three flaps", was)
		}
		r := all.join("late")
		all.members()
		synctest.Wait()
		if now := r.rule.Record(a1); now.Verdict != Up || !now.CameUp || now.Reuse.Sub(was.Reuse).Abs() > 2*time.Second {
			t.Errorf("the joiner knows %+v, the others %+v", now, was)
		}
		if now := r.rule.Record(a2); now.CameUp || !now.Reuse.IsZero() {
			t.Errorf("of the steady one it knows %+v", now)
		}
	})
}

// A reload keeps votes and verdicts and sends no burst, one of all replicas that changes the
// interval too.
func TestFleetReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 4)
		endpoints := addresses(60)
		for _, at := range endpoints {
			all.all[0].rule.Seen(at)
		}
		all.set(endpoints[3], errRefused)
		wait(time.Minute)
		for _, change := range []func(*Check){func(*Check) {}, func(c *Check) { c.Timing.Interval = 4 * time.Second }, func(c *Check) { c.MaxEndpoints++ }} {
			before := 0
			for _, r := range all.all {
				before += r.backends.all()
			}
			for _, r := range all.all {
				changed := *r.check
				change(&changed)
				r.check = &changed
				rule := r.pools.Join(r.check, in("example.org."))
				r.rule.Leave()
				r.rule = rule
			}
			for range 20 {
				wait(time.Second)
				all.verdicts(endpoints[3], Down)
				all.verdicts(endpoints[4], Up)
			}
			probes := -before
			for _, r := range all.all {
				probes += r.backends.all()
			}
			if most := 60 * 3 * 7; probes > most {
				t.Errorf("%d probes in 20s after a reload, want at most %d", probes, most)
			}
			for _, at := range endpoints {
				if n := probing(all, at); n != 3 {
					t.Errorf("%d replicas probe %s, want 3", n, nameOf(at))
				}
			}
		}
	})
}

// Only the replicas that probe an endpoint hold a connection to it, also after another one joined.
// The end of the connections makes a death known at once.
func TestFleetHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []*fakeLines
		all := newReplicasOf(t, 4, func(c *Check) { held = append(held, c.holding()) })
		for _, at := range addresses(20) {
			all.all[0].rule.Seen(at)
		}
		wait(20 * time.Second)
		all.join("late")
		all.members()
		wait(30 * time.Second)
		connections := func(at netip.AddrPort) (n int) {
			for i, lines := range held {
				open := 0
				lines.do(func() {
					for _, e := range lines.open {
						open += one(e.at == at)
					}
				})
				tally, _ := all.all[i].rule.Tally(at)
				if open != one(tally.Probing()) {
					t.Errorf("r%d holds %d connections to %s, probing: %v", i, open, nameOf(at), tally.Probing())
				}
				n += open
			}
			return n
		}
		for _, at := range addresses(20) {
			if n := connections(at); n != 3 {
				t.Errorf("%d connections to %s, want 3", n, nameOf(at))
			}
		}
		at := addresses(20)[4]
		all.set(at, errRefused)
		for _, lines := range held {
			lines.end(at)
		}
		wait(time.Second)
		all.verdicts(at, Down)
	})
}

// While a replica stops, its last verdicts stand, and the others take its endpoints over.
func TestFleetStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 3)
		for _, at := range addresses(10) {
			all.all[0].rule.Seen(at)
		}
		wait(10 * time.Second)
		r := all.all[1]
		rule := r.rule
		r.end()
		for _, other := range []*replica{all.all[0], all.all[2]} {
			other.fleet.Left(r.name, true)
		}
		all.members()
		for _, at := range addresses(10) {
			if known, _ := rule.Peek(at); known.Verdict != Up {
				t.Errorf("%s is %v while the replica stops", nameOf(at), known.Verdict)
			}
		}
		wait(10 * time.Second)
		for _, at := range addresses(10) {
			all.verdicts(at, Up)
			if n := probing(all, at); n != 2 {
				t.Errorf("%d replicas probe %s, want both", n, nameOf(at))
			}
		}
	})
}

// A replica that is cut from the others goes by its own probes.
func TestFleetAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 5)
		endpoints := addresses(30)
		for _, at := range endpoints {
			all.all[0].rule.Seen(at)
		}
		wait(2 * time.Minute)
		cut := all.all[2]
		cut.deaf = true
		all.members()
		cut.backends.set(endpoints[0], errRefused)
		wait(12 * time.Second)
		if known, _ := cut.rule.Peek(endpoints[0]); known.Verdict != Down || !cut.fleet.Alone() {
			t.Errorf("%v, alone: %v", known.Verdict, cut.fleet.Alone())
		}
		cut.deaf = false
		cut.backends.set(endpoints[0], nil)
		all.members()
		wait(10 * time.Second)
		all.verdicts(endpoints[0], Up)
	})
}

// A peer can aim nothing: what it names is probed only if a rule here allows it.
func TestFleetAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 2)
		strict := all.all[1]
		rule := strict.pools.Join(strict.check, allowing(a1))
		strict.rule.Leave()
		strict.rule = rule
		all.all[0].rule.Seen(a1)
		all.all[0].rule.Seen(a2)
		wait(time.Minute)
		if strict.backends.count(a1) == 0 || strict.backends.count(a2) != 0 {
			t.Errorf("%d probes of what is allowed, %d of what is not", strict.backends.count(a1), strict.backends.count(a2))
		}
		all.all[0].backends.set(a2, errRefused)
		wait(time.Minute)
		if known, _ := all.all[0].rule.Peek(a2); known.Verdict != Down {
			t.Errorf("%s is %s where it may be probed, want down: the only vote decides", a2, known.Verdict)
		}
		before := all.all[0].fleet.Snapshot()
		wait(time.Minute)
		after := all.all[0].fleet.Snapshot()
		if n := after.ReceivedBytes - before.ReceivedBytes; n > 12*200 {
			t.Errorf("%d bytes in a minute in which nothing changed", n)
		}
	})
}

// What a rule allows since a reload is asked of the others at once.
func TestFleetAllowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 2)
		strict := all.all[1]
		reload := func(sub Subscriber) {
			rule := strict.pools.Join(strict.check, sub)
			strict.rule.Leave()
			strict.rule = rule
		}
		reload(allowing(a1))
		all.set(a2, errRefused)
		all.all[0].rule.Seen(a1)
		all.all[0].rule.Seen(a2)
		wait(time.Minute)
		if _, known := strict.rule.Peek(a2); known {
			t.Fatal("it knows what it may not probe")
		}
		reload(in("example.org."))
		synctest.Wait()
		all.verdicts(a2, Down)
	})
}

// A replica takes as many endpoints from others as its own rules may have. It says when that is too
// few, and takes the others once there is room.
func TestFleetMaxEndpoints(t *testing.T) {
	logged := captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		all := newReplicasOf(t, 2, func(c *Check) { c.MaxEndpoints = 10 })
		seeing, other := all.all[0], all.all[1]
		rules := []*Subscription{seeing.rule}
		for i, zone := range []string{"example.net.eu.", "example.com.eu.uk."} {
			rules = append(rules, seeing.pools.Join(seeing.check, in(zone)))
			if i == 0 {
				defer other.pools.Join(other.check, in(zone)).Leave()
			}
		}
		for i, at := range addresses(30) {
			rules[i/10].Seen(at)
		}
		known := func() (n int) {
			for _, at := range addresses(30) {
				_, ok := other.rule.Peek(at)
				n += one(ok)
			}
			return n
		}
		wait(time.Minute)
		if n := known(); n != 20 {
			t.Errorf("two rules with max_endpoints 10 know %d endpoints of another replica, want 20", n)
		}
		rules[2].Leave()
		defer rules[1].Leave()
		for range 12 {
			wait(5 * time.Minute)
			for i, at := range addresses(20) {
				rules[i/10].Seen(at)
			}
		}
		for i, at := range addresses(20) {
			if _, ok := other.rule.Peek(at); !ok {
				t.Errorf("endpoint %d is not known, although there is room", i)
			}
		}
	})
	const want = "example.org.: health_check fake:1: max_endpoints 10 reached for each of 2 rules by endpoints of other replicas: this replica does not take part in the verdicts on further ones"
	if n := logged.count(want); n < 1 || n > 2 { // it may be full again while endpoints go
		t.Errorf("logged\n%s", logged)
	}
}

// A reload that changes max_endpoints and then fails leaves the replica in its fleet.
func TestFleetFailedReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 2)
		all.all[0].rule.Seen(a1)
		wait(10 * time.Second)
		changed := *all.all[0].check
		changed.MaxEndpoints++
		all.all[0].pools.Join(&changed, in("example.org.")).Leave()
		wait(20 * time.Second)
		if voters := all.all[1].rule.Voters(a1); len(voters) != 2 {
			t.Errorf("r1 hears votes %+v, want those of both replicas", voters)
		}
	})
}

// A replica that cannot probe some endpoints takes those votes back, and the others decide.
func TestFleetNoRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 2)
		for _, at := range addresses(5) {
			all.all[0].rule.Seen(at)
		}
		wait(10 * time.Second)
		at := addresses(5)[0]
		all.all[0].backends.set(at, fmt.Errorf("%w: no route", probe.ErrLocal))
		all.all[1].backends.set(at, errRefused)
		wait(time.Minute)
		all.verdicts(at, Down)
	})
}

// Endpoints that no replica sees any more are forgotten by all; one that a single one sees by none.
func TestFleetForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 3)
		all.all[0].rule.Seen(a1)
		all.all[0].rule.Seen(a2)
		for range 40 {
			wait(time.Minute)
			all.all[0].rule.Seen(a1)
		}
		for _, r := range all.all {
			if _, known := r.rule.Peek(a1); !known {
				t.Errorf("%s forgot what r0 sees", r.name)
			}
			if _, known := r.rule.Peek(a2); known {
				t.Errorf("%s knows what nobody sees", r.name)
			}
		}
	})
}

// Agents' advice is shared, and so is that an agent cannot be understood.
func TestFleetAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 3)
		all.all[0].rule.Seen(a1)
		wait(5 * time.Second)
		all.set(a1, fmt.Errorf("%w: no agent", probe.ErrNoSay))
		wait(12 * time.Second)
		for _, r := range all.all {
			if known, _ := r.rule.Peek(a1); known.Verdict != Unknown || !known.Advice.NoSay {
				t.Errorf("%s: %+v", r.name, known)
			}
		}
		all.set(a1, nil)
		wait(12 * time.Second)
		for _, r := range all.all {
			if known, _ := r.rule.Peek(a1); known.Verdict != Up || known.Advice.NoSay {
				t.Errorf("%s: %+v", r.name, known)
			}
		}
	})
}

// A replica whose probes fail locally leaves its share of them to the others.
func TestFleetLocalErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newReplicas(t, 4)
		endpoints := addresses(20)
		for _, at := range endpoints {
			all.all[0].rule.Seen(at)
			all.all[0].backends.set(at, fmt.Errorf("%w: too many open files", probe.ErrLocal))
		}
		wait(time.Minute)
		snapshot := all.all[1].fleet.Snapshot()
		if len(snapshot.Members) != 4 || !snapshot.Members[0].Doubts || snapshot.Members[1].Doubts {
			t.Errorf("%+v", snapshot.Members)
		}
		for _, at := range endpoints {
			all.verdicts(at, Up)
		}
		at := endpoints[0]
		for _, r := range all.all[1:] {
			r.backends.set(at, errors.New("gone"))
		}
		wait(8 * time.Second)
		all.verdicts(at, Down)
	})
}

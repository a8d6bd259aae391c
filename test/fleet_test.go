// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-f1518d44/balance/internal/testserver"

	"github.com/miekg/dns"
)

// replica is a CoreDNS process that is one of a fleet.
type replica struct {
	*testserver.Process
	c        *testserver.Client
	corefile string
	port     string // of DNS
	metrics  string // where they are scraped
	ready    string // where it says that it is ready
}

// startFleet starts replicas at 127.0.9.1 and so on, which check the farm's backends for
// www.example.org, with some more options. Each looks for the others at all of these addresses.
func startFleet(t *testing.T, f *farm, n int, options ...string) (replicas []*replica) {
	t.Helper()
	key := file(t, "fleet.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
	fleetPort := freePort(t)
	var join []string
	for i := range n {
		join = append(join, fmt.Sprintf("127.0.9.%d:%s", i+1, fleetPort))
	}
	db := zone(t, "example.org.", f.as("www"))
	for i := range n {
		port, metrics, ready := freePort(t), "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
		corefile := filepath.Join(t.TempDir(), "Corefile")
		text := fmt.Sprintf("example.org:%s {\nbind 127.0.0.1\nprometheus %s\nreload 2s 1s\nready %s\nfile %s\nbalance {\nttl 5 1\n%s\n%s\nfleet dns {\njoin %s\nlisten 127.0.9.%d:%s\nkey %s\nprobers 2\n}\n}\n}\n",
			port, metrics, ready, db, f.check("tcp", "", "watch www.example.org"), strings.Join(options, "\n"), strings.Join(join, " "), i+1, fleetPort, key)
		if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := &replica{corefile: corefile, port: port, metrics: metrics, ready: ready}
		r.start(t)
		replicas = append(replicas, r)
	}
	return replicas
}

// start starts the replica, and waits until it listens.
func (r *replica) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-conf", r.corefile)
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	r.Process = testserver.Start(t, cmd)
	eventually(t, "the server listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	r.c = dial(t, "udp", "127.0.0.1:"+r.port, "")
}

// isReady reports whether the replica says that it is ready.
func (r *replica) isReady() bool {
	reply, err := http.Get("http://" + r.ready + "/ready")
	if err != nil {
		return false
	}
	reply.Body.Close()
	return reply.StatusCode == http.StatusOK
}

// answers reports whether a replica answers with these members.
func (r *replica) answers(want ...string) bool {
	reply, err := r.c.TryAsk(query("www.example.org.", dns.TypeA))
	if err != nil {
		return false
	}
	got := members(reply, dns.TypeA)
	slices.Sort(got)
	return slices.Equal(got, want)
}

func allAnswer(replicas []*replica, want ...string) func() bool {
	return func() bool {
		return !slices.ContainsFunc(replicas, func(r *replica) bool { return !r.answers(want...) })
	}
}

// Three replicas agree on verdicts while two of them probe each backend: one that is killed is out
// of the answers of all. A reload keeps a replica in the fleet, and one that ends leaves it in
// order.
func TestFleet(t *testing.T) {
	onlyWhole(t, "it starts processes")
	var probed atomic.Int64
	f := newFarm(t, 3, counting(&probed))
	replicas := startFleet(t, f, 3)
	for i, r := range replicas {
		eventually(t, fmt.Sprintf("replica %d has joined", i), func() bool { return strings.Contains(r.Log.String(), "fleet dns: joined, ") })
	}
	eventually(t, "all answer with all backends", allAnswer(replicas, f.addrs...))
	for series, want := range map[string]float64{
		`fleet_members{fleet="dns"}`: 3, `fleet_alone{fleet="dns"}`: 0, `fleet_disagreements{zone="example.org."}`: 0,
		`fleet_votes{verdict="up",zone="example.org."}`: 6, `fleet_votes{verdict="down",zone="example.org."}`: 0,
		`fleet_messages_total{direction="lost",fleet="dns"}`: 0,
	} {
		eventually(t, fmt.Sprintf("%s is %v", series, want), func() bool { return counts(t, replicas[1].metrics)["coredns_balance_"+series] == want })
	}
	f.kill(1)
	eventually(t, "all know that a backend is dead", allAnswer(replicas, f.addrs[0], f.addrs[2]))
	f.revive(1)
	eventually(t, "all know that it is back", allAnswer(replicas, f.addrs...))

	content, err := os.ReadFile(replicas[0].corefile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(replicas[0].corefile, append([]byte("# changed\n"), content...), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a replica has reloaded", func() bool { return strings.Contains(replicas[0].Log.String(), "Reloading complete") })
	if log := replicas[0].Log.String(); strings.Count(log, " listens on ") != 1 || strings.Contains(log, "joins again") {
		t.Errorf("the reload took the replica out of its fleet:\n%s", log)
	}
	if err := replicas[2].End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	rest := replicas[:2]
	f.kill(0)
	eventually(t, "the others agree without the one that left", allAnswer(rest, f.addrs[1], f.addrs[2]))
	for _, r := range rest {
		if log := r.Log.String(); strings.Contains(log, "alone: ") || strings.Contains(log, "discarded") {
			t.Errorf("a replica says:\n%s", log)
		}
	}
}

// A replica that was killed serves the tier that the others serve, from its first answer on, until
// an operator has it go back. One that finds no other replica says so.
func TestFleetKeepsTier(t *testing.T) {
	onlyWhole(t, "it starts processes")
	f := newFarm(t, 3, listening)
	overrides := file(t, "overrides", "")
	replicas := startFleet(t, f, 2, "tier "+f.addrs[0], "failback manual", "overrides "+overrides+" 100ms")
	const untold = "no other replica of the fleet says which tiers serve"
	for i, r := range replicas {
		eventually(t, fmt.Sprintf("replica %d is ready", i), r.isReady)
	}
	eventually(t, "the first tier answers", allAnswer(replicas, f.addrs[0]))
	f.kill(0)
	eventually(t, "the second tier answers", allAnswer(replicas, f.addrs[1], f.addrs[2]))
	f.revive(0)
	eventually(t, "the first tier is up", func() bool {
		return counts(t, replicas[1].metrics)[`coredns_balance_failback_waiting{zone="example.org."}`] == 1
	})

	restarted := replicas[1]
	if err := restarted.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	restarted.start(t)
	eventually(t, "it is ready", restarted.isReady)
	for range 5 {
		if !restarted.answers(f.addrs[1], f.addrs[2]) {
			t.Error("it does not serve the tier that the other serves")
		}
	}
	log := restarted.Log.String()
	if strings.Contains(log, untold) || strings.Contains(log, "but not over a restart") {
		t.Errorf("it says that it begins at the first healthy tier:\n%s", log)
	}
	if !strings.Contains(log, "from which this one took it over") {
		t.Errorf("it does not say that it took the tier over:\n%s", log)
	}
	if err := os.WriteFile(overrides, []byte("www.example.org failback at "+time.Now().UTC().Format(time.RFC3339Nano)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first tier answers again", allAnswer(replicas, f.addrs[0]))

	for _, r := range replicas {
		if err := r.End(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	restarted.start(t)
	eventually(t, "it is ready", restarted.isReady)
	eventually(t, "it says that nobody has told which tiers serve", func() bool { return strings.Contains(restarted.Log.String(), untold) })
}

// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-f1518d44/balance/internal/testserver"

	"github.com/miekg/dns"
)

// replica is a CoreDNS process that is one of a fleet.
type replica struct {
	*testserver.Process
	c        *testserver.Client
	corefile string
	metrics  string // where they are scraped
}

// startFleet starts replicas at 127.0.9.1 and so on, which check the farm's backends for
// www.example.org. Each looks for the others at all of these addresses.
func startFleet(t *testing.T, f *farm, n int) (replicas []*replica) {
	t.Helper()
	key := file(t, "fleet.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
	fleetPort := freePort(t)
	var join []string
	for i := range n {
		join = append(join, fmt.Sprintf("127.0.9.%d:%s", i+1, fleetPort))
	}
	db := zone(t, "example.org.", f.as("www"))
	for i := range n {
		port, metrics := freePort(t), "127.0.0.1:"+freePort(t)
		corefile := filepath.Join(t.TempDir(), "Corefile")
		text := fmt.Sprintf("example.org:%s {\nbind 127.0.0.1\nprometheus %s\nreload 2s 1s\nfile %s\nbalance {\nttl 5 1\n%s\nfleet dns {\njoin %s\nlisten 127.0.9.%d:%s\nkey %s\nprobers 2\n}\n}\n}\n",
			port, metrics, db, f.check("tcp", "", "watch www.example.org"), strings.Join(join, " "), i+1, fleetPort, key)
		if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-conf", corefile)
		cmd.Env = append(os.Environ(), serverEnv+"=1")
		r := &replica{Process: testserver.Start(t, cmd), corefile: corefile, metrics: metrics}
		eventually(t, "the server listens", func() bool {
			c, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		r.c = dial(t, "udp", "127.0.0.1:"+port, "")
		replicas = append(replicas, r)
	}
	return replicas
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
	if log := replicas[0].Log.String(); strings.Count(log, " listens on port ") != 1 || strings.Contains(log, "joins again") {
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

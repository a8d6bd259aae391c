// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command benchload measures what load_weights does on real sockets. Three web servers with equal
// weights, of which one takes twice as long for a request, are asked by clients that resolve their
// name through caches. Two names of one CoreDNS are measured at the same time, each with servers
// and clients of its own: one with load_weights and one without. "make bench-load" runs it;
// bench/results/load.md has results.
//
//	main.go      the flags, CoreDNS, the table
//	backends.go  web servers that say how busy they are
//	clients.go   clients behind caches
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-f1518d44/balance/tools/internal/ask"
	"github.com/seed-f1518d44/balance/tools/internal/report"
)

func main() {
	coredns := flag.String("coredns", "coredns", "a CoreDNS with balance")
	settle := flag.Duration("settle", 40*time.Second, "time before it counts")
	length := flag.Duration("length", 60*time.Second, "time that counts")
	demand := flag.Float64("demand", 0.55, "requests, as a part of what all servers together can do")
	flag.Parse()
	if err := run(*coredns, *settle, *length, *demand); err != nil {
		log.Fatal(err)
	}
}

// group is what is measured of a name.
type group struct {
	name     string
	backends []*backend
	clients  *clients
}

func run(coredns string, settle, length time.Duration, demand float64) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	coredns, err := filepath.Abs(coredns)
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	groups := []*group{{name: "static.example.org."}, {name: "load.example.org."}}
	for i, g := range groups {
		for j, service := range []time.Duration{serviceTime, serviceTime, 2 * serviceTime} {
			b, err := startBackend(netip.AddrFrom4([4]byte{127, 2, byte(i), byte(1 + j)}), port, service)
			if err != nil {
				return err
			}
			defer b.stop()
			g.backends = append(g.backends, b)
		}
	}
	server, stop, err := startCoreDNS(ctx, coredns, port, groups)
	if err != nil {
		return err
	}
	defer stop()
	for _, g := range groups {
		g.clients = startClients(ctx, server, g.name, port, demand*capacity(g.backends))
	}
	time.Sleep(settle)
	for _, g := range groups {
		g.clients.reset()
		for _, b := range g.backends {
			b.reset()
		}
	}
	time.Sleep(length)
	fmt.Print(tableOf(groups))
	return nil
}

// capacity returns how many requests a second some servers can do.
func capacity(backends []*backend) (sum float64) {
	for _, b := range backends {
		sum += workers / b.service.Seconds()
	}
	return sum
}

// tableOf returns what was measured.
func tableOf(groups []*group) string {
	var t report.Table
	t.Head("weights", "requests:", "failed:", "p50:", "p99:", "busy, fast 1:", "fast 2:", "slow:", "requests of the slow one:")
	for _, g := range groups {
		took, failed := g.clients.results()
		slices.Sort(took)
		quantile := func(q float64) string {
			return report.Short(time.Duration(report.Quantile(took, q) * float64(time.Second)))
		}
		total, busy := 0, []string{}
		for _, b := range g.backends {
			n, utilisation := b.result()
			total += n
			busy = append(busy, fmt.Sprintf("%.0f %%", 100*utilisation))
		}
		slow, _ := g.backends[2].result()
		name, _, _ := strings.Cut(g.name, ".")
		t.Row(append(append([]string{name, strconv.Itoa(len(took)), strconv.Itoa(failed), quantile(0.5), quantile(0.99)}, busy...),
			fmt.Sprintf("%.0f %%", 100*float64(slow)/float64(max(total, 1))))...)
	}
	return t.String()
}

// startCoreDNS starts a server for the names of some groups.
func startCoreDNS(ctx context.Context, path string, port uint16, groups []*group) (address string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "benchload")
	if err != nil {
		return "", nil, err
	}
	dns, err := freePort()
	if err != nil {
		return "", nil, err
	}
	var zone, stanzas strings.Builder
	zone.WriteString("$ORIGIN example.org.\n@ 60 IN SOA ns hostmaster 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\n")
	for i, g := range groups {
		for _, b := range g.backends {
			fmt.Fprintf(&zone, "%s 60 IN A %s\n", g.name, b.addr)
		}
		option := ""
		if i == 1 {
			option = "\n        load_weights"
		}
		fmt.Fprintf(&stanzas, "    balance %s {\n        policy weighted\n        ttl %d%s\n        health_check http %d /healthz {\n"+
			"            allow 127.2.0.0/16\n            watch %s\n            interval 1s\n            timeout 900ms\n        }\n    }\n", g.name, ttl/time.Second, option, port, g.name)
	}
	corefile := filepath.Join(dir, "Corefile")
	content := fmt.Sprintf("example.org:%d {\n    bind 127.0.0.1\n%s    file zone\n}\n", dns, stanzas.String())
	for name, text := range map[string]string{"Corefile": content, "zone": zone.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", nil, err
		}
	}
	command := exec.CommandContext(ctx, path, "-conf", corefile) //nolint:gosec // what is measured
	command.Dir, command.Stderr = dir, os.Stderr
	if err := command.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		_ = os.RemoveAll(dir)
	}
	address = fmt.Sprintf("127.0.0.1:%d", dns)
	for range 100 {
		if _, _, err = ask.Addresses(ctx, address, groups[0].name, netip.Addr{}, time.Second); err == nil {
			return address, stop, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("no answer from CoreDNS: %w", err)
}

// freePort returns a port that nobody listens on.
func freePort() (uint16, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return 0, err
	}
	defer l.Close() //nolint:errcheck // nothing is lost
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

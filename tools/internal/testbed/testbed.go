// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package testbed runs replicas of a CoreDNS with balance, each a process on a host of its own, the
// backends that they probe, and a client beside each replica that asks it all the time. What goes
// wrong in between is up to the caller: processes, backends and the network can fail.
//
//	testbed.go   all of it, and how it starts
//	corefile.go  what a replica is told
//	replica.go   a replica: its process and what it says of itself
//	clock.go     a process whose clock is wrong
//	backend.go   a backend, and who probes it
//	client.go    asks a replica all the time
//	judge.go     compares the answers with what is true
//
// A host is a network namespace, and this process is the network (package netns). It takes root, or
// a kernel that lets users make namespaces, and /dev/net/tun.
package testbed

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed-f1518d44/balance/internal/testserver"
	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// Where everything is.
const (
	all         = "10.0.0.0/8"
	ofReplica   = "10.1.0.%d/32"
	ofStranger  = "10.3.0.1/32"
	ofBackends  = "10.2.0.0/16"
	backendPort = 8080
)

// Options are what a testbed is made of.
type Options struct {
	CoreDNS  string // the binary
	Dir      string // for files
	Replicas int
	Backends int
	PerName  int           // backends that a name has, one after the other; 0: all
	Often    int           // names that are asked for over and over, the first ones; 0: all
	Probe    string        // the kind of health check; "": http
	Check    string        // lines of its block beside `allow`
	Rule     string        // more lines of the stanza
	Fleet    string        // lines of the fleet's block beside `join` and `key`
	NoFleet  bool          // each replica is on its own
	Extra    int           // of the replicas, the last ones, that have no fleet
	Every    time.Duration // how often each replica is asked; 0: every 20 ms
}

// Bed is a testbed.
type Bed struct {
	Options
	Network  *netns.Network
	Replicas []*Replica
	Backends []*Backend
	Stranger *netns.Host // reaches the replicas, and is none

	backendHost *netns.Host
	hear        func(Answer)
	stop        context.CancelFunc
	clients     sync.WaitGroup
}

// New makes the hosts and starts the backends. hear is called with each answer of each replica, by
// one goroutine a replica.
func New(o Options, hear func(Answer)) (b *Bed, err error) {
	if o.PerName == 0 {
		o.PerName = o.Backends
	}
	if o.Every == 0 {
		o.Every = 20 * time.Millisecond
	}
	if o.CoreDNS, err = filepath.Abs(o.CoreDNS); err != nil {
		return nil, err
	}
	b = &Bed{Options: o, Network: netns.NewNetwork(netip.MustParsePrefix(all)), hear: hear, stop: func() {}}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.backendHost, err = b.Network.Add(netip.MustParsePrefix(ofBackends)); err != nil {
		return nil, err
	}
	if b.Stranger, err = b.Network.Add(netip.MustParsePrefix(ofStranger)); err != nil {
		return nil, err
	}
	for i := range o.Replicas {
		host, err := b.Network.Add(netip.MustParsePrefix(fmt.Sprintf(ofReplica, i+1)))
		if err != nil {
			return nil, err
		}
		b.Replicas = append(b.Replicas, newReplica(b, host, i))
	}
	b.Network.Start()
	return b, errors.Join(b.startBackends(), b.writeFiles())
}

// startBackends starts the backends. They are up.
func (b *Bed) startBackends() error {
	first := netip.MustParsePrefix(ofBackends).Addr().Next()
	for i := range b.Options.Backends {
		backend := &Backend{Number: i, addr: netip.AddrPortFrom(first, backendPort), bed: b}
		b.Backends = append(b.Backends, backend)
		first = first.Next()
		if err := backend.Revive(); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes what the replicas read: the zone and the key.
func (b *Bed) writeFiles() error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	var zone strings.Builder
	zone.WriteString("$ORIGIN example.org.\n$TTL 30\n@ IN SOA ns hostmaster 1 7200 3600 1209600 60\n@ IN NS ns\nns IN A 10.1.0.1\n")
	for i, backend := range b.Backends {
		fmt.Fprintf(&zone, "n%d IN A %s\n", i/b.PerName, backend.addr.Addr())
	}
	return errors.Join(
		os.WriteFile(b.path("key"), []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600),
		os.WriteFile(b.path("zone"), []byte(zone.String()), 0o600))
}

func (b *Bed) path(name string) string { return filepath.Join(b.Dir, name) }

// names returns how many names there are: n0.example.org. and so on.
func (b *Bed) names() int { return (len(b.Backends) + b.PerName - 1) / b.PerName }

// Start starts all replicas, and the clients once all answer.
func (b *Bed) Start() error {
	errs := make([]error, len(b.Replicas))
	var starting sync.WaitGroup
	for i, r := range b.Replicas {
		starting.Go(func() { errs[i] = r.Start() })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	for _, r := range b.Replicas {
		b.clients.Go(func() { (&client{replica: r, every: b.Every, hear: b.hear}).run(ctx) })
	}
	return nil
}

// Close ends everything.
func (b *Bed) Close() {
	b.stop()
	b.clients.Wait()
	for _, r := range b.Replicas {
		r.kill()
	}
	for _, backend := range b.Backends {
		backend.end()
	}
	b.Network.Close()
}

// BetweenBackends sets what is wrong between a replica and all backends.
func (b *Bed) BetweenBackends(r *Replica, f netns.Faults) {
	b.Network.Between(r.host, b.backendHost, f)
}

// BetweenReplicas sets what is wrong between each replica of one group and each of another.
func (b *Bed) BetweenReplicas(group, others []*Replica, f netns.Faults) {
	for _, r := range group {
		for _, other := range others {
			if r != other {
				b.Network.Between(r.host, other.host, f)
			}
		}
	}
}

// RunStranger runs a command on the stranger's host.
func (b *Bed) RunStranger(cmd *exec.Cmd) (p *testserver.Process, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = b.Stranger.Do(func() error {
		p, err = testserver.Run(cmd)
		return err
	})
	return p, err
}

// Key returns the file of the fleet's key.
func (b *Bed) Key() string { return b.path("key") }

// FleetBytes returns how many bytes a replica has sent to the others, with IP headers. All of it is
// the fleet's, because replicas send each other nothing else.
func (b *Bed) FleetBytes(from *Replica) (total uint64) {
	for _, to := range b.Replicas {
		total += b.Network.Bytes(from.host, to.host)
	}
	return total
}

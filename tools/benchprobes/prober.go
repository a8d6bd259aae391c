// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/coredns/caddy"
	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/tools/internal/fakes"
	"github.com/seed-f1518d44/balance/tools/internal/netns"
)

// Measurement is the result of a scenario.
type Measurement struct {
	Scenario Scenario

	Rounds   []Round
	Probes   Probes  // made in the rounds; the endpoints at their end
	Gaps     Gaps    // of the rounds, as the backends saw it
	BackendS float64 // processor seconds of the backends
	BareS    float64 // processor seconds of a bare connect and close; 0: not measured

	HeapBefore, HeapAfter              int // at rest, without and with health checks
	PeakGoroutines, GoroutinesBefore   int
	PeakDescriptors, DescriptorsBefore int

	GoroutinesLeft, DescriptorsLeft, ConnectionsLeft int // when all health checks were gone
	// Connections in TIME-WAIT, because the prober closed first.
	WaitingLeft int
	// Connections that the backends closed first.
	BackendsLeft int

	QueriesBefore, QueriesProbing, QueriesAfter Latencies
}

// Round is a part of the measured time.
type Round struct {
	Cores           float64 // processor seconds per second
	ProbesPerSecond float64
	Heap            int // bytes in use at its end
}

// prober is the process that is measured.
type prober struct {
	Scenario
	*Measurement

	backends, asker *helper
	port            int // of the backends
	server          *caddy.Instance
}

// playProber measures the scenario that the environment holds and writes the result to standard
// output.
func playProber() error {
	p := &prober{Measurement: new(Measurement)}
	if err := json.Unmarshal([]byte(os.Getenv(scenarioVariable)), &p.Scenario); err != nil {
		return err
	}
	p.Measurement.Scenario = p.Scenario
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := p.start(ctx); err != nil {
		return err
	}
	defer p.asker.end()
	defer p.backends.end()
	for _, step := range []func() error{p.without, p.learn, p.rounds, p.bare, p.with, p.after, p.stop} {
		if err := step(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(p.Measurement)
}

// start starts everything but the health checks.
func (p *prober) start(ctx context.Context) (err error) {
	if err := netns.LoopbackUp(); err != nil {
		return err
	}
	// As many connections may wait for the backends as can be under way.
	if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("65535"), 0o600); err != nil {
		return err
	}
	if err := installPlugins(); err != nil {
		return err
	}
	if p.backends, err = startHelper(ctx, "backends"); err != nil {
		return err
	}
	if p.asker, err = startHelper(ctx, "asker"); err != nil {
		return err
	}
	if err := p.backends.call("Start", BackendOrder{p.Check, p.Silent, p.Hold, p.Endpoints, p.Hostile}, &p.port); err != nil {
		return err
	}
	p.server, err = caddy.Start(corefileWith(""))
	return err
}

func (p *prober) questions() Questions {
	return Questions{dnsServer, p.Endpoints / RecordsPerName, p.QueryRate, p.QueryTime}
}

// without measures the server before it has health checks. It asks for all names, so that what
// balance remembers of them without checks does not count as the cost of health checks.
func (p *prober) without() error {
	if err := p.asker.call("AskAll", p.questions(), &struct{}{}); err != nil {
		return err
	}
	if err := p.asker.call("Ask", p.questions(), &p.QueriesBefore); err != nil {
		return err
	}
	p.HeapBefore, p.GoroutinesBefore, p.DescriptorsBefore = heap(), runtime.NumGoroutine(), descriptors()
	return nil
}

// learn switches health checks on and lets the server learn the endpoints from what it answers.
func (p *prober) learn() (err error) {
	if p.server, err = p.server.Restart(corefileWith(p.healthCheck(p.port))); err != nil {
		return err
	}
	if err := p.asker.call("AskAll", p.questions(), &struct{}{}); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		now, err := readMetrics()
		if err != nil {
			return err
		}
		if now.Up+now.Down == p.Endpoints {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d endpoints were probed in five minutes", now.Up+now.Down, p.Endpoints)
		}
	}
	time.Sleep(p.Warmup)
	return nil
}

// rounds measures the probing alone.
func (p *prober) rounds() error {
	before, err := readMetrics()
	if err != nil {
		return err
	}
	var idle Gaps
	if err := errors.Join(p.backends.call("Forget", struct{}{}, &struct{}{}), p.backends.call("Report", time.Hour, &idle)); err != nil {
		return err
	}
	top := watchPeaks()
	endProfile, err := startProfile(p.CPUProfile)
	if err != nil {
		return err
	}
	var last Probes
	for range p.Measurement.Scenario.Rounds {
		counted := time.Now() // collecting counts probes first, then goes through all endpoints
		first, err := readMetrics()
		if err != nil {
			return err
		}
		start, spent := time.Now(), processor()
		time.Sleep(p.RoundTime)
		round := Round{Cores: (processor() - spent).Seconds() / time.Since(start).Seconds()}
		between := time.Since(counted).Seconds()
		if last, err = readMetrics(); err != nil {
			return err
		}
		round.ProbesPerSecond = float64(last.Total()-first.Total()) / between
		// Nothing is in a hurry then. At other times, collecting all garbage at once would delay
		// probes.
		if p.Silent {
			round.Heap = heap()
		}
		p.Measurement.Rounds = append(p.Measurement.Rounds, round)
	}
	endProfile()
	top.end()
	p.PeakGoroutines, p.PeakDescriptors = top.goroutines, top.descriptors
	p.Probes = last
	p.Probes.Passed -= before.Passed
	p.Probes.Failed -= before.Failed
	p.Probes.Faults -= before.Faults
	p.Probes.WentDown -= before.WentDown
	if err := p.backends.call("Report", p.Interval+p.Interval/10, &p.Gaps); err != nil {
		return err
	}
	p.BackendS = (p.Gaps.Processor - idle.Processor).Seconds()
	return nil
}

// bare measures what the kernel alone needs for a connection: a loop of connect and close, to
// compare the cost of a tcp probe with.
func (p *prober) bare() error {
	if p.Check != "tcp" || p.Silent || p.Hold {
		return nil
	}
	const connections = 10_000
	before := processor()
	for i := range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: fakes.Address(i % p.Endpoints).As4(), Port: p.port})
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return err
		}
	}
	p.BareS = (processor() - before).Seconds() / connections
	return nil
}

// startProfile profiles the processor time into a file, if it has a name, until the result is
// called.
func startProfile(name string) (end func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name) //nolint:gosec // the user's own
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// with measures queries while endpoints are probed, and the heap at rest.
func (p *prober) with() error {
	if err := p.asker.call("Ask", p.questions(), &p.QueriesProbing); err != nil {
		return err
	}
	p.HeapAfter = heap()
	if p.HeapProfile == "" {
		return nil
	}
	f, err := os.Create(p.HeapProfile)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}

// after measures the server once its health checks are gone, and what they left behind.
func (p *prober) after() (err error) {
	if p.server, err = p.server.Restart(corefileWith("")); err != nil {
		return err
	}
	if err := p.asker.call("Ask", p.questions(), &p.QueriesAfter); err != nil {
		return err
	}
	p.GoroutinesLeft = runtime.NumGoroutine() - p.GoroutinesBefore
	p.DescriptorsLeft = descriptors() - p.DescriptorsBefore
	p.ConnectionsLeft, p.WaitingLeft, p.BackendsLeft = connections(p.port)
	if p.Silent { // the backends' own
		p.ConnectionsLeft -= min(p.ConnectionsLeft, clogged)
	}
	return nil
}

func (p *prober) stop() error {
	p.server.ShutdownCallbacks()
	return p.server.Stop()
}

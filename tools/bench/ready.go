// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// startServer starts a server and returns once it answers the names of every work correctly.
func (s *suite) startServer(ctx context.Context, u unit) (*site, *process, error) {
	const portsOfSite = 5
	ports, err := freePorts(portsOfSite)
	if err != nil {
		return nil, nil, err
	}
	at := &site{
		server: u.server, names: zone(inZone(s.works, u.full)), environment: u.server.Environment, coredns: s.CoreDNS, backends: s.backends,
		port: ports[0], metrics: ports[1], health: ports[2], ready: ports[3], pprof: ports[4], profiled: s.Profile != "",
	}
	if u.server.PGO {
		at.coredns = s.CoreDNSPGO
	}
	if at.dir, err = os.MkdirTemp(s.dir, "site"); err != nil {
		return nil, nil, err
	}
	argv, err := u.server.prepare(at)
	if err != nil {
		return nil, nil, err
	}
	p, err := start(argv, at.dir, at.environment, s.cpus.server, s.cpus.client)
	if err != nil {
		return nil, nil, err
	}
	if err := s.makeReady(ctx, at, p, u); err != nil {
		p.stop()
		return nil, nil, fmt.Errorf("%w; it printed: %s", err, tail(p.log.String()))
	}
	return at, p, nil
}

// readyWithin is how long a server may take until it answers correctly.
const readyWithin = 60 * time.Second

// makeReady waits until a server answers, fills its caches, has its health checks find all up, and
// verifies it.
func (s *suite) makeReady(ctx context.Context, at *site, p *process, u unit) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	first := u.works[0].names()[0]
	err := until(ctx, p, 20*time.Millisecond, func() error {
		_, err := lead(ctx, at.port, "127.0.0.1", first, at.server.recordsOf(u.works[0]))
		return err
	})
	if err != nil {
		return err
	}
	warm := u.works
	if at.server.Probes { // of all names
		warm = inZone(s.works, u.full)
	}
	if err := s.warmUp(ctx, at, warm); err != nil {
		return err
	}
	if at.server.Probes {
		err := awaitVerdicts(ctx, at, p, s.Quick)
		if err == nil {
			err = s.warmUp(ctx, at, warm) // what was worked out before there were verdicts is void
		}
		if err != nil {
			return err
		}
	}
	for _, w := range u.works {
		err := verify(ctx, at, w)
		if err != nil && at.server.Settles {
			err = until(ctx, p, 200*time.Millisecond, func() error { return verify(ctx, at, w) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// until tries, with pauses, until there is no error, the process has ended or ctx is done. It
// returns the last error.
func until(ctx context.Context, p *process, pause time.Duration, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ended := p.ended(); ended != nil {
			return ended
		}
		if wait(ctx, pause) != nil {
			return err
		}
	}
}

// warmUp asks for every name of works.
func (s *suite) warmUp(ctx context.Context, at *site, works []Work) error {
	for _, w := range works {
		if err := s.askAll(ctx, at, w); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) askAll(ctx context.Context, at *site, w Work) error {
	file := filepath.Join(at.dir, "queries."+w.Name)
	if err := os.WriteFile(file, []byte(w.queryFile()), 0o600); err != nil { //nolint:gosec // in our own directory
		return err
	}
	l := s.load(at, w)
	if !w.many() {
		l.seconds = 0.1
	}
	o, err := l.run(ctx, at.dir)
	if o != nil && o.Completed > 0 {
		return nil // caches are full; what is wrong with the answers shows when they are verified
	}
	return err
}

func (s *suite) load(at *site, w Work) load {
	return load{port: at.port, queries: filepath.Join(at.dir, "queries."+w.Name), clients: s.Clients, outstanding: s.Outstanding}
}

// awaitVerdicts waits until health checks have found every address up, and, unless quick, until
// they are spread over their interval.
func awaitVerdicts(ctx context.Context, at *site, p *process, quick bool) error {
	addresses := make(map[string]bool)
	for _, n := range at.names {
		for _, a := range n.addrs {
			addresses[a.String()] = true
		}
	}
	// A scrape of 10,000 endpoints takes a while.
	err := until(ctx, p, 500*time.Millisecond, func() error {
		up, err := endpointsUp(ctx, at.metrics)
		if err == nil && up != len(addresses) {
			err = fmt.Errorf("%d endpoints are up, want %d", up, len(addresses))
		}
		return err
	})
	if err != nil || !at.server.Full || quick {
		return err
	}
	return wait(ctx, probeInterval*time.Second)
}

// endpointsUp reads how many endpoints are up from the metrics of a CoreDNS.
func endpointsUp(ctx context.Context, port int) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() //nolint:errcheck // only read
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return 0, err
	}
	up := 0
	for _, m := range families["coredns_balance_endpoints"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "state" && l.GetValue() == "up" {
				up += int(m.GetGauge().GetValue())
			}
		}
	}
	return up, nil
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// floodRate is how many queries a second a flood sends, beside the load.
const floodRate = 400

// floodFaults are those that clients cause.
func floodFaults() []fault {
	name := func(r *rand.Rand) string { return strconv.FormatUint(r.Uint64(), 16) }
	return []fault{
		flood("random names that exist", func(r *rand.Rand) *dns.Msg { return new(dns.Msg).SetQuestion(name(r)+floodZone, dns.TypeA) }),
		flood("random names that do not", func(r *rand.Rand) *dns.Msg {
			return new(dns.Msg).SetQuestion(name(r)+[]string{".file.test.", ".up.test.", ".tcp.pool.test.", ".weighted.file.test."}[r.IntN(4)], dns.TypeA)
		}),
		flood("random types", func(r *rand.Rand) *dns.Msg {
			names := []string{"flood.file.test.", "crowd.up.test.", "crowd.tcp.pool.test.", "crowd.targets.pool.test.", "flood.signed.test.", "flood.observed.pool.test."}
			m := new(dns.Msg).SetQuestion(names[r.IntN(len(names))], uint16(2+r.IntN(1<<16-2)))
			return m.SetEdns0(1232, r.IntN(2) == 0)
		}),
		flood("random classes and opcodes", func(r *rand.Rand) *dns.Msg {
			m := new(dns.Msg).SetQuestion("crowd.file.test.", dns.TypeA)
			m.Question[0].Qclass, m.Opcode = uint16(2+r.IntN(200)), []int{dns.OpcodeQuery, dns.OpcodeStatus, 7}[r.IntN(3)]
			return m
		}),
		{name: "flood: packets that are no queries", lane: laneFlood, hold: 3 * time.Second, inject: floodOfNoise},
		{name: "flood: connections that say nothing", lane: laneFlood, hold: 3 * time.Second, inject: idlers},
	}
}

// flood is a fault of many queries. Each must get an answer, whatever it is.
func flood(name string, next func(r *rand.Rand) *dns.Msg) fault {
	return fault{name: "flood: " + name, lane: laneFlood, hold: 4 * time.Second, inject: func(ctx context.Context, w *world, r *rand.Rand) (func() error, error) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		const clients = 8
		for range clients {
			a := &asker{w: w, network: "udp", rate: floodRate / clients}
			own := rand.New(rand.NewPCG(r.Uint64(), 0)) //nolint:gosec // no secret
			wg.Go(func() { a.flood(ctx, func() *dns.Msg { return next(own) }) })
		}
		return func() error { cancel(); wg.Wait(); return nil }, nil
	}}
}

// flood asks until ctx is done.
func (a *asker) flood(ctx context.Context, next func() *dns.Msg) {
	defer a.hangUp()
	for pause(ctx, time.Second/time.Duration(a.rate)) == nil {
		q, from := next(), time.Now()
		reply, err := a.exchange(q)
		set := &rrset{name: q.Question[0].Name, qtype: q.Question[0].Qtype}
		set.forwarded = zoneOf(set.name) == "up.test"
		if err != nil {
			a.w.lost(set, "udp", from, time.Now(), err)
			continue
		}
		a.w.answered(set, "udp", false)
		if reply.Id != q.Id || !reply.Response {
			a.w.violation("a wrong answer", "to %v: %v", q, reply)
		}
	}
}

// floodOfNoise sends packets that are no queries. They need no answers.
func floodOfNoise(ctx context.Context, _ *world, r *rand.Rand) (end func() error, err error) {
	c, err := net.Dial("udp", dnsAddress)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	seed := r.Uint64()
	wg.Go(func() {
		for i := uint64(0); pause(ctx, time.Second/floodRate) == nil; i++ {
			c.Write(noise(seed+i, 1+int((seed+i)%600))) //nolint:errcheck,gosec // nobody may listen
		}
	})
	return func() error { cancel(); wg.Wait(); return c.Close() }, nil
}

// idlers open connections, some of them for TLS, and say nothing, or half of a query.
func idlers(_ context.Context, _ *world, r *rand.Rand) (end func() error, err error) {
	var conns []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", []string{dnsAddress, tlsAddress}[r.IntN(2)])
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
		if r.IntN(2) == 0 {
			write(c, "\x00\x20half")
		}
	}
	return func() error {
		for _, c := range conns {
			c.Close() //nolint:errcheck,gosec // done with
		}
		return nil
	}, nil
}

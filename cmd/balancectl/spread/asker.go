// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// asker asks one question again and again, each time with a socket of its own, as clients do. Safe
// for concurrent use.
type asker struct {
	o     *options
	turns atomic.Uint64 // questions that were begun
}

func newAsker(o *options) *asker { return &asker{o: o} }

// reply is what became of a question.
type reply struct {
	message   *dns.Msg // nil if there is none
	lost      bool     // no answer came in time
	problem   error    // why there is none otherwise
	truncated bool     // the answer over UDP was, so it was asked again over TCP
	took      time.Duration
}

// askAll asks so many times, some at a time, and hands each reply on, one after the other. Where
// ctx is done it asks no more.
func (a *asker) askAll(ctx context.Context, count int, take func(reply)) {
	replies := make(chan reply)
	left := atomic.Int64{}
	left.Store(int64(count))
	tickets, stop := a.tickets(ctx)
	defer stop()
	var workers sync.WaitGroup
	for range min(a.o.workers, count) {
		workers.Go(func() {
			for left.Add(-1) >= 0 && tickets() {
				if r := a.ask(ctx, a.turns.Add(1)-1); r.message != nil || ctx.Err() == nil {
					replies <- r
				}
			}
		})
	}
	go func() {
		workers.Wait()
		close(replies)
	}()
	for r := range replies {
		take(r)
	}
}

// tickets returns a function that waits until the next question may be asked, and is false if
// ctx is done instead.
func (a *asker) tickets(ctx context.Context) (wait func() bool, stop func()) {
	if a.o.rate == 0 {
		return func() bool { return ctx.Err() == nil }, func() {}
	}
	ticks := time.NewTicker(max(1, time.Duration(float64(time.Second)/a.o.rate)))
	return func() bool {
		select {
		case <-ticks.C:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		}
	}, ticks.Stop
}

// ask asks once, over TCP too if the answer over UDP was truncated.
func (a *asker) ask(ctx context.Context, turn uint64) reply {
	network := a.o.over
	if network == "both" {
		network = [...]string{"udp", "tcp"}[turn%2]
	}
	start := time.Now()
	r := a.exchange(ctx, network, turn)
	if r.message != nil && r.message.Truncated && network == "udp" {
		r = a.exchange(ctx, "tcp", turn)
		r.truncated = true
	}
	r.took = time.Since(start)
	return r
}

// exchange sends a question and waits for the answer to it.
func (a *asker) exchange(ctx context.Context, network string, turn uint64) reply {
	client := &dns.Client{Net: network, Timeout: a.o.timeout, Dialer: &net.Dialer{Timeout: a.o.timeout}}
	if len(a.o.sources) > 0 {
		client.Dialer.LocalAddr = local(network, a.o.sources.at(turn).Addr())
	}
	q := a.query(turn)
	message, _, err := client.ExchangeContext(ctx, q, a.o.server)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return reply{lost: true}
	case err != nil:
		return reply{problem: plain(err)}
	case len(message.Question) != 1 || dns.CanonicalName(message.Question[0].Name) != dns.CanonicalName(a.o.name):
		return reply{problem: errors.New("the answer is to another question")}
	}
	return reply{message: message}
}

// query returns the question, with the client subnet whose turn it is.
func (a *asker) query(turn uint64) *dns.Msg {
	q := new(dns.Msg).SetQuestion(a.o.name, a.o.qtype)
	q.SetEdns0(1232, false) // bytes that fit into any packet (DNS flag day 2020)
	if len(a.o.subnets) > 0 {
		subnet := a.o.subnets.at(turn)
		option := &dns.EDNS0_SUBNET{
			Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(subnet.Bits()),
			Address: subnet.Addr().AsSlice(),
		}
		if subnet.Addr().Is6() {
			option.Family = 2
		}
		opt := q.IsEdns0()
		opt.Option = append(opt.Option, option)
	}
	return q
}

// local returns an address to ask from.
func local(network string, addr netip.Addr) net.Addr {
	if network == "tcp" {
		return &net.TCPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}
	}
	return &net.UDPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}
}

// plain returns an error without the addresses and calls in it, which differ from one question to
// the next.
func plain(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/seed-f1518d44/balance/tools/internal/ask"
)

// Asker is a DNS client.
type Asker struct{}

// Questions says what to ask, and how.
type Questions struct {
	Server   string // over UDP
	Names    int    // different ones
	Rate     int    // per second
	Duration time.Duration
}

// Latencies are those of the answers.
type Latencies struct {
	Asked, Lost   int
	P50, P99, Max time.Duration
}

// AskAll asks for every name once, and again if no answer comes.
func (Asker) AskAll(q Questions, _ *struct{}) error {
	for i := range q.Names {
		if err := askOnce(q.Server, i); err != nil {
			return fmt.Errorf("%s: %w", nameOf(i), err)
		}
	}
	return nil
}

func dial(server string) (*net.UDPConn, error) {
	to, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		return nil, err
	}
	return net.DialUDP("udp4", nil, to)
}

// askOnce asks for a name until an answer comes.
func askOnce(server string, name int) error {
	var problem error
	for range 20 {
		if _, _, problem = ask.Addresses(context.Background(), server, nameOf(name), netip.Addr{}, time.Second); problem == nil {
			return nil
		}
	}
	return problem
}

func question(name int, id uint16) ([]byte, error) {
	m := new(dns.Msg)
	m.SetQuestion(nameOf(name), dns.TypeA)
	m.Id = id
	m.SetEdns0(4096, false)
	return m.Pack()
}

// Ask asks at a constant rate, whether or not answers come. The kernel stamps the time of an
// answer, so that the time that this process waits for a processor does not count.
func (Asker) Ask(q Questions, out *Latencies) error {
	conn, err := dial(q.Server)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	if err := stampArrivals(conn); err != nil {
		return err
	}
	var sent [1 << 16]atomic.Int64 // by ID; 0: none waits
	took := make(chan []time.Duration)
	go func() { took <- receive(conn, &sent) }()

	if out.Asked, err = send(conn, q, &sent); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // for stragglers
	all := <-took
	slices.Sort(all)
	out.Lost = out.Asked - len(all)
	if len(all) > 0 {
		out.P50, out.P99, out.Max = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
	return nil
}

// stampArrivals makes the kernel stamp packets with the time of their arrival.
func stampArrivals(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	return errors.Join(err, failed)
}

// send asks for one name after another.
func send(conn *net.UDPConn, q Questions, sent *[1 << 16]atomic.Int64) (asked int, err error) {
	packed := make([][]byte, q.Names)
	for i := range packed {
		if packed[i], err = question(i, 0); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for asked = 0; ; asked++ {
		due := time.Duration(asked) * time.Second / time.Duration(q.Rate)
		if due >= q.Duration {
			return asked, nil
		}
		time.Sleep(time.Until(start.Add(due)))
		id := uint16(asked)
		m := packed[asked*7919%len(packed)]
		binary.BigEndian.PutUint16(m, id)
		sent[id].Store(time.Now().UnixNano())
		if _, err := conn.Write(m); err != nil {
			return asked, err
		}
	}
}

// receive returns how long the answers took.
func receive(conn *net.UDPConn, sent *[1 << 16]atomic.Int64) (took []time.Duration) {
	packet, control := make([]byte, dns.MaxMsgSize), make([]byte, 512)
	for {
		n, n2, _, _, err := conn.ReadMsgUDP(packet, control)
		if err != nil {
			return took
		}
		at := arrival(control[:n2])
		if n < 12 || at == 0 {
			continue
		}
		if from := sent[binary.BigEndian.Uint16(packet)].Swap(0); from != 0 {
			took = append(took, time.Duration(at-from))
		}
	}
}

// arrival reads a packet's time, in nanoseconds since 1970, 0 if there is none.
func arrival(control []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds, rest := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return int64(seconds)*1e9 + int64(rest)
		}
	}
	return 0
}

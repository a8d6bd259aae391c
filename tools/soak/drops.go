// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// droppedPackets returns how many packets the kernel has thrown away because the receive buffer of
// a UDP socket of this network namespace was full. The socket stays the same through reloads.
func droppedPackets(addr netip.AddrPort) (n int, err error) {
	table, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		return 0, err
	}
	ip := addr.Addr().As4()
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], addr.Port())
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != local {
			continue
		}
		drops, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			return 0, err
		}
		n += drops
	}
	return n, nil
}

// watchDrops keeps w.drops true until ctx is done.
func (w *world) watchDrops(ctx context.Context) {
	for last := 0; pause(ctx, 200*time.Millisecond) == nil; {
		n, err := droppedPackets(netip.MustParseAddrPort(dnsAddress))
		if err != nil {
			w.violation("the soak itself fails", "%v", err)
			return
		}
		if n > last { // the table is not read at once, and may lack a socket
			fmt.Fprintf(w.progress, "%6.1fs the kernel dropped %d packets to the server; late by %s; now: %s\n", //nolint:errcheck // for people
				time.Since(w.began).Seconds(), n-last, w.busy()/lateSteps, w.count.activeText())
			w.drops.set(n)
			last = n
		}
	}
}

// dropped reports whether the kernel dropped packets to the server.
func (w *world) dropped(from, to time.Time) bool {
	const look = time.Second // between what happened and when it was seen, at least
	return len(w.drops.during(from, to.Add(look))) > 1
}

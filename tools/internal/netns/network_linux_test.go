// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// insideVariable is set in the environment of the process that has namespaces of its own.
const insideVariable = "NETNS_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		os.Exit(m.Run())
	}
	status, err := Again(context.Background(), insideVariable, 0, os.Args[1:]...)
	if err != nil {
		fmt.Println("not tested:", err)
	}
	os.Exit(status)
}

// Packets travel between hosts, and everything that can go wrong with them does.
func TestNetwork(t *testing.T) {
	n := NewNetwork(netip.MustParsePrefix("10.0.0.0/8"))
	near, err := n.Add(netip.MustParsePrefix("10.1.0.1/32"))
	if err != nil {
		t.Skip(err)
	}
	far, err := n.Add(netip.MustParsePrefix("10.2.0.1/16"))
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	defer n.Close()
	const target = "10.2.3.4:7"
	if err := far.Do(func() error { return echo(t, target) }); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		faults   Faults
		swallow  bool
		replies  bool
		atLeast  time.Duration
		attempts int
	}{
		{"good", Faults{}, false, true, 0, 1},
		{"cut", Faults{Cut: true}, false, false, 0, 1},
		{"swallowed", Faults{}, true, false, 0, 1},
		{"delayed", Faults{Delay: 50 * time.Millisecond}, false, true, 100 * time.Millisecond, 1},
		{"all lost", Faults{Loss: 1}, false, false, 0, 1},
		{"a fifth lost", Faults{Loss: 0.2}, false, true, 0, 50},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			n.Between(near, far, tc.faults)
			if tc.swallow {
				n.Swallow(netip.MustParseAddr("10.2.3.4"))
				defer n.Restore(netip.MustParseAddr("10.2.3.4"))
			}
			before, began := n.Bytes(near, far), time.Now()
			replied := false
			for range tc.attempts {
				replied = replied || ask(t, near, target)
			}
			if replied != tc.replies || time.Since(began) < tc.atLeast {
				t.Errorf("a reply: %v after %s, want %v after at least %s", replied, time.Since(began), tc.replies, tc.atLeast)
			}
			if counted := n.Bytes(near, far) > before; counted != tc.replies {
				t.Errorf("packets were counted: %v, want %v", counted, tc.replies)
			}
		})
	}
}

// echo sends back what comes to an address until the test ends.
func echo(t *testing.T, addr string) error {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			size, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:size], from)
		}
	}()
	return nil
}

// ask reports whether a packet that a host sends comes back.
func ask(t *testing.T, from *Host, addr string) bool {
	t.Helper()
	var c net.Conn
	err := from.Do(func() (err error) {
		c, err = net.Dial("udp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err = c.Read(make([]byte, 100))
	return err == nil
}

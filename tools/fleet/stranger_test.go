// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fleet

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/seed-f1518d44/balance/internal/fleet"
	"github.com/seed-f1518d44/balance/internal/fleet/gossip"
	"github.com/seed-f1518d44/balance/internal/testserver"
)

// babble sends random bytes to all replicas, over UDP and TCP, until the result is called.
func (b *bed) babble() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var babblers sync.WaitGroup
	for _, r := range b.Replicas {
		for _, network := range []string{"udp", "tcp"} {
			babblers.Go(func() {
				for ctx.Err() == nil {
					b.say(network, r.Host().Addr)
					time.Sleep(5 * time.Millisecond) // a few hundred a second
				}
			})
		}
	}
	return func() { cancel(); babblers.Wait() }
}

// say sends random bytes to the address of a replica.
func (b *bed) say(network string, addr netip.Addr) {
	var c net.Conn
	err := b.Stranger.Do(func() (err error) {
		c, err = net.DialTimeout(network, netip.AddrPortFrom(addr, 7946).String(), time.Second)
		return err
	})
	if err != nil {
		return
	}
	_, _ = c.Write(noise(1 + rand.IntN(1200)))
	_ = c.Close()
}

func noise(n int) []byte {
	bytes := make([]byte, n)
	for i := range bytes {
		bytes[i] = byte(rand.Uint32())
	}
	return bytes
}

// peerVariable is set in the environment of a process that is a peer, to the address that it joins.
// keyVariable is set to the file with its key.
const (
	peerVariable = "FLEET_TEST_PEER"
	keyVariable  = "FLEET_TEST_KEY"
)

// startPeer starts a member of the fleet that has its key and sends nonsense.
func (b *bed) startPeer() *testserver.Process {
	b.t.Helper()
	self, err := os.Executable()
	b.must(err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), peerVariable+"="+b.Replicas[0].Host().Addr.String(), keyVariable+"="+b.Key())
	process, err := b.RunStranger(cmd)
	b.must(err)
	testserver.Eventually(b.t, "the peer has joined", func() bool { return strings.Contains(process.Log.String(), "joined") })
	return process
}

// bePeer is such a peer, until it is killed.
func bePeer() error {
	content, err := os.ReadFile(os.Getenv(keyVariable))
	if err != nil {
		return err
	}
	keys, err := gossip.ParseKeys(content)
	if err != nil {
		return err
	}
	carrier, err := gossip.Listen(gossip.Options{
		Fleet: "test", Replica: "peer", Versions: fleet.Understood, Keys: keys, Log: printer{},
		Join: []gossip.Peer{{Host: os.Getenv(peerVariable), Port: gossip.DefaultPort}},
	})
	if err != nil {
		return err
	}
	p := &peer{heard: make(chan []byte, 100)}
	carrier.Start(p)
	for message := range p.heard {
		for _, wrong := range distorted(message) {
			carrier.TellAll(wrong)
		}
	}
	return nil
}

// distorted returns nonsense: random bytes, parts of a valid message, and that message in unknown
// versions.
func distorted(message []byte) [][]byte {
	older, newer := bytes.Clone(message), bytes.Clone(message)
	older[0], newer[0] = 0, fleet.Understood.Highest+1
	return [][]byte{noise(1 + rand.IntN(1000)), message[:rand.IntN(len(message))], older, newer}
}

// peer listens, and answers with nonsense if it is asked for its state.
type peer struct{ heard chan []byte }

func (p *peer) Hear(message []byte) {
	if len(message) == 0 {
		return
	}
	select {
	case p.heard <- bytes.Clone(message):
	default:
	}
}

func (p *peer) Members(live []fleet.Replica) {
	if len(live) > 1 {
		fmt.Println("joined")
	}
}
func (p *peer) Left(string, bool)  {}
func (p *peer) Lost(int)           {}
func (p *peer) State(bool) []byte  { return noise(10_000) }
func (p *peer) Merge([]byte, bool) {}

// printer prints what is logged.
type printer struct{}

func (printer) Debugf(string, ...any)                 {}
func (printer) Infof(format string, values ...any)    { fmt.Printf(format+"\n", values...) }
func (printer) Warningf(format string, values ...any) { fmt.Printf(format+"\n", values...) }
func (printer) Errorf(format string, values ...any)   { fmt.Printf(format+"\n", values...) }

// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Host is a network namespace that has a loopback interface and a device that leads to a Network.
// Safe for concurrent use.
type Host struct {
	Addr netip.Addr // the first one

	addrs  netip.Prefix // all of them
	number int          // in the network
	tun    *os.File
	jobs   chan func()
}

// newHost makes a host that has all addresses of a prefix, which is a part of the network's.
func newHost(network, addrs netip.Prefix, number int) (*Host, error) {
	h := &Host{Addr: addrs.Addr(), addrs: addrs, number: number, jobs: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with this goroutine
		err := h.enter(network)
		made <- err
		if err == nil {
			for job := range h.jobs {
				job()
			}
		}
	}()
	return h, <-made
}

// enter moves the calling thread to a new namespace and connects that to the network.
func (h *Host) enter(network netip.Prefix) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return Explain(os.NewSyscallError("unshare", err))
	}
	if h.tun, err = openTUN("tun0"); err != nil {
		return err
	}
	own := netip.PrefixFrom(h.Addr, network.Bits())
	settings := append(address(own), queueLength(10_000), up)
	err = errors.Join(LoopbackUp(), configure("tun0", settings...))
	if !h.addrs.IsSingleIP() { // whatever a prefix of loopback's holds is an address of this host
		err = errors.Join(err, configure("lo:1", address(h.addrs)...))
	}
	return err
}

// Do calls a function on a thread that is in the host's namespace. Sockets that it opens stay
// there, and so do processes that it starts.
func (h *Host) Do(f func() error) error {
	done := make(chan error)
	h.jobs <- func() { done <- f() }
	return <-done
}

// close ends the host's thread, and the namespace unless a process keeps it.
func (h *Host) close() {
	close(h.jobs)
	_ = h.tun.Close()
}

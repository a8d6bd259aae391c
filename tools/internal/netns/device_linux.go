// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// setting is one request to a network device.
type setting struct {
	request uint
	fill    func(*unix.Ifreq) error
}

// up switches a device on.
var up = setting{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return nil
}}

// address gives a device an address and the prefix that it leads to.
func address(prefix netip.Prefix) []setting {
	mask := net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
	return []setting{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(prefix.Addr().AsSlice()) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(mask) }},
	}
}

// queueLength is how many packets wait to be read from a device.
func queueLength(packets uint32) setting {
	return setting{unix.SIOCSIFTXQLEN, func(r *unix.Ifreq) error { r.SetUint32(packets); return nil }}
}

// configure changes a device of the network namespace that the calling thread is in. It takes
// CAP_NET_ADMIN there.
func configure(device string, settings ...setting) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only asked
	for _, s := range settings {
		r, err := unix.NewIfreq(device)
		if err == nil {
			err = s.fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, s.request, r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", device, err)
		}
	}
	return nil
}

// openTUN makes a device whose other end is the file.
func openTUN(name string) (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

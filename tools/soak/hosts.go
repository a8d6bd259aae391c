// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Hosts for icmp checks, because 127.0.0.0/8 always answers. This process is the host at the other
// end of a TUN device. Without the device there is no route to it, unless bar makes one.

const (
	// farmOfHosts is the farm whose backends are hosts.
	farmOfHosts = "icmp"
	tunDevice   = "/dev/net/tun"
	icmpInIPv4  = 1 // the protocol number
)

// Addresses of hosts, from the first one on, of their router, and of our end of every link.
var (
	hostsNet    = netip.MustParsePrefix("198.51.100.0/24")
	routersAddr = netip.MustParseAddr("198.51.100.253")
	nearAddr    = netip.MustParseAddr("198.51.100.254")
)

// hostsNeed says what is missing here that hosts need, "" if nothing is.
func hostsNeed() string {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return tunDevice
	}
	unix.Close(fd) //nolint:errcheck,gosec // only tried
	return ""
}

// allowPings lets a group send echo requests, and accepts packets from a router that no route leads
// to.
func allowPings(group int) error {
	for name, value := range map[string]string{
		"ping_group_range":       fmt.Sprintf("%d %d", group, group),
		"conf/all/rp_filter":     "0",
		"conf/default/rp_filter": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644); err != nil { //nolint:gosec // the kernel's
			return err
		}
	}
	return nil
}

// openHost makes a host. Closing it ends the host, and the route to it.
func openHost(addr netip.Addr) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tunDevice, err)
	}
	link, err := unix.NewIfreq("host%d") // the kernel finds a number
	if err == nil {
		link.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, link)
	}
	if err == nil {
		err = switchOn(link.Name(), addr)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck,gosec // never used
		return nil, fmt.Errorf("%s: %w", tunDevice, err)
	}
	return os.NewFile(uintptr(fd), tunDevice), nil
}

// switchOn makes a device the link between us and an address.
func switchOn(device string, far netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only asked
	link, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	for _, end := range []struct {
		request uint
		addr    netip.Addr
	}{{unix.SIOCSIFADDR, nearAddr}, {unix.SIOCSIFDSTADDR, far}} {
		if err := link.SetInet4Addr(end.addr.AsSlice()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, end.request, link); err != nil {
			return err
		}
	}
	link.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_NOARP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, link)
}

// bar makes the kernel refuse packets to an address, by an unreachable route, until end is called.
func bar(addr netip.Addr) (end func(), err error) {
	err = unreachableRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, addr)
	return func() { unreachableRoute(unix.RTM_DELROUTE, 0, addr) }, err //nolint:errcheck,gosec // the next one fails then
}

// unreachableRoute makes or removes a route, over rtnetlink(7).
func unreachableRoute(verb, flags uint16, to netip.Addr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only asked
	const size = unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + net.IPv4len
	order := binary.NativeEndian
	m := order.AppendUint32(nil, size)
	m = order.AppendUint16(m, verb)
	m = order.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m = append(m, make([]byte, 8)...) // sequence, port
	m = append(m, unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNREACHABLE)
	m = order.AppendUint32(m, 0) // flags
	m = order.AppendUint16(m, unix.SizeofRtAttr+net.IPv4len)
	m = order.AppendUint16(m, unix.RTA_DST)
	m = append(m, to.AsSlice()...)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, reply, 0)
	if err == nil && n >= unix.SizeofNlMsghdr+4 {
		if code := int32(order.Uint32(reply[unix.SizeofNlMsghdr:])); code != 0 {
			err = fmt.Errorf("route to %s: %w", to, unix.Errno(-code))
		}
	}
	return err
}

// beHost makes the host, or the route that replaces it if the manner says so.
func (b *backend) beHost() (err error) {
	addr := b.addr.Addr()
	switch b.manner.Load() {
	case routeless:
		return nil
	case closed:
		b.end, err = bar(addr)
		return err
	}
	host, err := openHost(addr)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.serveHost(host)
	}()
	b.end = func() {
		host.Close() //nolint:errcheck,gosec // gone
		<-done
	}
	return nil
}

// serveHost answers what comes for a host until it is closed.
func (b *backend) serveHost(host *os.File) {
	send := func(packet []byte) { host.Write(packet) } //nolint:errcheck,gosec // it may be gone
	buf := make([]byte, 1500)
	for {
		n, err := host.Read(buf)
		if err != nil {
			return
		}
		for _, reply := range b.answerEcho(buf[:n]) {
			if b.manner.Load() == tardy {
				time.AfterFunc(2*timing.timeout, func() { send(reply) })
				continue
			}
			send(reply)
		}
	}
}

// answerEcho returns the packets that answer a packet, in their order, none if it is no echo
// request.
func (b *backend) answerEcho(packet []byte) (replies [][]byte) {
	from, echo := echoRequest(packet)
	if echo == nil {
		return nil
	}
	host := b.addr.Addr().AsSlice()
	reply := func() []byte { return icmpPacket(host, from, ipv4.ICMPTypeEchoReply, 0, echo) }
	other := slices.Clone(echo.Data)
	for i := range other {
		other[i] ^= 0xff
	}
	switch b.manner.Load().name {
	case "answers nothing":
		return nil
	case "answers with random bytes":
		random := noise(b.noise.Add(1), 40)
		echo.Seq, echo.Data = int(random[0]), random[1:]
	case "answers with another id":
		echo.ID ^= 1
	case "answers with another number":
		echo.Seq++
	case "answers with another token":
		echo.Data = other
	case "answers with a part":
		return [][]byte{shortened(reply(), b.noise.Add(1))}
	case "has its router say that it is unreachable":
		return [][]byte{icmpPacket(routersAddr.AsSlice(), from, ipv4.ICMPTypeDestinationUnreachable, 1, &icmp.DstUnreach{Data: packet})}
	case "answers wrongly before it answers":
		right := reply()
		echo.Data = other
		return [][]byte{reply(), right}
	}
	return [][]byte{reply()}
}

// echoRequest returns the sender and the message of an echo request, nil if a packet is none.
func echoRequest(packet []byte) (from net.IP, echo *icmp.Echo) {
	h, err := ipv4.ParseHeader(packet)
	if err != nil || h.Version != ipv4.Version || h.Protocol != icmpInIPv4 {
		return nil, nil
	}
	m, err := icmp.ParseMessage(icmpInIPv4, packet[h.Len:])
	if err != nil || m.Type != ipv4.ICMPTypeEcho {
		return nil, nil
	}
	echo, _ = m.Body.(*icmp.Echo) //nolint:errcheck // nil then
	return h.Src, echo
}

// icmpPacket returns a packet with a message in it.
func icmpPacket(from, to net.IP, kind ipv4.ICMPType, code int, body icmp.MessageBody) []byte {
	message, _ := (&icmp.Message{Type: kind, Code: code, Body: body}).Marshal(nil) //nolint:errcheck // never fails
	return ipv4Packet(from, to, message)
}

func ipv4Packet(from, to net.IP, payload []byte) []byte {
	h := ipv4.Header{Version: ipv4.Version, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(payload), TTL: 64, Protocol: icmpInIPv4, Src: from, Dst: to}
	packet, _ := h.Marshal() //nolint:errcheck // never fails
	binary.BigEndian.PutUint16(packet[10:], checksum(packet))
	return append(packet, payload...)
}

// shortened returns a packet with only the first bytes of its message; a number selects how many.
// The kernel drops packets without a whole header or with a wrong checksum.
func shortened(packet []byte, n uint64) []byte {
	h, _ := ipv4.ParseHeader(packet) //nolint:errcheck // ours
	whole := packet[h.Len:]
	part := slices.Clone(whole[:n%uint64(len(whole))])
	if len(part) >= 4 {
		part[2], part[3] = 0, 0
		binary.BigEndian.PutUint16(part[2:], checksum(part))
	}
	return ipv4Packet(h.Src, h.Dst, part)
}

// checksum returns the Internet checksum (RFC 1071) of bytes whose checksum field is zero.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i, octet := range b {
		sum += uint32(octet) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

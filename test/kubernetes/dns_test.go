// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// client is a socket that asks the cluster's DNS. Owned by one goroutine.
type client struct{ conn *dns.Conn }

// dial connects to the cluster's DNS as a pod would.
func dial(t testing.TB, network string) *client {
	t.Helper()
	conn, err := net.Dial(network, net.JoinHostPort(dnsAddress, "53"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{&dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}}
}

func (c *client) tryAsk(name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(dns.DefaultMsgSize, false)
	return c.exchange(q)
}

// exchange returns the reply to one query; nobody asks twice.
func (c *client) exchange(q *dns.Msg) (*dns.Msg, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := c.conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		reply, err := c.conn.ReadMsg()
		if err != nil || reply.Id == q.Id {
			return reply, err
		}
	}
}

func (c *client) ask(t testing.TB, name string, qtype uint16) *dns.Msg {
	t.Helper()
	reply, err := c.tryAsk(name, qtype)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return reply
}

// addresses returns those of the answer's A records, in their order.
func addresses(reply *dns.Msg) []string { return dataOf(reply.Answer, dns.TypeA) }

func dataOf(rrs []dns.RR, rrtype uint16) (data []string) {
	for _, rr := range rrs {
		if rr.Header().Rrtype == rrtype {
			data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return data
}

// sorted returns addresses in the order in which strict round robin goes through them.
func sorted(addrs []string) []string {
	return slices.SortedFunc(slices.Values(addrs), func(a, b string) int {
		return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b))
	})
}

// after returns the member that follows one in a cycle, whether it is still in it or not.
func after(cycle []string, who string) string {
	for _, member := range cycle {
		if netip.MustParseAddr(member).Compare(netip.MustParseAddr(who)) > 0 {
			return member
		}
	}
	return cycle[0]
}

// rotates fails the test unless n answers for a name are rotations of the cycle, each led by the
// member after the one that led before.
func rotates(t testing.TB, name string, cycle []string, n int) {
	t.Helper()
	clients := []*client{dial(t, "udp"), dial(t, "tcp")}
	led := ""
	for i := range n {
		reply := clients[i%2].ask(t, name, dns.TypeA)
		got := addresses(reply)
		if len(got) == 0 || !isRotation(got, cycle) || led != "" && got[0] != after(cycle, led) {
			t.Fatalf("answer %d for %s is %v, after %s, want the rotation of %v that follows\n%v", i, name, got, led, cycle, reply)
		}
		led = got[0]
	}
}

func isRotation(got, cycle []string) bool {
	at := slices.Index(cycle, got[0])
	return at >= 0 && slices.Equal(got, append(slices.Clone(cycle[at:]), cycle[:at]...))
}

// outerNames are three addresses that the world outside has for every name below example.org. Below
// example.net every name has three of its own.
var outerNames = []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"}

// runOuterServer runs the name server in the node's resolv.conf until the test ends. It knows all
// names below example.org and gives their addresses in any order.
func runOuterServer(t testing.TB, podUser int) {
	t.Helper()
	packets, err := listenBesideDNS(t, podUser)
	if err != nil {
		t.Fatal(err)
	}
	serving := make(chan struct{})
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answerOutside), NotifyStartedFunc: func() { close(serving) }}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-serving
	t.Cleanup(func() {
		server.Shutdown()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// listenBesideDNS listens on port 53 of the name server outside. CoreDNS will listen on that port
// of all addresses, which works for sockets of one user that allow it.
func listenBesideDNS(t testing.TB, user int) (net.PacketConn, error) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
	}}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.SetfsuidRetUid(user)
	if err != nil {
		return nil, err
	}
	defer unix.SetfsuidRetUid(before)
	return shared.ListenPacket(t.Context(), "udp", net.JoinHostPort(outerAddress, "53"))
}

func answerOutside(w dns.ResponseWriter, q *dns.Msg) {
	reply := new(dns.Msg).SetReply(q)
	asked := q.Question[0]
	if !dns.IsSubDomain("example.org.", asked.Name) && !dns.IsSubDomain("example.net.", asked.Name) {
		reply.Rcode = dns.RcodeNameError
	} else if asked.Qtype == dns.TypeA {
		for _, i := range rand.Perm(len(outerNames)) {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: outerAddressOf(asked.Name, i),
			})
		}
	}
	w.WriteMsg(reply)
}

// outerAddressOf returns one of the three addresses of a name.
func outerAddressOf(name string, i int) net.IP {
	if dns.IsSubDomain("example.org.", name) {
		return net.ParseIP(outerNames[i])
	}
	sum := crc32.ChecksumIEEE([]byte(name))
	return net.IPv4(198, byte(sum>>16), byte(sum>>8), byte(sum)+byte(i))
}

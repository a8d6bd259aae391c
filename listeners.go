// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/coredns/coredns/core/dnsserver"
)

// listenersOf returns where a server block listens, and its view. No other block with the same zone
// has the same.
func listenersOf(config *dnsserver.Config, keys []string) string {
	var ports []string
	for _, key := range keys {
		transport, port := listenerOf(key)
		ports = append(ports, transport+port)
	}
	slices.Sort(ports)
	hosts := slices.Sorted(slices.Values(config.ListenHosts))
	return fmt.Sprintf("%q %q %q", slices.Compact(ports), hosts, config.ViewName)
}

// listenerOf returns the transport and the port in a key of a server block, as
// "dns://example.org.:53".
func listenerOf(key string) (transport, port string) {
	transport, rest, found := strings.Cut(key, "://")
	if !found {
		transport, rest = "dns", key
	}
	return transport, rest[strings.LastIndexByte(rest, ':')+1:]
}

// serversOf returns where a server block listens, for people.
func serversOf(config *dnsserver.Config, keys []string) (servers []string) {
	for _, key := range keys {
		transport, port := listenerOf(key)
		for _, host := range config.ListenHosts {
			servers = append(servers, transport+"://"+net.JoinHostPort(host, port))
		}
	}
	return distinct(servers)
}

// reasonOfListen returns why a listener failed, without the address.
func reasonOfListen(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

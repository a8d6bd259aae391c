// SPDX-License-Identifier: Apache-2.0

package probe

import "fmt"

// Proxy is a version of the PROXY protocol (haproxy.org, proxy-protocol.txt).
type Proxy uint8

// What a connection begins with.
const (
	NoProxy Proxy = iota
	ProxyV1
	ProxyV2
)

// proxyHeaders say that a connection is on behalf of nobody, which is what the protocol has for
// health checks: UNKNOWN in version 1, LOCAL in version 2.
var proxyHeaders = [...]string{
	ProxyV1: "PROXY UNKNOWN\r\n",
	ProxyV2: "\r\n\r\n\x00\r\nQUIT\n" + "\x20\x00\x00\x00",
}

func (p Proxy) validate() error {
	if int(p) >= len(proxyHeaders) {
		return fmt.Errorf("proxy: version %d: want 1 or 2", p)
	}
	return nil
}

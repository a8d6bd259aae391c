// SPDX-License-Identifier: Apache-2.0

//go:build linux

package testbed

import (
	"fmt"
	"strings"
)

// corefile returns the Corefile of a replica.
func (r *Replica) corefile() string {
	b := r.bed
	kind := b.Probe
	if kind == "" {
		kind = "http"
	}
	return fmt.Sprintf(`example.org:53 {
    bind 127.0.0.1
    prometheus 127.0.0.1:9153
    ready 127.0.0.1:8181
    balance {
        health_check %s %d {
            allow %s
            max_endpoints 20000
            %s
        }
        all_down nodata
        status 127.0.0.1:9154
        %s
        %s
    }
    file %s
}
`, kind, backendPort, ofBackends, r.Check, b.Rule, r.fleet(), b.path("zone"))
}

// fleet returns the block of the fleet; "" if the replica is in none.
func (r *Replica) fleet() string {
	b := r.bed
	if b.NoFleet || r.Number >= len(b.Replicas)-b.Extra {
		return ""
	}
	var join strings.Builder
	for _, other := range b.Replicas[:len(b.Replicas)-b.Extra] {
		fmt.Fprintf(&join, " %s", other.host.Addr)
	}
	return fmt.Sprintf("fleet test {\n join%s\n key %s\n %s\n }", &join, b.path("key"), b.Fleet)
}

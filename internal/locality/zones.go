// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"cmp"
	"net/netip"
	"slices"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// node is what a locality needs of a Kubernetes node.
type node struct {
	name     string
	zone     Locality
	prefixes []netip.Prefix // of its pods and of itself, sorted
}

// nodeOf returns what o says of its zone and addresses. What cannot be parsed is left out: a node
// is input.
func nodeOf(o *core.Node) node {
	n := node{name: o.Name, zone: Named(o.Labels[core.LabelTopologyZone])}
	if !n.zone.Known() {
		return n
	}
	cidrs := o.Spec.PodCIDRs
	if len(cidrs) == 0 && o.Spec.PodCIDR != "" {
		cidrs = []string{o.Spec.PodCIDR}
	}
	for _, cidr := range cidrs {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			n.prefixes = append(n.prefixes, prefix.Masked())
		}
	}
	for _, address := range o.Status.Addresses {
		if addr, err := netip.ParseAddr(address.Address); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			n.prefixes = append(n.prefixes, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	slices.SortFunc(n.prefixes, netip.Prefix.Compare)
	n.prefixes = slices.Compact(n.prefixes)
	return n
}

// same reports whether both nodes put the same prefixes into the same zone.
func (n node) same(other node) bool {
	return n.zone == other.zone && slices.Equal(n.prefixes, other.prefixes)
}

// trim keeps of an object that the API server sent what nodeOf reads, so that the informer's store
// holds little: a node's full object has some 10 KB, most of it image names.
func trim(o any) (any, error) {
	full, ok := o.(*core.Node)
	if !ok {
		return o, nil
	}
	kept := &core.Node{ObjectMeta: meta.ObjectMeta{Name: full.Name, UID: full.UID, ResourceVersion: full.ResourceVersion}}
	if zone, ok := full.Labels[core.LabelTopologyZone]; ok {
		kept.Labels = map[string]string{core.LabelTopologyZone: zone}
	}
	kept.Spec.PodCIDR, kept.Spec.PodCIDRs = full.Spec.PodCIDR, full.Spec.PodCIDRs
	for _, address := range full.Status.Addresses {
		if address.Type == core.NodeInternalIP || address.Type == core.NodeExternalIP {
			kept.Status.Addresses = append(kept.Status.Addresses, address)
		}
	}
	return kept, nil
}

// tableOf returns the table of some nodes. If two nodes claim one prefix, the one whose name comes
// first has it.
func tableOf(nodes map[string]node) Table {
	sorted := make([]node, 0, len(nodes))
	for _, n := range nodes {
		sorted = append(sorted, n)
	}
	slices.SortFunc(sorted, func(a, b node) int { return cmp.Compare(b.name, a.name) }) // the last one counts
	var ranges []Range
	for _, n := range sorted {
		for _, prefix := range n.prefixes {
			ranges = append(ranges, Range{prefix, n.zone})
		}
	}
	return Table{}.With(ranges)
}

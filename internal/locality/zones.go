// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"cmp"
	"net/netip"
	"slices"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// node is what a locality needs of a Kubernetes node. The informer keeps it in place of the node
// itself, which has some 10 KB, most of it image names. Immutable.
type node struct {
	name, version string
	zone          Locality
	prefixes      []netip.Prefix // of its pods and of itself, sorted
}

// GetObjectMeta implements meta.ObjectMetaAccessor: the informer goes by the name.
func (n *node) GetObjectMeta() meta.Object {
	return &meta.ObjectMeta{Name: n.name, ResourceVersion: n.version}
}

// transform is a cache.TransformFunc that turns an object that the API server sent into a node.
func transform(o any) (any, error) {
	if full, ok := o.(*core.Node); ok {
		return nodeOf(full), nil
	}
	return o, nil
}

// nodeOf returns what o says of its zone and addresses. What cannot be parsed is left out: a node
// is input.
func nodeOf(o *core.Node) *node {
	n := &node{name: o.Name, version: o.ResourceVersion, zone: Named(o.Labels[core.LabelTopologyZone])}
	if n.zone.Known() {
		n.prefixes = append(podRanges(o), ownAddresses(o)...)
		slices.SortFunc(n.prefixes, netip.Prefix.Compare)
		n.prefixes = slices.Clip(slices.Compact(n.prefixes))
	}
	return n
}

// podRanges returns the ranges that a node's pods have addresses of.
func podRanges(o *core.Node) (ranges []netip.Prefix) {
	cidrs := o.Spec.PodCIDRs
	if len(cidrs) == 0 && o.Spec.PodCIDR != "" {
		cidrs = []string{o.Spec.PodCIDR}
	}
	for _, cidr := range cidrs {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			ranges = append(ranges, prefix.Masked())
		}
	}
	return ranges
}

// ownAddresses returns the addresses of a node itself.
func ownAddresses(o *core.Node) (addresses []netip.Prefix) {
	for _, address := range o.Status.Addresses {
		if address.Type != core.NodeInternalIP && address.Type != core.NodeExternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(address.Address); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			addresses = append(addresses, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return addresses
}

// same reports whether both nodes put the same prefixes into the same zone.
func (n *node) same(other *node) bool {
	return n.zone == other.zone && slices.Equal(n.prefixes, other.prefixes)
}

// tableOf returns the table of some nodes. If two nodes claim one prefix, the one whose name comes
// first has it.
func tableOf(nodes []*node) Table {
	// The last one counts.
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(b.name, a.name) })
	var ranges []Range
	for _, n := range nodes {
		for _, prefix := range n.prefixes {
			ranges = append(ranges, Range{prefix, n.zone})
		}
	}
	return Table{}.With(ranges)
}

// SPDX-License-Identifier: Apache-2.0

package fleet

// CheckID identifies a check in all replicas: a hash of all that has to be equal.
type CheckID uint64

// Host is what probes on behalf of a share.
type Host interface {
	// Post runs a function soon in the goroutine that owns the share. It does not block.
	Post(call func())
}

// Share is this replica's part in the verdicts of one check. Owned by the goroutine of its host.
type Share struct{}

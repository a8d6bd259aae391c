// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package idle

import "net/netip"

// Supported reports whether sets can be made here.
const Supported = false

// Set is what New would make.
type Set[T any] struct{}

// New returns ErrUnsupported.
func New[T any](func() bool) (*Set[T], error) { return nil, ErrUnsupported }

// Dial returns ErrUnsupported.
func (*Set[T]) Dial(netip.Addr, netip.AddrPort, T) (Conn, error) { return 0, ErrUnsupported }

// Close does nothing.
func (*Set[T]) Close(Conn) {}

// Wait returns ErrUnsupported.
func (*Set[T]) Wait([]Event) ([]Event, error) { return nil, ErrUnsupported }

// Look returns Nothing.
func (*Set[T]) Look(Event) (owner T, change Change, dropped int) { return owner, Nothing, 0 }

// Shut does nothing.
func (*Set[T]) Shut() {}

// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package probe

import "syscall"

// bindLate does nothing here.
func bindLate(_, _ string, _ syscall.RawConn) error { return nil }

// delayAck does nothing here.
func delayAck(_, _ string, _ syscall.RawConn) error { return nil }

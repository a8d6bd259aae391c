// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package probe

import (
	"context"
	"net/netip"
)

// dialSocket is connect: only Linux has a cheaper way.
func (l *line) dialSocket(ctx context.Context, endpoint netip.AddrPort) (connection, error) {
	return l.connect(ctx, endpoint)
}

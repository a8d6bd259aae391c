// SPDX-License-Identifier: Apache-2.0

package balance

import "context"

// clientQuery is the context that the plugins below get. It marks the client's query as one that is
// balanced already. It is part of the answer because context.WithValue would cost an allocation.
type clientQuery struct{ context.Context }

type clientQueryKey struct{}

// Value implements context.Context.
func (q *clientQuery) Value(key any) any {
	if key == (clientQueryKey{}) {
		return q
	}
	return q.Context.Value(key)
}

// nested reports whether ctx belongs to a query that a balance above has in hand.
func nested(ctx context.Context) bool { return ctx.Value(clientQueryKey{}) != nil }

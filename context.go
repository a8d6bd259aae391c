// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"context"
	"sync/atomic"
)

// clientQuery is the context that the plugins below get. It marks a query that a rule has in hand.
// It is part of the answer because context.WithValue would cost an allocation.
type clientQuery struct {
	context.Context
	rule     *servedRule // nil for a query of our own
	degraded atomic.Bool // the answer holds what a rule below degraded
}

type clientQueryKey struct{}

// Value implements context.Context.
func (q *clientQuery) Value(key any) any {
	if key == (clientQueryKey{}) {
		return q
	}
	return q.Context.Value(key)
}

// queryAbove returns the query that a balance above has in hand, nil if there is none.
func queryAbove(ctx context.Context) *clientQuery {
	q, _ := ctx.Value(clientQueryKey{}).(*clientQuery)
	return q
}

// SPDX-License-Identifier: Apache-2.0

package balance

import "github.com/seed-f1518d44/balance/internal/schedule"

// weighted is exact: over any W/gcd answers, W being the sum of the weights, every member leads
// weight/gcd times, spread out. If answers hold fewer members than there are, each member's share
// of the appearances is exact too.
func weighted(c contest) schedule.Schedule { return schedule.Weighted(c.weights, c.wanted) }

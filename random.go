// SPDX-License-Identifier: Apache-2.0

package balance

import "github.com/seed-f1518d44/balance/internal/schedule"

// random shuffles uniformly. Turns start at a random number below 2^63, so that nobody can predict
// the order.
func random(c contest) schedule.Schedule { return schedule.Shuffle(len(c.members)) }

// SPDX-License-Identifier: Apache-2.0

package balance

import "github.com/seed-f1518d44/balance/internal/schedule"

// roundRobin is strict: the lead moves to the next member on every answer, and the rest follows in
// rotation. Weights differ only while a member ramps.
func roundRobin(c contest) schedule.Schedule { return schedule.Weighted(c.weights, c.wanted) }

// SPDX-License-Identifier: Apache-2.0

package balance

// outcome is what became of an answer. If several apply, the highest is counted.
type outcome uint8

const (
	passed     outcome = iota // went out as it came up
	ordered                   // its records were put in order
	sealed                    // ordered; a signature kept records that would have left
	filtered                  // records were removed
	failedOver                // another tier answers than the first
	failOpen                  // all members are down, so it was answered as if all were up
)

var outcomeNames = [...]string{passed: "passed", ordered: "ordered", sealed: "sealed", filtered: "filtered", failedOver: "failed_over", failOpen: "fail_open"}

// reason is why a record was removed.
type reason int

const (
	limit     reason = iota // the option answers
	drained                 // standby, while others answer
	notInTier               // another tier answers
	wasDown                 // the verdict
	notNear                 // members of the client's locality answer
	damped                  // it flaps, while enough others answer
)

var reasonNames = [...]string{limit: "limit", drained: "drained", notInTier: "tier", wasDown: "down", notNear: "locality", damped: "damped"}

// removals counts the records removed from an answer.
type removals [len(reasonNames)]uint16

func (r *removals) add(more removals) {
	for why, n := range more {
		r[why] += n
	}
}

// SPDX-License-Identifier: Apache-2.0

package balance

// stackBelow is about the stack, in bytes, that the plugins below and the writers above need between them.
const stackBelow = 3 << 10

// growStack makes sure that there is stack enough for the rest of a query's way.
//
// The server starts a goroutine for every UDP query, with a stack of 2 KiB, which is doubled twice on the
// way to an answer: once as the query is unpacked, and once somewhere below. To double a stack is to copy
// it and to correct every frame on it, so it is dear where the way is long: with it some 0.5 us of a query
// are saved, more than balancing three records costs (BenchmarkMessagePath). A function is given all the
// stack that its frame asks for before it begins, so that this one has but to ask for it.
//
//go:noinline
func growStack(touch bool) byte {
	if !touch { // always so; nobody pays for filling what nobody uses
		return 0
	}
	var below [stackBelow]byte
	for i := range below {
		below[i] = byte(i)
	}
	return below[len(below)/2]
}

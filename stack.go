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
func growStack(at uint) byte {
	if at == 0 { // always so; nobody pays for clearing what nobody uses
		return 0
	}
	var below [stackBelow]byte
	below[at%stackBelow] = 1
	return below[at/2%stackBelow]
}

// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// Answers hold the members in any order, some twice, some gone, others new: the records that go out
// are those that came up.
func TestShuffledMembersComeAndGo(t *testing.T) {
	h := newHandler(t, "balance", echo)
	rng := rand.New(rand.NewPCG(9, 10))
	for range 5000 {
		m := addressesMsg(40)
		for range rng.IntN(4) { // one gives way to a repetition of another
			m.Answer[rng.IntN(40)] = m.Answer[rng.IntN(40)]
		}
		if rng.IntN(3) == 0 {
			m.Answer = m.Answer[:20+rng.IntN(20)]
		}
		rng.Shuffle(len(m.Answer), func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] })
		out := ask(t, h, m)
		if got, want := summary(out.Answer), summary(m.Answer); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Fatalf("answer is %v, want the records of %v", got, want)
		}
	}
}

// An upstream that shuffles gets strict turns at every size.
func TestShuffledUpstreamIsStrict(t *testing.T) {
	for _, n := range []int{3, 8, 23, 24, 25, 64, 300} {
		h, leads := newHandler(t, "balance", echo), map[string]int{}
		m := addressesMsg(n)
		for range 4 * n {
			rand.Shuffle(n, func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] })
			leads[ask(t, h, m).Answer[0].(*dns.A).A.String()]++
		}
		for lead, times := range leads {
			if times != 4 || len(leads) != n {
				t.Errorf("%d members: %s led %d times of %d", n, lead, times, 4*n)
			}
		}
	}
}

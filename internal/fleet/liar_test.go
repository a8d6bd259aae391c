// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// One replica that lies as it likes, in well-formed messages in its own name, delays no verdict,
// makes none, aims no probe and takes no memory.
func TestLiar(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { liesFor(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func liesFor(t *testing.T, rng *rand.Rand) {
	w := newNetwork(t, 5)
	all := endpoints(60)
	may := make(map[netip.AddrPort]bool)
	for _, at := range all {
		may[at] = true
	}
	for _, n := range w.nodes {
		n.allow = func(at netip.AddrPort) bool { return may[at] }
	}
	for _, at := range all[:40] {
		w.nodes[rng.IntN(5)].see(at)
	}
	w.run(10 * time.Second)
	liar := w.join("liar", "")
	liar.puppet = true
	w.run(5 * time.Second)
	dead := all[rng.IntN(40)]
	w.down = func(_ *node, at netip.AddrPort) bool { return at == dead }
	died := w.now()
	w.each = func() {
		for range rng.IntN(4) {
			lie(w, liar, all, rng)
		}
		for _, n := range w.nodes[:5] {
			for _, at := range all[:40] {
				got := n.on(at)
				if late := w.now()-died > 10*time.Second; at == dead && late && got != Down || at != dead && got != Up {
					t.Fatalf("%v: %s says %v of %s: %+v", w.now()-died, n.name, got, at, n.share.Voters(at))
				}
			}
		}
	}
	w.run(time.Minute)
	for _, n := range w.nodes[:5] {
		if len(n.slots) > len(all) {
			t.Errorf("%s knows %d endpoints", n.name, len(n.slots))
		}
		if n.flips > 150 {
			t.Errorf("%s changed %d verdicts", n.name, n.flips)
		}
		if s := n.share; len(s.peers) != 6 || len(s.texts) > len(all) || len(s.changed) > len(all) || len(s.disputes) > len(all) || len(s.bare) > len(all) {
			t.Errorf("%s: %d peers, %d texts, %d changed, %d open, %d bare", n.name, len(s.peers), len(s.texts), len(s.changed), len(s.disputes), len(s.bare))
		}
	}
}

// lie has the liar send one message to one or all of the others.
func lie(w *network, liar *node, all []netip.AddrPort, rng *rand.Rand) {
	message := header{1, keyOf(liar.name), w.check.ID}.bytes()
	for range 1 + rng.IntN(3) {
		message = appendLie(message, all, rng)
	}
	for _, n := range w.nodes[:5] {
		if rng.IntN(2) == 0 {
			n.fleet.Hear(message)
		}
		if rng.IntN(50) == 0 {
			n.fleet.Merge(lyingState(w, all, rng), true)
		}
	}
}

func appendLie(to []byte, all []netip.AddrPort, rng *rand.Rand) []byte {
	claims := lyingClaims(all, rng)
	switch rng.IntN(7) {
	case 0:
		return appendSection(to, kindClaims, func(to []byte) []byte { return appendClaims(to, claims) })
	case 1:
		return appendSection(to, kindBeat, func(to []byte) []byte {
			to = binary.BigEndian.AppendUint64(append(to, byte(rng.IntN(4))), rng.Uint64())
			return appendText(binary.AppendUvarint(to, rng.Uint64()), "tcp:80", maxName)
		})
	case 2:
		return appendSection(to, kindCompare, func(to []byte) []byte {
			bits := byte(rng.IntN(manyBits + 1))
			to = append(binary.BigEndian.AppendUint64(to, keyOf(fmt.Sprint("r", rng.IntN(5)))), bits)
			return append(to, make([]byte, 8<<bits)...)
		})
	case 3:
		bits := byte(rng.IntN(manyBits + 1))
		return appendSection(to, kindBucket, func(to []byte) []byte {
			return appendClaims(binary.AppendUvarint(append(to, bits), uint64(rng.IntN(1<<bits))), claims)
		})
	case 4:
		return appendSection(to, kindEnd, func(to []byte) []byte { return binary.AppendUvarint(to, uint64(rng.IntN(3))) })
	case 5:
		return appendSection(to, kindContested, func(to []byte) []byte { return appendClaims(to, claims) })
	}
	if rng.IntN(10) > 0 {
		return to
	}
	return appendSection(to, kindBye, func(to []byte) []byte { return to })
}

func lyingClaims(all []netip.AddrPort, rng *rand.Rand) (claims []claim) {
	for range rng.IntN(20) {
		at := all[rng.IntN(len(all))]
		if rng.IntN(10) == 0 {
			at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(rng.IntN(256))}), uint16(rng.IntN(1<<16)))
		}
		claims = append(claims, claim{at: at, wanted: rng.IntN(2) == 0, opinion: lyingOpinion(rng), text: "a lie"})
	}
	return claims
}

func lyingOpinion(rng *rand.Rand) Opinion { return opinionOf(byte(rng.IntN(256)), byte(rng.IntN(256))) }

// lyingState returns a state that names all replicas and ages of every size.
func lyingState(w *network, all []netip.AddrPort, rng *rand.Rand) []byte {
	state := header{1, keyOf("liar"), 0}.bytes()
	return appendSection(state, kindKnown, func(to []byte) []byte {
		to = binary.BigEndian.AppendUint64(to, uint64(w.check.ID))
		to = binary.AppendUvarint(binary.AppendUvarint(to, rng.Uint64()), uint64(len(w.nodes)))
		for _, n := range w.nodes {
			to = append(binary.BigEndian.AppendUint64(to, keyOf(n.name)), byte(rng.IntN(8)))
		}
		to = append(to, 0)
		for range rng.IntN(20) {
			e := entry{at: all[rng.IntN(len(all))], flags: byte(rng.IntN(4)) << 5, decided: lyingOpinion(rng)}
			e.past = Past{Age: time.Duration(rng.Uint64()), Memory: make([]byte, rng.IntN(MaxMemory+1))}
			for range rng.IntN(5) {
				e.claims = append(e.claims, entryClaim{rng.Uint64() % 8, rng.IntN(2) == 0, lyingOpinion(rng)})
			}
			to = e.append(to, 0, false)
		}
		return to
	})
}

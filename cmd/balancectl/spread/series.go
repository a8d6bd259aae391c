// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/seed-f1518d44/balance/internal/cidr"
)

// span is every network of a length inside a CIDR.
type span struct {
	inside netip.Prefix
	length int // bits, at least those of inside
}

// size returns how many there are, or as many as are of use.
func (s span) size() uint64 { return 1 << min(s.length-s.inside.Bits(), 32) }

// at returns the network with a number below the size.
func (s span) at(n uint64) netip.Prefix {
	width := s.inside.Addr().BitLen()
	bytes := s.inside.Addr().AsSlice()
	shift := width - s.length
	for i := len(bytes) - 1; i >= 0; i-- { // n, shifted to its place, is set in bits that are 0
		from := 8 * (len(bytes) - 1 - i) // the lowest bit of this byte
		switch {
		case from >= shift && from-shift < 64:
			bytes[i] |= byte(n >> (from - shift) & 0xff)
		case from < shift && shift-from < 8:
			bytes[i] |= byte(n << (shift - from) & 0xff)
		}
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(addr, s.length)
}

// series is networks to take in turn.
type series []span

// at returns the one whose turn it is.
func (s series) at(turn uint64) netip.Prefix {
	total := uint64(0)
	for _, one := range s {
		total += one.size()
	}
	turn %= total
	for _, one := range s {
		if turn < one.size() {
			return one.at(turn)
		}
		turn -= one.size()
	}
	panic("spread: a turn beyond the series")
}

// seriesFlag reads a series. CIDR,... stands for every address in the CIDRs or, if networks is set,
// for the CIDRs themselves. CIDR/LENGTH stands for every network of that length.
type seriesFlag struct {
	series   *series
	networks bool
}

// String implements flag.Value.
func (f *seriesFlag) String() string { return "" }

// Set implements flag.Value.
func (f *seriesFlag) Set(value string) error {
	for _, word := range strings.Split(value, ",") {
		one, err := f.read(word)
		if err != nil {
			return err
		}
		*f.series = append(*f.series, one)
	}
	return nil
}

func (f *seriesFlag) read(word string) (span, error) {
	text, length := word, ""
	if first, last := strings.Index(word, "/"), strings.LastIndex(word, "/"); f.networks && first != last {
		text, length = word[:last], word[last+1:]
	}
	p, err := cidr.Parse(text)
	if err != nil {
		return span{}, err
	}
	switch {
	case !f.networks:
		return span{p, p.Addr().BitLen()}, nil
	case length == "":
		return span{p, p.Bits()}, nil
	}
	bits, err := strconv.Atoi(length)
	if err != nil || bits < p.Bits() || bits > p.Addr().BitLen() {
		return span{}, fmt.Errorf("bad length %q: want one from %d to %d", length, p.Bits(), p.Addr().BitLen())
	}
	return span{p, bits}, nil
}

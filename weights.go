// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// weightOf returns the weight of an address, of IPv4 also where a record spells it as IPv6, in the RRset of
// an owner, as names.Spell has it: the first that is found of the inline weight, the file's for the name,
// the file's for the longest wildcard above it. In each the address itself goes before a CIDR, and a longer CIDR before a
// shorter one.
func (r *rule) weightOf(owner string, addr netip.Addr) uint16 {
	if !r.policy.weighs || !addr.IsValid() {
		return weights.Default
	}
	addr = addr.Unmap()
	if w, ok := r.weights.Of(addr); ok {
		return w
	}
	if r.file == nil {
		return weights.Default
	}
	return r.file.weights.Load().Of(owner, addr)
}

// weightFile is the option weights: a file that gives weights to the addresses of names. Safe for
// concurrent use.
type weightFile struct {
	polledFile
	weights atomic.Pointer[weights.File]
}

// newWeightFile reads a weight file for a rule, which it tells of every new content.
func newWeightFile(r *rule, path string, every time.Duration) (*weightFile, error) {
	f := &weightFile{polledFile: polledFile{path: path, every: every}}
	f.use = func(content []byte) error {
		parsed, err := weights.Parse(content)
		if err != nil {
			return err
		}
		f.weights.Store(parsed)
		r.epoch.Add(1)
		return nil
	}
	return f, f.read()
}

// parseWeight reads "weight ADDRESS|CIDR WEIGHT".
func parseWeight(args []string) (weights.Line, error) {
	if len(args) != 2 {
		return weights.Line{}, wrongCount(args)
	}
	return weights.ParseLine(args[0], args[1])
}

// addWeight adds an inline weight.
func (r *rule) addWeight(w weights.Line) error {
	if r.weights.Has(w.Targets) {
		return fmt.Errorf("%q is weighted twice: want it once", cidr.Word(w.Targets))
	}
	r.weights.Add(w)
	return nil
}

// defaultWeightsInterval is how often the weight file is read.
const defaultWeightsInterval = 30 * time.Second

// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/internal/cidr"
	"github.com/seed-f1518d44/balance/internal/weights"
)

// wanted says how often each member should lead. Without weights all should equally. Immutable.
type wanted struct {
	file *weights.File // nil without one
	list *weights.List // addresses and CIDRs, from the command line
	// Targets of MX, SRV and SVCB, lower case and fully qualified, from the command line.
	names map[string]uint16
	named []string // those of the command line that are one member each
}

// readWanted reads -weights: a list if it has an equals sign, else the name of a file.
func readWanted(text string, q dns.Question) (*wanted, error) {
	switch {
	case text == "":
		return &wanted{}, nil
	case strings.Contains(text, "="):
		return readWantedList(text, q.Qtype)
	case q.Qtype == dns.TypeMX || q.Qtype == dns.TypeSRV:
		return nil, fmt.Errorf("-weights %s: a weight file has addresses, and members of type %s are names: want NAME=WEIGHT for each", text, dns.TypeToString[q.Qtype])
	}
	content, err := os.ReadFile(text) //nolint:gosec // the user's choice
	if err != nil {
		return nil, fmt.Errorf("-weights: %w", err)
	}
	file, err := weights.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("-weights: %s:%w", text, err)
	}
	return &wanted{file: file}, nil
}

func readWantedList(text string, qtype uint16) (*wanted, error) {
	w := &wanted{list: &weights.List{}, names: map[string]uint16{}}
	for _, entry := range strings.Split(text, ",") {
		member, weight, _ := strings.Cut(entry, "=")
		if err := w.add(member, weight, qtype); err != nil {
			return nil, fmt.Errorf("-weights: %w", err)
		}
	}
	w.list.Sort()
	return w, nil
}

// add adds MEMBER=WEIGHT, if records of the type can have that member.
func (w *wanted) add(member, weight string, qtype uint16) error {
	prefix, err := cidr.ParseTargets(member)
	isAddress, v4 := err == nil, prefix.Addr().Is4()
	switch {
	case qtype == dns.TypeA && (!isAddress || !v4), qtype == dns.TypeAAAA && (!isAddress || v4):
		return fmt.Errorf("%q is no member of type %s: want an address or CIDR of its family", member, dns.TypeToString[qtype])
	case (qtype == dns.TypeMX || qtype == dns.TypeSRV) && isAddress:
		return fmt.Errorf("%q is no member of type %s: want a name", member, dns.TypeToString[qtype])
	case isAddress:
		return w.addAddress(member, weight)
	}
	return w.addName(member, weight)
}

func (w *wanted) addAddress(member, weight string) error {
	line, err := weights.ParseLine(member, weight)
	if err != nil {
		return err
	}
	if w.list.Has(line.Targets) {
		return fmt.Errorf("%q is weighted twice: want it once", member)
	}
	w.list.Add(line)
	if line.Targets.IsSingleIP() {
		w.named = append(w.named, cidr.Word(line.Targets))
	}
	return nil
}

func (w *wanted) addName(member, weight string) error {
	if err := weights.CheckName(member); err != nil {
		return err
	}
	n, err := strconv.ParseUint(weight, 10, 16)
	if err != nil {
		return fmt.Errorf("bad weight %q for %s: want a whole number from 0 to %d", weight, member, weights.Max)
	}
	name := dns.CanonicalName(member)
	if _, again := w.names[name]; again {
		return fmt.Errorf("%q is weighted twice: want it once", member)
	}
	w.names[name] = uint16(n)
	return nil
}

// weight returns the weight of a member in an RRset of an owner.
func (w *wanted) weight(owner string, m memberID) uint16 {
	switch {
	case w.file != nil && m.addr.IsValid():
		return w.file.Of(dns.CanonicalName(owner), m.addr.Unmap(), time.Now())
	case w.list != nil && m.addr.IsValid():
		if weight, ok := w.list.Of(m.addr.Unmap()); ok {
			return weight
		}
	case w.names != nil:
		if weight, ok := w.names[dns.CanonicalName(m.target)]; ok {
			return weight
		}
	}
	return weights.Default
}

// missing returns the addresses that the command line names and that were not seen, of the families
// that a set can have. They are wanted too.
func (w *wanted) missing(v4, v6 bool, seen map[memberID]*member) (ids []memberID) {
	for _, text := range w.named {
		id := memberID{addr: netip.MustParseAddr(text)}
		if _, there := seen[id]; !there && (v4 && id.addr.Is4() || v6 && id.addr.Is6()) {
			ids = append(ids, id)
		}
	}
	return ids
}

// shares returns the share of the leads that is wanted of each member: by weight, or equal if all
// weigh nothing, as standbys that are alone do.
func (w *wanted) shares(owner string, ids []memberID) []float64 {
	shares, sum := make([]float64, len(ids)), 0.0
	for i, id := range ids {
		shares[i] = float64(w.weight(owner, id))
		sum += shares[i]
	}
	for i := range shares {
		if sum == 0 {
			shares[i] = 1 / float64(len(ids))
		} else {
			shares[i] /= sum
		}
	}
	return shares
}

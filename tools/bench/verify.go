// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/tools/internal/ask"
)

// answerWithin is long, because the machine may be busy.
const answerWithin = 5 * time.Second

// someNames is how many names of a work are verified if it has many.
const someNames = 5

// verify says what is wrong with the answers of a server: the rcode, truncation, the number of
// records, the addresses, or that they do not take turns as they should.
func verify(ctx context.Context, s *site, w Work) (err error) {
	names := w.names()
	step := max(1, len(names)/someNames)
	for i := 0; i < len(names); i += step {
		n := names[i]
		if err := verifyName(ctx, s, w, n); err != nil {
			return fmt.Errorf("%s: %w", n.fqdn(), err)
		}
	}
	return nil
}

func verifyName(ctx context.Context, s *site, w Work, n zoneName) error {
	records := s.server.recordsOf(w)
	switch s.server.Order {
	case Strict:
		const times = 3
		return verifyShares(ctx, s, n, records, times*len(n.addrs), func(int) int { return times })
	case Weighted:
		sum := 0
		for i := range n.addrs {
			sum += weight(i)
		}
		return verifyShares(ctx, s, n, records, 2*sum, func(i int) int { return 2 * weight(i) })
	case Sticky:
		return verifySticky(ctx, s, n, records)
	case Moves:
		return verifyMoves(ctx, s, n, records)
	default:
		_, err := lead(ctx, s.port, "127.0.0.1", n, records)
		return err
	}
}

// verifyShares asks some times and compares how often each address leads with its share.
func verifyShares(ctx context.Context, s *site, n zoneName, records, questions int, want func(i int) int) error {
	led := make([]int, len(n.addrs))
	for range questions {
		i, err := lead(ctx, s.port, "127.0.0.1", n, records)
		if err != nil {
			return err
		}
		led[i]++
	}
	for i, got := range led {
		if got != want(i) {
			return fmt.Errorf("%s leads %d of %d answers, want %d", n.addrs[i], got, questions, want(i))
		}
	}
	return nil
}

// verifyMoves wants at least two addresses to lead. A shuffle of three gives the same lead 40 times
// with a probability of 3^-39.
func verifyMoves(ctx context.Context, s *site, n zoneName, records int) error {
	first := -1
	for range 40 {
		i, err := lead(ctx, s.port, "127.0.0.1", n, records)
		if err != nil {
			return err
		}
		if first < 0 {
			first = i
		}
		if i != first {
			return nil
		}
	}
	return fmt.Errorf("%s leads all of 40 answers, want others too", n.addrs[first])
}

// verifySticky wants clients of one network to be led by one address, and not all networks by the
// same.
func verifySticky(ctx context.Context, s *site, n zoneName, records int) error {
	var leads []int
	for net := range 40 {
		a, err := lead(ctx, s.port, fmt.Sprintf("127.9.%d.1", net), n, records)
		if err != nil {
			return err
		}
		b, err := lead(ctx, s.port, fmt.Sprintf("127.9.%d.2", net), n, records)
		if err != nil {
			return err
		}
		if a != b {
			return fmt.Errorf("127.9.%d.1 is led by %s and 127.9.%d.2 by %s, want the same", net, n.addrs[a], net, n.addrs[b])
		}
		leads = append(leads, a)
	}
	if slices.Min(leads) == slices.Max(leads) {
		return fmt.Errorf("%s leads the answers of 40 networks, want others too", n.addrs[leads[0]])
	}
	return nil
}

// lead asks a server once from an address, and returns which address of the name leads the answer.
func lead(ctx context.Context, port int, from string, n zoneName, records int) (int, error) {
	r, _, err := ask.Addresses(ctx, fmt.Sprintf("127.0.0.1:%d", port), n.fqdn(), netip.MustParseAddr(from), answerWithin)
	if r == nil {
		return 0, err
	}
	return checkAnswer(r, n, records)
}

// checkAnswer says what is wrong with an answer, and otherwise which address leads.
func checkAnswer(r *dns.Msg, n zoneName, records int) (int, error) {
	if r.Rcode != dns.RcodeSuccess || r.Truncated {
		return 0, fmt.Errorf("%s, truncated %t: want NOERROR, false", dns.RcodeToString[r.Rcode], r.Truncated)
	}
	if len(r.Answer) != records || len(r.Ns) > 0 {
		return 0, fmt.Errorf("%d records in the answer section and %d in the authority section, want %d and 0", len(r.Answer), len(r.Ns), records)
	}
	seen := make(map[int]bool)
	first := -1
	for _, rr := range r.Answer {
		a, ok := rr.(*dns.A)
		if !ok {
			return 0, fmt.Errorf("%s in the answer, want A records", dns.TypeToString[rr.Header().Rrtype])
		}
		addr, _ := netip.AddrFromSlice(a.A.To4())
		i := slices.Index(n.addrs, addr)
		if i < 0 || seen[i] {
			return 0, fmt.Errorf("%s in the answer, want each of %d addresses once at most", addr, len(n.addrs))
		}
		seen[i] = true
		if first < 0 {
			first = i
		}
	}
	return first, nil
}

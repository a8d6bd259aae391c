// SPDX-License-Identifier: Apache-2.0

package fleet

// Verdict is what a replica or the fleet says about an endpoint.
type Verdict uint8

// The verdicts. They travel in messages as these numbers.
const (
	None Verdict = iota // no verdict
	Up
	Down
	NoSay // the check does not count for the endpoint, because its agent cannot be understood
)

var verdictNames = [...]string{None: "none", Up: "up", Down: "down", NoSay: "no say"}

// String returns the verdict in a word.
func (v Verdict) String() string { return verdictNames[v&3] }

// quorumOf returns how many votes make a verdict on an endpoint with so many assigned replicas. The
// option quorum can make that fewer than a majority, never more. 0 stands for a majority.
func quorumOf(assigned, configured int) int {
	majority := assigned/2 + 1
	if configured > 0 {
		return min(configured, majority)
	}
	return majority
}

// tally returns the verdict that valid votes make. Without a quorum, or with one for each of two
// verdicts, the last verdict stays. Without a last one the first vote counts.
func tally(votes []Verdict, quorum int, last Verdict) Verdict {
	if v, certain := winner(votes, quorum); certain {
		return v
	}
	if last == None && len(votes) > 0 {
		return votes[0]
	}
	return last
}

// winner returns the verdict that a quorum votes for, and reports whether there is exactly one.
func winner(votes []Verdict, quorum int) (v Verdict, certain bool) {
	var count [4]int
	for _, one := range votes {
		count[one]++
	}
	for one := Up; one <= NoSay; one++ {
		if count[one] >= quorum {
			v, certain = one, v == None
		}
	}
	return v, certain
}

// differ reports whether votes disagree.
func differ(votes []Verdict) bool {
	for _, v := range votes {
		if v != votes[0] {
			return true
		}
	}
	return false
}

// Opinion is a vote, and what the endpoint said about itself with it. The zero value says nothing.
type Opinion struct {
	Verdict Verdict
	Drain   bool  // the endpoint wants no new clients
	Load    Load  // what Share means
	Share   uint8 // percent, at most 255
	BadLoad bool  // its last report of its load is not valid
}

// Load says how an endpoint reported its load.
type Load uint8

// The kinds of reports.
const (
	NoLoad      Load = iota
	Percentage       // of its weight that it can take
	Utilisation      // of its capacity
)

// code returns the opinion without its share in a byte, as it travels.
func (o Opinion) code() uint8 {
	code := uint8(o.Verdict) | uint8(o.Load)<<3
	if o.Drain {
		code |= 1 << 2
	}
	if o.BadLoad {
		code |= 1 << 5
	}
	return code
}

// opinionOf returns the opinion that a byte and a share stand for.
func opinionOf(code, share uint8) Opinion {
	o := Opinion{Verdict: Verdict(code & 3), Drain: code&(1<<2) != 0, Load: Load(code >> 3 & 3), Share: share, BadLoad: code&(1<<5) != 0}
	if o.Load == NoLoad || o.Load > Utilisation {
		o.Load, o.Share = NoLoad, 0
	}
	return o
}

// combined returns what opinions say together besides their verdicts: the majority about draining,
// the median of the load, and whether any has got a report that is not valid. Opinions without a
// report of their load do not count for the median.
func combined(all []Opinion, last Opinion) Opinion {
	draining, votes, bad := 0, 0, false
	var shares [3][]uint8
	for _, o := range all {
		if o.Verdict == None || o.Verdict == NoSay {
			continue
		}
		votes++
		if o.Drain {
			draining++
		}
		shares[o.Load] = append(shares[o.Load], o.Share)
		bad = bad || o.BadLoad
	}
	result := Opinion{Drain: last.Drain, BadLoad: bad}
	if 2*draining != votes {
		result.Drain = 2*draining > votes
	}
	for _, load := range []Load{Percentage, Utilisation} {
		if len(shares[load]) > 0 {
			result.Load, result.Share = load, median(shares[load])
		}
	}
	return result
}

// median returns the lower median.
func median(values []uint8) uint8 {
	for i := range values { // insertion sort: there are a few
		for j := i; j > 0 && values[j] < values[j-1]; j-- {
			values[j], values[j-1] = values[j-1], values[j]
		}
	}
	return values[(len(values)-1)/2]
}

// SPDX-License-Identifier: Apache-2.0

package spread

import "math"

// Verdicts, as people read them.
const (
	exact        = "exact"
	asWanted     = "as wanted"
	notAsWanted  = "not as wanted"
	tooFew       = "too few answers to tell"
	onlyOne      = "one member only"
	significance = 0.01 // as wanted is wrongly denied in so many runs
	leastWanted  = 5    // leads of each member that the chi-square distribution needs
	evenerThan   = 0.99 // p above which leads are closer to the wanted ones than by chance
)

// judgement is how leads compare with what is wanted.
type judgement struct {
	verdict   string
	chiSquare float64 // Pearson's; infinite if one leads that should not at all
	degrees   int     // of freedom
	p         float64 // probability that chance, with the wanted shares, strays as far or farther
	enough    int     // answers that it takes for a verdict
}

// judge compares leads with the shares that are wanted, which add up to 1. Strict rotation is far
// more even than chance: chi-square is then near 0 and p near 1. The verdict says exact if all lead
// as often as wanted, give or take one.
func judge(leads []int, shares []float64) judgement {
	j := judgement{verdict: asWanted, degrees: -1, p: 1}
	total, least, worst := 0, 1.0, 0.0
	for _, n := range leads {
		total += n
	}
	for i, n := range leads {
		if shares[i] == 0 && n == 0 {
			continue
		}
		want := float64(total) * shares[i]
		off := math.Abs(float64(n) - want)
		j.degrees++
		j.chiSquare += off * off / want
		worst = max(worst, off)
		if shares[i] > 0 {
			least = min(least, shares[i])
		}
	}
	j.p = upperTail(j.chiSquare, j.degrees)
	j.enough = int(math.Ceil(leastWanted/least - 1e-9))
	switch {
	case math.IsInf(j.chiSquare, 1):
		j.verdict, j.enough = notAsWanted, 0
	case total == 0:
		j.verdict = tooFew
	case j.degrees == 0:
		j.verdict = onlyOne
	case total < j.enough:
		j.verdict = tooFew
	case worst <= 1+1e-9:
		j.verdict = exact
	case j.p < significance:
		j.verdict = notAsWanted
	}
	return j
}

// upperTail returns the probability that a chi-square variable with some degrees of freedom is x or
// more: the regularized upper incomplete gamma function Q(degrees/2, x/2), which for whole degrees
// is a finite sum (NIST Handbook of Mathematical Functions, 8.4.10 and 8.4.12).
func upperTail(x float64, degrees int) float64 {
	if degrees < 1 || x <= 0 {
		return 1
	}
	if math.IsInf(x, 1) {
		return 0
	}
	y, sum, first := x/2, 0.0, 0.0
	if degrees%2 == 1 {
		sum, first = math.Erfc(math.Sqrt(y)), 0.5
	}
	for a := first; a < float64(degrees)/2; a++ {
		gamma, _ := math.Lgamma(a + 1)
		sum += math.Exp(a*math.Log(y) - y - gamma)
	}
	return min(sum, 1)
}

// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"fmt"
	"io"
	"time"
)

// progress draws how far a run is, on a terminal only. Owned by one goroutine.
type progress struct {
	out    io.Writer
	screen screen
	count  int // questions
	start  time.Time
	next   time.Time // when to draw again
}

// drawEvery is the time between two drawings.
const drawEvery = 100 * time.Millisecond

func newProgress(out io.Writer, s screen, count int) *progress {
	now := time.Now()
	return &progress{out: out, screen: s, count: count, start: now, next: now.Add(drawEvery)}
}

// draw draws what was counted so far, if it is time to.
func (p *progress) draw(t *tally, now time.Time) {
	if !p.screen.Terminal || now.Before(p.next) {
		return
	}
	p.next = now.Add(drawEvery)
	text := fmt.Sprintf(" %d of %d, %.0f a second", t.asked, p.count, float64(t.asked)/now.Sub(p.start).Seconds())
	if t.lost > 0 {
		text += fmt.Sprintf(", %d lost", t.lost)
	}
	width := max(0, min(40, p.screen.Width-len(text)-1))
	done := min(t.asked, p.count)
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s%s", p.screen.bar(float64(done)/float64(p.count), -1, width), text)
}

// clear takes the drawing away.
func (p *progress) clear() {
	if p.screen.Terminal {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}

// SPDX-License-Identifier: Apache-2.0

package spread

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// watch asks a round of questions now and then and says who came and went, until ctx is done. A
// round has several questions, so that a server which answers with some of the members shows them
// all.
func watch(ctx context.Context, o *options, s streams) error {
	a := newAsker(o)
	p := &presence{}
	ticks := time.NewTicker(o.every)
	defer ticks.Stop()
	if !o.json {
		_, _ = fmt.Fprintf(s.out, "%s at %s, %s every %v; interrupt to end\n", s.screen.Paint(terminal.Bold, o.name+" "+dns.TypeToString[o.qtype]), o.server,
			counted(o.count, "question", ""), o.every)
	}
	for ctx.Err() == nil {
		if seen, ok := look(ctx, a, o); ok {
			if err := tell(p.after(seen), o, s); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
	if o.json {
		return nil
	}
	for _, line := range p.summary(time.Now()) {
		_, _ = fmt.Fprintln(s.out, line)
	}
	return nil
}

// look asks one round. It is not ok if ctx ended it.
func look(ctx context.Context, a *asker, o *options) (seen sight, ok bool) {
	t := newTally(o.question())
	a.askAll(ctx, o.count, t.add)
	if ctx.Err() != nil {
		return sight{}, false
	}
	return t.sight(o.qtype, time.Now()), true
}

// sight returns what a round showed.
func (t *tally) sight(qtype uint16, at time.Time) sight {
	s := sight{at: at}
	if t.answered == 0 {
		s.trouble = "no answer in time"
		for problem := range t.problems {
			s.trouble = problem
		}
		return s
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.sets), setID.compare) {
		prefix := ""
		if qtype != dns.TypeA && qtype != dns.TypeAAAA {
			prefix = id.title(qtype) + ": "
		}
		for _, m := range slices.SortedFunc(maps.Keys(t.sets[id].members), memberID.compare) {
			s.members = append(s.members, prefix+m.String())
		}
	}
	s.rcode = names(t.rcodes, func(code int) string { return dns.RcodeToString[code] })
	s.ttl = names(t.ttls, func(ttl uint32) string { return strconv.FormatUint(uint64(ttl), 10) })
	return s
}

// names lists the keys of counts.
func names[K int | uint32](counts map[K]int, name func(K) string) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, name(k))
	}
	return strings.Join(words, " and ")
}

// eventColours are those of the events' signs.
var eventColours = map[string]terminal.Colour{"came": terminal.Green, "went": terminal.Red, "silent": terminal.Red, "answers": terminal.Green, "rcode": terminal.Yellow, "ttl": terminal.Yellow}

// tell writes events, a line each.
func tell(events []event, o *options, s streams) error {
	for _, e := range events {
		if o.json {
			if err := json.NewEncoder(s.out).Encode(e); err != nil {
				return err
			}
			continue
		}
		if _, err := io.WriteString(s.out, e.line(s.screen)); err != nil {
			return err
		}
	}
	return nil
}

// line returns an event as text.
func (e event) line(s screen) string {
	at := e.At.Format("15:04:05.0")
	sign := map[string]string{"came": "+ " + e.Member, "went": "- " + e.Member, "silent": "! no answers", "answers": "! answers", "rcode": "! rcode", "ttl": "! TTL"}[e.Event]
	line := at + "  " + s.Paint(eventColours[e.Event], sign)
	switch {
	case e.Detail == "":
		return line + "\n"
	case e.Member != "":
		return line + " (" + e.Detail + ")\n"
	case e.Event == "silent":
		return line + ": " + e.Detail + "\n"
	}
	return line + " " + e.Detail + "\n"
}

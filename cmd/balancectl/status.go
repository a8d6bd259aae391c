// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
	"github.com/seed-f1518d44/balance/internal/statuspage"
	"github.com/seed-f1518d44/balance/internal/text"
)

// runStatus is "balancectl status".
func runStatus(ctx context.Context, args []string, s streams) (status int, err error) {
	flags := newFlags("status", "[flags] [NAME...]", "Shows the names in use, or those given: their members, verdicts and shares.\n"+
		"Exit status: 0 without problems, 1 if there are any, 2 if the page cannot be read.", s)
	at := flags.atFlag()
	asJSON := flags.Bool("json", false, "write the page's JSON document, one a line if there are several pages")
	watch := flags.Bool("watch", false, "show it again until interrupted")
	every := flags.Duration("every", 2*time.Second, "time between two looks of -watch")
	only, err := flags.words(args)
	if err != nil {
		return 0, err
	}
	if *every <= 0 {
		return 0, fmt.Errorf("-every %v: want more than 0", *every)
	}
	for {
		var shown bytes.Buffer
		status, err := showAll(ctx, at.all(), only, *asJSON, streams{&shown, s.err, s.screen})
		if *watch && s.screen.Terminal && err == nil {
			s.printf("%s", clearScreen)
		}
		s.printf("%s", shown.String())
		if !*watch || ctx.Err() != nil {
			return status, err
		}
		if err != nil { // it may come back
			s.complain("balancectl status: %v\n", err)
		}
		select {
		case <-time.After(*every):
		case <-ctx.Done():
			return status, nil
		}
	}
}

// clearScreen moves a terminal's cursor home and clears what follows (ECMA-48).
const clearScreen = "\x1b[H\x1b[J"

// showAll shows pages one after the other. One that cannot be read keeps no other from being shown.
func showAll(ctx context.Context, all pages, only []string, asJSON bool, s streams) (status int, err error) {
	for i, at := range all {
		if !asJSON {
			s.printf("%s", all.heading(i))
		}
		one, problem := showStatus(ctx, at, only, asJSON, len(all) > 1, s)
		status, err = max(status, one), errors.Join(err, problem)
	}
	if err != nil {
		status = exitFailure
	}
	return status, err
}

func showStatus(ctx context.Context, at page, only []string, asJSON, inLine bool, s streams) (status int, err error) {
	d, raw, err := at.get(ctx)
	if err != nil {
		return 0, err
	}
	if len(d.Problems) > 0 {
		status = exitNot
	}
	if !asJSON {
		s.printf("%s", table(d, only, s.screen))
		return status, nil
	}
	shown := bytes.NewBuffer(bytes.TrimSpace(raw))
	if inLine {
		shown = new(bytes.Buffer)
		if err := json.Compact(shown, raw); err != nil {
			return 0, err
		}
	}
	_, err = fmt.Fprintln(s.out, shown)
	return status, err
}

// table writes a document for people.
func table(d *statuspage.Document, only []string, on terminal.Screen) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, up for %s\n", d.Process.Host, d.Process.Version, short(d.Time.Sub(d.Process.Started)))
	for _, p := range d.Problems {
		what := strings.TrimSpace(p.Zone + " " + strings.TrimPrefix(p.Text, p.Zone+" "))
		b.WriteString(on.Paint(terminal.Red, "problem: "+what) + "\n")
	}
	if d.Fleet != nil {
		b.WriteString(fleetLine(d.Fleet, on) + "\n")
	}
	found := false
	for i := range d.Names {
		if wants(only, d.Names[i].Name) {
			writeName(&b, d, &d.Names[i], on)
			found = true
		}
	}
	if !found {
		b.WriteString("\n" + nothingOf(only) + "\n")
	}
	if d.NamesOmitted > 0 {
		fmt.Fprintf(&b, "\n%d more names\n", d.NamesOmitted)
	}
	return b.String()
}

// fleetLine says who is in the fleet, and on how many endpoints replicas disagree.
func fleetLine(f *statuspage.Fleet, on terminal.Screen) string {
	var replicas []string
	disagree := 0
	for _, c := range f.Checks {
		disagree += c.Differ
	}
	for i := range f.Replicas {
		replicas = append(replicas, replicaText(&f.Replicas[i], f.Replica))
	}
	if f.ReplicasOmitted > 0 {
		replicas = append(replicas, fmt.Sprintf("%d more", f.ReplicasOmitted))
	}
	line := fmt.Sprintf("fleet %s, %s: %s", f.Name, text.Count(len(f.Replicas)+f.ReplicasOmitted, "replica"), strings.Join(replicas, ", "))
	if disagree == 0 {
		return line
	}
	return line + on.Paint(terminal.Yellow, "; they disagree on "+text.Count(disagree, "endpoint"))
}

// replicaText names a replica, and says what is special about it.
func replicaText(r *statuspage.Replica, self string) string {
	var about []string
	if r.Name == self {
		about = append(about, "this one")
	}
	if r.Locality != "" {
		about = append(about, "in "+r.Locality)
	}
	if notes := r.Notes(); notes != "" {
		about = append(about, notes)
	}
	if len(about) == 0 {
		return r.Name
	}
	return r.Name + " (" + strings.Join(about, ", ") + ")"
}

// nothingOf says that no name is in use, or none of some.
func nothingOf(only []string) string {
	if len(only) == 0 {
		return "no name is in use: no client has asked for one"
	}
	return fmt.Sprintf("not in use: %s; \"balancectl why NAME\" asks for a name anyway", strings.Join(only, ", "))
}

// wants reports whether a name is among some, or there are none.
func wants(only []string, name string) bool {
	for _, o := range only {
		if strings.EqualFold(strings.TrimSuffix(o, "."), strings.TrimSuffix(name, ".")) {
			return true
		}
	}
	return len(only) == 0
}

func writeName(b *strings.Builder, d *statuspage.Document, n *statuspage.Name, on terminal.Screen) {
	about := d.Rules[n.Rule].Policy
	if n.Answer != "members" {
		about += ", " + strings.ReplaceAll(n.Answer, "_", " ")
	}
	switch {
	case n.Failback != "":
		about += ", " + n.Failback
	case n.FailedOver:
		about += fmt.Sprintf(", failed over to tier %d", n.Tier)
	}
	fmt.Fprintf(b, "\n%s  %s, %s in %s\n", on.Paint(terminal.Bold, n.Name+" "+n.Type), about, text.Count(n.Answers, "answer"), short(time.Duration(d.Window)*time.Second))
	var plain bytes.Buffer
	w := tabwriter.NewWriter(&plain, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "  member\tverdict\tfor\tstate\tweight\tleads\twanted\t")
	for i := range n.Members {
		m := &n.Members[i]
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.Member, m.Verdict, age(d.Time, m.Since), m.State, m.Weight, percent(m.Leads.Served), percent(m.Leads.Wanted), because(m))
	}
	_ = w.Flush() // into memory
	for i, line := range strings.Split(strings.TrimSuffix(plain.String(), "\n"), "\n") {
		line = strings.TrimRight(line, " ")
		if i == 0 {
			line = on.Paint(terminal.Faint, line)
		} else {
			line = paintMember(&n.Members[i-1], line, on)
		}
		b.WriteString(line + "\n")
	}
	if n.MembersOmitted > 0 {
		fmt.Fprintf(b, "  %d more members\n", n.MembersOmitted)
	}
}

func paintMember(m *statuspage.Member, line string, on terminal.Screen) string {
	switch {
	case m.Verdict == "down" || m.State == "down":
		return on.Paint(terminal.Red, line)
	case m.Verdict == "unknown" || m.State != "answers":
		return on.Paint(terminal.Yellow, line)
	}
	return line
}

// because says why a member is as it is: the override, or what failed last, which votes differ and
// what changes its share.
func because(m *statuspage.Member) string {
	if o := m.Override; o != nil {
		reason := o.What + " at " + o.Where
		if o.Until != nil {
			reason += " until " + o.Until.Format(time.RFC3339)
		}
		if o.Why != "" {
			reason += ": " + o.Why
		}
		return reason
	}
	var reasons []string
	for _, p := range m.Probes {
		if p.Error != "" && (p.Verdict == "down" || p.Failing) {
			reasons = append(reasons, p.Check+": "+p.Error)
			break
		}
	}
	for _, p := range m.Probes {
		if p.Votes != nil && p.Votes.Differ {
			reasons = append(reasons, p.Votes.String())
		}
	}
	return strings.Join(append(reasons, shareReasons(m)...), "; ")
}

// shareReasons says for how long a member is damped, and which options give it a part of its weight.
func shareReasons(m *statuspage.Member) (reasons []string) {
	for _, p := range m.Probes {
		if p.Reuse != nil && m.State == "damped" {
			reasons = append(reasons, "it flaps: out until "+p.Reuse.Format(time.RFC3339))
		}
	}
	if m.Ramp > 0 && m.State == "answers" {
		reasons = append(reasons, fmt.Sprintf("slow_start %d %%", m.Ramp))
	}
	if m.LoadWeights > 0 {
		reasons = append(reasons, fmt.Sprintf("load_weights %d %%", m.LoadWeights))
	}
	return reasons
}

func age(now time.Time, since *time.Time) string {
	if since == nil {
		return "-"
	}
	return short(now.Sub(*since))
}

// short writes a duration in its largest two units.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return withoutZeroSeconds(d.Truncate(time.Second))
	case d < 48*time.Hour:
		return withoutZeroSeconds(d.Truncate(time.Minute))
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// withoutZeroSeconds writes 3m0s as 3m, and 3m10s as it is.
func withoutZeroSeconds(d time.Duration) string {
	if d%time.Minute != 0 {
		return d.String()
	}
	return strings.TrimSuffix(d.String(), "0s")
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// SPDX-License-Identifier: Apache-2.0

package observability

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
)

// The dashboard is the one that its program writes.
func TestDashboardIsCurrent(t *testing.T) {
	want, err := exec.CommandContext(t.Context(), "go", "run", "./dashboard").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("dashboard.json is not what ./dashboard writes: make dashboard")
	}
}

// Panels lie on Grafana's grid of 24 columns, none over another, and have titles, numbers and a
// data source that the user chooses.
func TestDashboardLayout(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID           string
		SchemaVersion int
		Panels        []struct {
			ID         int
			Type       string
			Title      string
			GridPos    struct{ H, W, X, Y int }
			Datasource struct{ UID string }
			Targets    []struct {
				RefID      string
				Expr       string
				Datasource struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	taken, ids, titles := map[[2]int]string{}, map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		g := p.GridPos
		if ids[p.ID] || titles[p.Title] || p.ID == 0 || p.Title == "" || g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("panel %d %q is at %+v, want a number, a title and a place of its own", p.ID, p.Title, g)
		}
		ids[p.ID], titles[p.Title] = true, true
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s %q has %d queries", p.Type, p.Title, len(p.Targets))
		}
		for i, target := range p.Targets {
			if target.RefID != string(rune('A'+i)) || target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				t.Errorf("%q: query %s asks %s, want A, B, ... and the variable", p.Title, target.RefID, target.Datasource.UID)
			}
		}
	}
	if d.UID == "" || d.SchemaVersion < 36 {
		t.Errorf("uid %q and schema %d, want one and at least 36", d.UID, d.SchemaVersion)
	}
}

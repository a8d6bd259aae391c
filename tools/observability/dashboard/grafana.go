// SPDX-License-Identifier: Apache-2.0

package main

// The part of Grafana's dashboard schema that is used, in its own words.

// object is a JSON object without fixed fields, or with few of many set.
type object = map[string]any

type dashboard struct {
	UID           string   `json:"uid"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	Tags          []string `json:"tags"`
	Timezone      string   `json:"timezone"`
	Editable      bool     `json:"editable"`
	GraphTooltip  int      `json:"graphTooltip"` // 1: a crosshair over all panels
	Refresh       string   `json:"refresh"`
	SchemaVersion int      `json:"schemaVersion"`
	Time          object   `json:"time"`
	Annotations   object   `json:"annotations"`
	Templating    object   `json:"templating"`
	Links         []object `json:"links"`
	Panels        []*panel `json:"panels"`
}

type panel struct {
	ID              int      `json:"id"`
	Type            string   `json:"type"`
	Title           string   `json:"title"`
	Description     string   `json:"description,omitempty"`
	GridPos         gridPos  `json:"gridPos"`
	Datasource      *source  `json:"datasource,omitempty"`
	Targets         []target `json:"targets,omitempty"`
	FieldConfig     object   `json:"fieldConfig,omitempty"`
	Options         object   `json:"options,omitempty"`
	Transformations []object `json:"transformations,omitempty"`
	Collapsed       *bool    `json:"collapsed,omitempty"` // of rows
	Panels          *[]panel `json:"panels,omitempty"`    // of rows that are collapsed
}

// gridPos is a place on a grid of 24 columns.
type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type target struct {
	RefID        string  `json:"refId"`
	Datasource   *source `json:"datasource"`
	Expr         string  `json:"expr"`
	LegendFormat string  `json:"legendFormat,omitempty"`
	Format       string  `json:"format,omitempty"` // time_series, table or heatmap
	Instant      bool    `json:"instant,omitempty"`
	Range        bool    `json:"range,omitempty"`
}

// prometheus is the data source that the user chooses.
var prometheus = &source{Type: "prometheus", UID: "${datasource}"}

// layout puts panels beside each other, from left to right and top to bottom.
type layout struct {
	panels  []*panel
	x, y, h int // where the next one goes, and the height of those beside it
}

// row begins a section.
func (l *layout) row(title string) {
	l.breakLine()
	open := false
	l.panels = append(l.panels, &panel{ID: len(l.panels) + 1, Type: "row", Title: title, GridPos: gridPos{H: 1, W: 24, Y: l.y}, Collapsed: &open, Panels: &[]panel{}})
	l.y++
}

func (l *layout) breakLine() { l.x, l.y, l.h = 0, l.y+l.h, 0 }

// add adds a panel of some width and height.
func (l *layout) add(width, height int, p *panel) {
	if l.x+width > 24 {
		l.breakLine()
	}
	p.ID, p.GridPos = len(l.panels)+1, gridPos{H: height, W: width, X: l.x, Y: l.y}
	l.panels = append(l.panels, p)
	l.x, l.h = l.x+width, max(l.h, height)
}

// query asks for what is drawn over time; instant for what is now.
func query(expr, legend string) target { return target{Expr: expr, LegendFormat: legend, Range: true} }
func instant(expr string) target       { return target{Expr: expr, Instant: true} }
func table(expr string) target         { return target{Expr: expr, Instant: true, Format: "table"} }

func targets(queries []target) []target {
	for i := range queries {
		queries[i].RefID, queries[i].Datasource = string(rune('A'+i)), prometheus
	}
	return queries
}

// stat shows a number for each query: green, or in a colour from a threshold on.
func stat(title, description, unit, colour string, from any, queries ...target) *panel {
	steps := []object{{"color": "green", "value": nil}}
	if from != nil {
		steps = append(steps, object{"color": colour, "value": from})
	}
	return &panel{
		Type: "stat", Title: title, Description: description, Datasource: prometheus, Targets: targets(queries),
		FieldConfig: object{"defaults": object{
			"unit": unit, "color": object{"mode": "thresholds"}, "thresholds": object{"mode": "absolute", "steps": steps}, "noValue": "0",
		}, "overrides": []object{}},
		Options: object{
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
			"colorMode":     "background", "graphMode": "none", "justifyMode": "center", "orientation": "auto", "textMode": "auto",
			"wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
		},
	}
}

// series shows lines over time.
func series(title, description, unit string, stacked bool, queries ...target) *panel {
	stacking, fill := "none", 0
	if stacked {
		stacking, fill = "normal", 40
	}
	return &panel{
		Type: "timeseries", Title: title, Description: description, Datasource: prometheus, Targets: targets(queries),
		FieldConfig: object{"defaults": object{
			"unit": unit, "min": 0, "color": object{"mode": "palette-classic"},
			"custom": object{
				"drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "spanNulls": false,
				"stacking": object{"mode": stacking, "group": "A"},
			},
		}, "overrides": []object{}},
		Options: object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}

// coloured gives the series with some names colours of their own.
func (p *panel) coloured(colours ...[2]string) *panel {
	overrides := []object{}
	for _, c := range colours {
		overrides = append(overrides, object{
			"matcher":    object{"id": "byName", "options": c[0]},
			"properties": []object{{"id": "color", "value": object{"mode": "fixed", "fixedColor": c[1]}}},
		})
	}
	p.FieldConfig["overrides"] = overrides
	return p
}

// variable is one that the user chooses from the values of a label.
func variable(name, label, metric string) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": prometheus,
		"query":      object{"query": "label_values(" + metric + ", " + name + ")", "refId": name},
		"definition": "label_values(" + metric + ", " + name + ")",
		"refresh":    2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
		"current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		"options": []object{}, "hide": 0, "regex": "", "skipUrlSync": false,
	}
}

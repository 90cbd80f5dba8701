package main

import (
	"fmt"
	"slices"
	"strings"
)

// report is what a run measured.
type report struct {
	Cores   int      `json:"cores"`
	Photo   string   `json:"photo"`
	Rounds  int      `json:"rounds"`
	Figures []figure `json:"figures"`
}

// figure is one measured quantity: the median over rounds, and their spread.
type figure struct {
	Section string  `json:"section"`
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Median  float64 `json:"median"`
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
	Aim     string  `json:"aim,omitempty"` // what the project wants it to be
}

// heading starts a table.
func (r *report) heading(title string) {
	fmt.Printf("\n%s\n%s\n", title, strings.Repeat("-", len(title)))
}

// add prints a figure of the rounds' samples and keeps it.
func (r *report) add(section, name, unit, aim string, samples ...float64) {
	f := figure{Section: section, Name: name, Unit: unit, Aim: aim, Median: median(samples), Least: slices.Min(samples), Most: slices.Max(samples)}
	r.Figures = append(r.Figures, f)
	spread := ""
	if f.Least != f.Most {
		spread = fmt.Sprintf("%s to %s", short(f.Least), short(f.Most))
	}
	if aim != "" {
		aim = "aim: " + aim
	}
	fmt.Printf("  %-52s %9s %-8s %-20s %s\n", name, short(f.Median), unit, spread, aim)
}

// short writes a number with three significant digits or so.
func short(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.3f", x)
	}
}

// median is the middle sample, or the mean of the two middle ones.
func median(samples []float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// ratios divides round by round.
func ratios(above, below []float64) []float64 {
	out := make([]float64, len(above))
	for i := range above {
		out[i] = above[i] / below[i]
	}
	return out
}

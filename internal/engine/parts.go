package engine

import (
	"slices"

	"faultline/graph"
)

// rows returns the size of a part.
func rows(p *graph.Part) int { return len(p.Edges) + len(p.Details) + len(p.Nodes) }

// batchOf returns how many parts from the first on make one batch: at least one, when there is any.
func batchOf(parts []graph.Part) int {
	total := 0
	for i := range parts {
		total += rows(&parts[i])
		if total > batchRows && i > 0 {
			return i
		}
	}
	return len(parts)
}

// closedParts returns the closed ones of parts, oldest first, and their rows.
func closedParts(parts []graph.Part) (closed []graph.Part, total int) {
	for i := range parts {
		if !parts[i].Open {
			closed = append(closed, parts[i])
			total += rows(&parts[i])
		}
	}
	slices.SortStableFunc(closed, func(a, b graph.Part) int { return a.Start.Compare(b.Start) })
	return closed, total
}

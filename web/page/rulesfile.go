package page

import (
	"fmt"
	"time"

	"faultline/internal/rules"
)

// RulesFile is the page of the rules file.
type RulesFile struct {
	Shell
	Path  string // "" in a process that has none
	Text  string // in force, or to be tried
	Since time.Time
	Now   time.Time
	Error string // why the file as it is now is not in force
	// Preview is what Text would change, nil before anybody asked; Failed says why that could not be had.
	Preview *rules.Preview
	Failed  string
}

// rulesExample is shown where nothing is written yet.
const rulesExample = `services:
  - match: {name: "payments-(blue|green)"}
    rename: payments
ignore:
  - operation: "GET /(healthz|readyz|livez)"
externals:
  - host: "*.tenant.example.com"
    name: tenant
sampling:
  - service: shop/checkout
    rate: 10
`

// nothing reports whether a preview changes nothing.
func nothing(p *rules.Preview) bool {
	return len(p.Faults)+len(p.Renamed)+len(p.Merged)+len(p.Ignored)+len(p.Operations)+len(p.Sampled) == 0
}

// maxPreview is how many lines of a kind the page shows; all are in the API.
const maxPreview = 200

// first returns the first lines of a list, and how many more there are.
func first[T any](list []T) (shown []T, more string) {
	if len(list) <= maxPreview {
		return list, ""
	}
	return list[:maxPreview], fmt.Sprintf("and %d more", len(list)-maxPreview)
}

// inEnvironment names an environment behind something, "" for the one without a name.
func inEnvironment(env string) string {
	if env == "" {
		return ""
	}
	return "(" + env + ")"
}

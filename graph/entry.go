package graph

import "strings"

// entrySeparator stands between the parts of an entry's name. Ids and operations have no control characters.
const entrySeparator = "\t"

// EntryName returns the name of a detail of the dimension Entry: what users asked for, by the id of the service that
// they asked and its operation.
func EntryName(service, operation string) string { return service + entrySeparator + operation }

// CutEntry is the inverse of EntryName; what is no such name is an operation of no service.
func CutEntry(name string) (service, operation string) {
	if service, operation, ok := strings.Cut(name, entrySeparator); ok {
		return service, operation
	}
	return "", name
}

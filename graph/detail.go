package graph

import "strings"

// partSeparator stands between the parts of a detail's name that has two. Ids, operations and versions have no control
// characters.
const partSeparator = "\t"

// EntryName returns the name of a detail of the dimension Entry: what users asked for, by the id of the service that
// they asked and its operation.
func EntryName(service, operation string) string { return service + partSeparator + operation }

// CutEntry is the inverse of EntryName; what is no such name is an operation of no service.
func CutEntry(name string) (service, operation string) {
	if service, operation, ok := strings.Cut(name, partSeparator); ok {
		return service, operation
	}
	return "", name
}

// PairName returns the name of a detail of the dimension VersionPair: the caller's version and the callee's. Either is
// "" where it is not known: the callee's also where nobody answered.
func PairName(caller, callee string) string { return caller + partSeparator + callee }

// CutPair is the inverse of PairName; what is no such name is the caller's and the callee's alike, as Other is.
func CutPair(name string) (caller, callee string) {
	if caller, callee, ok := strings.Cut(name, partSeparator); ok {
		return caller, callee
	}
	return name, name
}

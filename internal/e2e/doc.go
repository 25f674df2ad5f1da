// Package e2e holds the end-to-end tests: each starts the built collector on free loopback ports and an empty folder,
// sends it what real clients send (the OpenTelemetry SDKs for Go and JavaScript, Jaeger's HotROD, raw bytes), and asks
// its HTTP API what it made of that. Nothing here looks inside; what is asserted is what users are promised.
//
// The tests carry the build tag e2e. FAULTLINE_COLLECTOR names the binary, else they build it. FAULTLINE_CLIENTS names
// the folder of fetched foreign clients (`make clients`); without it their tests skip, unless FAULTLINE_REQUIRE_CLIENTS
// is 1. They take minutes, because SDKs send only every five seconds.
package e2e

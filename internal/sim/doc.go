// Package sim makes traffic whose truth is known, for the demo, the tests and the benchmarks.
//
// [Load] hands out pre-encoded OTLP requests as fast as a benchmark can send them; [Generator] and [Run] play a shop of
// fifteen services with databases, queues and faults that come and go. Both write down beside the spans what every edge
// of the map must show ([Truth]), in the node ids and by the counting rules of the product's contract, from the
// generator's own knowledge and never by reading spans back.
//
// Everything but [Run], [Drive] and the exporters is deterministic by its seed and touches neither clock nor network.
// The package promises traffic of the shape real SDKs send, not the statistics of any particular real system.
package sim

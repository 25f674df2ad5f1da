package doctor

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"faultline/graph"
)

// Counter names what is counted of a service's spans. Everything is counted in spans as they came, not in what they
// stand for.
type Counter uint8

// What single spans say.
const (
	Spans    Counter = iota
	Requests         // requests that brought spans of the service
	Internal         // spans of each kind
	Server
	Client
	Producer
	Consumer
	Unspecified
	ServerRoots   // SERVER spans without a parent
	ClientRoots   // CLIENT spans without a parent, calls to databases and queues left out
	LocalParents  // SERVER spans whose flags say that their parent is of the same process
	Named         // spans that carry a name that exists in an old and a new convention
	OldHTTP       // of these, HTTP spans with old names alone
	OldDB         // of these, database spans with old names alone
	OldPeer       // of these, other spans that name their peer in the old way alone
	InternalCalls // INTERNAL and unspecified spans that carry method and address of a call
	Nameless      // spans of a resource without a service.name
	NoInstance    // spans of a resource that does not say which instance it is
	ServerWeight  // how many spans the SERVER spans stand for
	ClientWeight  // how many spans the CLIENT spans stand for
	Ahead         // spans that ended more than a second after they came
	Chosen        // spans that were kept because of what became of their trace
	Late          // the first of NumLates counters: spans by how long after their end they came, see LateBucket
)

// NumLates is how many counters tell how late spans come.
const NumLates = 12

// What spans say together. These are signed: what a late span proves wrong is taken back.
const (
	UnseenParents   Counter = Late + NumLates + iota // SERVER spans whose parent did not come
	CutParents                                       // of these, those whose trace has a root here
	ExtraRoots                                       // spans without a parent in a trace that has an earlier one
	Unanswered                                       // calls of others to the service that went well and have no SERVER span; peers: the callers
	Nobody                                           // CLIENT spans that name no peer and that nobody answered
	BareCalls                                        // calls of the service that have no CLIENT span, only what is above it; peers: the callees
	InternalAnswers                                  // calls of others that an INTERNAL span answers; peers: the callers
	Skewed                                           // SERVER spans that cannot lie as the clocks say; peers: the callers
	NumCounters
)

var counterNames = [NumCounters]string{
	Spans: "spans", Requests: "requests", Internal: "internal", Server: "server", Client: "client", Producer: "producer",
	Consumer: "consumer", Unspecified: "unspecified", ServerRoots: "server_roots", ClientRoots: "client_roots",
	LocalParents: "local_parents", Named: "named", OldHTTP: "old_http", OldDB: "old_db", OldPeer: "old_peer",
	InternalCalls: "internal_calls", Nameless: "nameless", NoInstance: "no_instance", ServerWeight: "server_weight",
	ClientWeight: "client_weight", Ahead: "ahead", Chosen: "chosen",
	Late: "late_0", Late + 1: "late_1", Late + 2: "late_2", Late + 3: "late_3", Late + 4: "late_4", Late + 5: "late_5",
	Late + 6: "late_6", Late + 7: "late_7", Late + 8: "late_8", Late + 9: "late_9", Late + 10: "late_10", Late + 11: "late_11",
	UnseenParents: "unseen_parents", CutParents: "cut_parents", ExtraRoots: "extra_roots", Unanswered: "unanswered",
	Nobody: "nobody", BareCalls: "bare_calls", InternalAnswers: "internal_answers", Skewed: "skewed",
}

// String returns the counter's name where evidence is kept.
func (c Counter) String() string { return counterNames[c%NumCounters] }

// Counts holds every counter.
type Counts [NumCounters]int64

// Add adds what another count says.
func (c *Counts) Add(o *Counts) {
	for i, n := range o {
		c[i] += n
	}
}

// lateUnit is about a quarter of a second, as a power of two of nanoseconds, so that a bucket is found by shifting.
const lateUnit = 28

// LateBucket returns the counter of a span that came so long after its end.
func LateBucket(late time.Duration) Counter {
	return Late + Counter(min(bits.Len64(uint64(max(late, 0))>>lateUnit), NumLates-1))
}

// Lateness returns how long after its end the median span came, to a factor of two; 0 when there are none.
func (c *Counts) Lateness() time.Duration {
	total, sum := int64(0), int64(0)
	for _, n := range c[Late : Late+NumLates] {
		total += n
	}
	for b, n := range c[Late : Late+NumLates] {
		if sum += n; n > 0 && 2*sum >= total {
			// Within its bucket, a value lies as far as its rank does.
			low, high := 0., float64(int64(1)<<lateUnit)
			if b > 0 {
				low = math.Ldexp(1, lateUnit+b-1)
				high = 2 * low
			}
			return time.Duration(low + (high-low)*(float64(total)/2-float64(sum-n))/float64(n)).Round(time.Millisecond)
		}
	}
	return 0
}

// Link is another service in the light of one counter.
type Link struct {
	Counter Counter
	Peer    graph.Node
}

// Seen is how often something was seen between two services.
type Seen struct {
	N int64
	// Offsets are how far the clocks differ, by OffsetBucket; of Skewed alone.
	Offsets map[int16]int64
}

// Buckets of clock offsets: eight to a doubling, from a millisecond on, negative ones for a clock that is behind.
const offsetsPerDoubling = 8

// OffsetBucket returns the bucket of an offset of a clock, 0 below a millisecond.
func OffsetBucket(offset time.Duration) int16 {
	ms := math.Abs(offset.Seconds() * 1e3)
	if ms < 1 {
		return 0
	}
	b := int16(math.Round(offsetsPerDoubling*math.Log2(ms))) + 1
	if offset < 0 {
		return -b
	}
	return b
}

// Offset returns the median offset, to 5 %.
func (s *Seen) Offset() time.Duration {
	total, sum := int64(0), int64(0)
	low, high := int16(math.MaxInt16), int16(math.MinInt16)
	for b, n := range s.Offsets {
		total += n
		low, high = min(low, b), max(high, b)
	}
	for b := int(low); b <= int(high); b++ {
		n := s.Offsets[int16(b)]
		if sum += n; n > 0 && 2*sum >= total {
			return offsetOf(b)
		}
	}
	return 0
}

func offsetOf(bucket int) time.Duration {
	if bucket == 0 {
		return 0
	}
	ms := math.Exp2(float64(max(bucket, -bucket)-1) / offsetsPerDoubling)
	return time.Duration(math.Copysign(ms, float64(bucket)) * 1e6)
}

// Evidence is what the spans of one service looked like during some time. Evidence of several times adds up, in any
// order.
type Evidence struct {
	Service  graph.Node
	Language string    // telemetry.sdk.language, of who sent last
	SDK      string    // telemetry.sdk.version, likewise
	Last     time.Time // when spans came last; zero when only others speak of the service
	Counts   Counts
	Links    map[Link]Seen
}

// Add adds what was seen of the same service at another time.
func (e *Evidence) Add(o *Evidence) {
	if o.Last.After(e.Last) {
		e.Language, e.SDK, e.Last = o.Language, o.SDK, o.Last
	}
	e.Counts.Add(&o.Counts)
	for l, s := range o.Links {
		e.Note(l, s)
	}
}

// Note adds what was seen between the service and another one.
func (e *Evidence) Note(l Link, s Seen) {
	if e.Links == nil {
		e.Links = map[Link]Seen{}
	}
	sum := e.Links[l]
	sum.N += s.N
	for b, n := range s.Offsets {
		if sum.Offsets == nil {
			sum.Offsets = map[int16]int64{}
		}
		sum.Offsets[b] += n
	}
	e.Links[l] = sum
}

// Evidence is kept in slots, so that what is older than Window can be let go.
const (
	SlotLength = 5 * time.Minute
	Slots      = 12
	Window     = Slots * SlotLength
)

// Slot is the evidence of a SlotLength.
type Slot struct {
	Start    time.Time
	Services []Evidence
}

// Sum adds up the evidence of the slots that lie within Window before now, by service, in order.
func Sum(slots []Slot, now time.Time) []Evidence {
	var recent []Evidence
	for i := range slots {
		if !slots[i].old(now) {
			recent = append(recent, slots[i].Services...)
		}
	}
	return merge(recent)
}

// Merge makes one slot of those that begin together, the oldest first, without those that lie before Window or are empty.
func Merge(slots []Slot, now time.Time) []Slot {
	slots = slices.Clone(slots)
	slices.SortStableFunc(slots, func(a, b Slot) int { return a.Start.Compare(b.Start) })
	var merged []Slot
	for _, s := range slots {
		switch last := len(merged) - 1; {
		case s.old(now), len(s.Services) == 0:
		case last >= 0 && merged[last].Start.Equal(s.Start):
			merged[last].Services = append(merged[last].Services, s.Services...)
		default:
			merged = append(merged, Slot{s.Start, slices.Clone(s.Services)})
		}
	}
	for i := range merged {
		merged[i].Services = merge(merged[i].Services)
	}
	return merged
}

// old reports whether a slot lies before Window.
func (s *Slot) old(now time.Time) bool { return now.Sub(s.Start) > Window }

// merge adds up the evidence of each service, in order.
func merge(evidence []Evidence) []Evidence {
	sum := make([]Evidence, 0, len(evidence))
	at := make(map[graph.Node]int, len(evidence))
	for i := range evidence {
		e := &evidence[i]
		have, ok := at[e.Service]
		if !ok {
			have = len(sum)
			at[e.Service] = have
			sum = append(sum, Evidence{Service: e.Service})
		}
		sum[have].Add(e)
	}
	slices.SortFunc(sum, func(a, b Evidence) int { return compareNodes(a.Service, b.Service) })
	return sum
}

package doctor

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"faultline/graph"
)

// StateKey is the name under which evidence is kept in a store.
const StateKey = "instrumentation"

// maxDecoded bounds what is read back: some hundred times what ten thousand services need.
const maxDecoded = 256 << 20

// The form in which evidence is kept: JSON with counters by name, so that a program with other counters reads it too,
// compressed.
type (
	keptSlot struct {
		Start    time.Time     `json:"start"`
		Services []keptService `json:"services"`
	}
	keptService struct {
		keptNode
		Language string           `json:"language,omitempty"`
		SDK      string           `json:"sdk,omitempty"`
		Last     time.Time        `json:"last"`
		Counts   map[string]int64 `json:"counts"`
		Links    []keptLink       `json:"links,omitempty"`
	}
	keptNode struct {
		Env       string `json:"env,omitempty"`
		Kind      string `json:"kind"`
		Namespace string `json:"namespace,omitempty"`
		Name      string `json:"name"`
	}
	keptLink struct {
		keptNode
		Of      string          `json:"of"`
		N       int64           `json:"n"`
		Offsets map[int16]int64 `json:"offsets,omitempty"`
	}
)

func keep(n graph.Node) keptNode {
	return keptNode{Env: n.Env, Kind: n.Kind.String(), Namespace: n.Namespace, Name: n.Name}
}

func (k keptNode) node() graph.Node {
	return graph.Node{Env: k.Env, Kind: graph.ParseNodeKind(k.Kind), Namespace: k.Namespace, Name: k.Name}
}

// Encode writes evidence for Decode, each slot by itself: what was encoded one after the other may be joined. The same
// evidence gives the same bytes.
func Encode(slots ...Slot) ([]byte, error) {
	var b bytes.Buffer
	for _, s := range slots {
		kept := keptSlot{Start: s.Start.UTC(), Services: make([]keptService, len(s.Services))}
		for k := range s.Services {
			kept.Services[k] = keepService(&s.Services[k])
		}
		z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		if err := json.NewEncoder(z).Encode(kept); err != nil {
			return nil, fmt.Errorf("encode evidence: %w", err)
		}
		if err := z.Close(); err != nil {
			return nil, fmt.Errorf("compress evidence: %w", err)
		}
	}
	return b.Bytes(), nil
}

func keepService(e *Evidence) keptService {
	k := keptService{keptNode: keep(e.Service), Language: e.Language, SDK: e.SDK, Last: e.Last.UTC(), Counts: map[string]int64{}}
	for c, n := range e.Counts {
		if n != 0 {
			k.Counts[Counter(c).String()] = n
		}
	}
	for _, l := range sortedLinks(e.Links) {
		s := e.Links[l]
		k.Links = append(k.Links, keptLink{keptNode: keep(l.Peer), Of: l.Counter.String(), N: s.N, Offsets: s.Offsets})
	}
	return k
}

// Decode reads what Encode wrote; counters that it does not know are left out.
func Decode(data []byte) ([]Slot, error) {
	if len(data) == 0 {
		return nil, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decompress evidence: %w", err)
	}
	counters := make(map[string]Counter, NumCounters)
	for c, name := range counterNames {
		counters[name] = Counter(c)
	}
	var slots []Slot
	for in := json.NewDecoder(io.LimitReader(z, maxDecoded)); ; {
		var kept keptSlot
		if err := in.Decode(&kept); errors.Is(err, io.EOF) {
			return slots, nil
		} else if err != nil {
			return nil, fmt.Errorf("decode evidence: %w", err)
		}
		slot := Slot{Start: kept.Start, Services: make([]Evidence, len(kept.Services))}
		for i := range kept.Services {
			slot.Services[i] = kept.Services[i].evidence(counters)
		}
		slots = append(slots, slot)
	}
}

func (k *keptService) evidence(counters map[string]Counter) Evidence {
	e := Evidence{Service: k.node(), Language: k.Language, SDK: k.SDK, Last: k.Last}
	for name, n := range k.Counts {
		if c, ok := counters[name]; ok {
			e.Counts[c] = n
		}
	}
	for _, l := range k.Links {
		if c, ok := counters[l.Of]; ok {
			e.Note(Link{c, l.node()}, Seen{l.N, l.Offsets})
		}
	}
	return e
}

// compareNodes orders nodes by environment, kind, namespace and name.
func compareNodes(a, b graph.Node) int {
	for _, c := range [...]int{strings.Compare(a.Env, b.Env), int(a.Kind) - int(b.Kind), strings.Compare(a.Namespace, b.Namespace)} {
		if c != 0 {
			return c
		}
	}
	return strings.Compare(a.Name, b.Name)
}

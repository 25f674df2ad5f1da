package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

// How critical a service is, is known after a restart before it sends again, for as long as it has not been away for too
// long; what it says then is newer.
func TestCriticalityOverRestarts(t *testing.T) {
	const day = 24 * time.Hour
	says := func(in *Intake, at time.Time, id byte, service, criticality string) {
		process := map[string]any{"service.criticality": criticality}
		feed(t, in, at, each(t, tspan{service: service, trace: id, id: 1, kind: kindServer, ms: 1, attrs: serve, resource: process})...)
	}
	in, _ := newIntake()
	says(in, epoch.Add(time.Second), 1, "shop/a", "critical")
	says(in, epoch.Add(time.Second), 2, "b", "low")
	a, b := graph.Node{Kind: graph.Service, Namespace: "shop", Name: "a"}, graph.Node{Kind: graph.Service, Name: "b"}
	state := in.State(epoch.Add(time.Minute))
	if again := in.State(epoch.Add(2 * time.Minute)); string(again[criticalityKey]) != string(state[criticalityKey]) {
		t.Error("it is written again although nothing changed")
	}

	second, _ := newIntake()
	if err := second.Restore(epoch.Add(time.Hour), state); err != nil {
		t.Fatal(err)
	}
	if a, b := second.Criticality(a), second.Criticality(b); a != graph.CriticalityCritical || b != graph.CriticalityLow {
		t.Errorf("after a restart: %q and %q", a, b)
	}
	says(second, epoch.Add(time.Second), 3, "b", "high")
	if got := second.Criticality(b); got != graph.CriticalityHigh {
		t.Errorf("after it says so: %q", got)
	}

	// a stays away, b is there; then both are away for too long.
	state = second.State(epoch.Add(31 * day))
	third, _ := newIntake()
	if err := third.Restore(epoch.Add(31*day), state); err != nil {
		t.Fatal(err)
	}
	if a, b := third.Criticality(a), third.Criticality(b); a != graph.CriticalityUnknown || b != graph.CriticalityHigh {
		t.Errorf("after a month: %q and %q", a, b)
	}
	third.State(epoch.Add(62 * day))
	if b := third.Criticality(b); b != graph.CriticalityUnknown {
		t.Errorf("after another: %q", b)
	}

	if err := third.Restore(epoch, map[string][]byte{criticalityKey: []byte("{")}); err == nil {
		t.Error("a broken state is no error")
	}
}

func TestCriticalityIsBounded(t *testing.T) {
	var kept []string
	for i := range maxCriticality + 10 {
		kept = append(kept, fmt.Sprintf(`{"name":"s%05d","criticality":"low","day":%d}`, i, dayOf(epoch)-int64(i%2)))
	}
	in, _ := newIntake()
	if err := in.Restore(epoch, map[string][]byte{criticalityKey: []byte("[" + strings.Join(kept, ",") + "]")}); err != nil {
		t.Fatal(err)
	}
	b := &in.pairer.dir.critical
	if len(b.m) != maxCriticality {
		t.Errorf("%d services are remembered of what was stored", len(b.m))
	}
	for i := range 10 {
		b.put(graph.Node{Kind: graph.Service, Name: fmt.Sprint("new", i)}, graph.CriticalityHigh)
	}
	in.State(epoch)
	old := 0
	for n, c := range b.m {
		if strings.HasPrefix(n.Name, "new") != (c.Criticality == graph.CriticalityHigh) {
			t.Errorf("%s: %v", n.Name, c)
		}
		if c.day < dayOf(epoch) {
			old++
		}
	}
	if len(b.m) != maxCriticality || old != maxCriticality/2-10 {
		t.Errorf("%d services are remembered, %d from yesterday", len(b.m), old)
	}
}

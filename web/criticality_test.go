package web

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/storage"
)

// What goes wrong at a critical service comes before what is as loud elsewhere, and never before what is louder.
func TestTheWorstFindingsComeFirst(t *testing.T) {
	store := newStore(t)
	at := func(minutes int) time.Time { return testNow.Add(-time.Duration(minutes) * time.Minute) }
	var findings []graph.Finding
	for i, f := range []graph.Finding{
		{Rule: "no_backoff", Edge: checkoutOrders, Level: graph.Warn},
		{Rule: "timeout", Edge: checkoutPayment, Level: graph.Warn},
		{Rule: "deploy", Node: payment, Subject: "2", Level: graph.Note},
		{Rule: "refused", Edge: mailsMailer, Level: graph.Severe},
		{Rule: "hedging", Edge: mailsMailer, Level: graph.Warn},
	} {
		f.Since, f.Until, f.Sentence, f.N = at(5+i), at(1), "is so", 9
		findings = append(findings, f)
	}
	if err := store.Write(context.Background(), storage.Batch{Findings: findings}); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, store)
	for order, want := range map[string][]string{
		"newest": {"no_backoff ", "timeout critical", "deploy critical", "refused low", "hedging low"},
		"worst":  {"refused low", "timeout critical", "hedging low", "no_backoff ", "deploy critical"},
	} {
		_, body := ask(t, s, "/api/v1/findings?order="+order)
		var answer Findings
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range answer.Findings {
			critical := ""
			if f.Criticality != nil {
				critical = *f.Criticality
			}
			got = append(got, fmt.Sprint(f.Rule, " ", critical))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", order, diff)
		}
	}
}

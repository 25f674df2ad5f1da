package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	tests := []struct {
		name, in string
		want     tally
		shows    []string
		hides    []string
	}{{
		name: "passes, failures, skips and their closing lines",
		in: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: no browser\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
{"Action":"output","Package":"q","Output":"ok  "}
{"Action":"output","Package":"q","Output":"\tq\t0.2s\n"}
{"Action":"pass","Package":"q"}
`,
		want:  tally{passed: 1, failed: 1, skipped: 1},
		shows: []string{"wrong", "no browser", "FAIL\tp", "ok  \tq\t0.2s"},
		hides: []string{"chatter", "=== RUN"},
	}, {
		name: "a package that does not build is a failure",
		in: `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`,
		want:  tally{failed: 1},
		shows: []string{"undefined: x", "[build failed]"},
	}, {
		name: "a run that is cut off is a failure",
		in: `{"Action":"output","Package":"p","Test":"TestA","Output":"half way\n"}
signal: killed
`,
		want:  tally{failed: 1},
		shows: []string{"half way", "signal: killed", "did not end"},
	}, {
		name: "a package is counted anew in a second run",
		in: `{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
{"Action":"fail","Package":"p"}
`,
		want: tally{failed: 2},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			got, err := count(strings.NewReader(tt.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("count = %+v, want %+v", got, tt.want)
			}
			for _, s := range tt.shows {
				if !strings.Contains(out.String(), s) {
					t.Errorf("output lacks %q:\n%s", s, &out)
				}
			}
			for _, s := range tt.hides {
				if strings.Contains(out.String(), s) {
					t.Errorf("output has %q:\n%s", s, &out)
				}
			}
		})
	}
}

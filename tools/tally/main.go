// Command tally reads the events of `go test -json` on its standard input, prints what a person wants to see of them
// and closes with one line that counts the tests: `N passed, N failed, N skipped`.
//
// Shown are the runner's own closing line of every package, the whole output of tests that failed, why tests were
// skipped, and everything that is not an event, as it comes. A test and each of its subtests count one; a package that
// fails without a failing test (it does not build, it panics, it times out) counts one failure. The exit status is 1
// when anything failed, and also when no test ran at all. The input may be several runs, one after the other.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	t, err := count(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

// event is one line of `go test -json`; see `go doc test2json` and, for builds, `go help buildjson`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

type tally struct{ passed, failed, skipped int }

// count copies to w what of r's events is worth reading and returns the sums.
func count(r io.Reader, w io.Writer) (tally, error) {
	type key struct{ pkg, test string }
	var (
		t        tally
		output   = map[key][]string{} // of tests still running, and of packages
		failures = map[string]int{}   // failed tests per package, in this run of it
	)
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
				fmt.Fprint(w, line) // not an event: a message of the go command itself
			} else {
				k := key{e.Package, e.Test}
				switch e.Action {
				case "output":
					output[k] = append(output[k], e.Output)
				case "build-output":
					fmt.Fprint(w, e.Output)
				case "pass", "fail", "skip":
					if e.Test == "" {
						if e.Action == "fail" && failures[e.Package] == 0 {
							t.failed++
						}
						show(w, output[k], e.Action == "fail")
						delete(failures, e.Package)
					} else {
						switch e.Action {
						case "pass":
							t.passed++
						case "fail":
							t.failed++
							failures[e.Package]++
							show(w, output[k], true)
						case "skip":
							t.skipped++
							show(w, output[k], true)
						}
					}
					delete(output, k)
				}
			}
		}
		if err == io.EOF {
			// A run that was cut off (killed, out of memory) leaves tests that never ended: they did not pass.
			for k, out := range output {
				fmt.Fprintf(w, "%s %s: did not end\n", k.pkg, k.test)
				show(w, out, true)
				t.failed++
			}
			return t, nil
		}
		if err != nil {
			return t, fmt.Errorf("read events: %w", err)
		}
	}
}

// show prints output: all of it, or of a package that passed only the runner's closing line.
func show(w io.Writer, lines []string, all bool) {
	text := strings.Join(lines, "") // one printed line may come in several events
	for line := range strings.Lines(text) {
		if all && !strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") {
			fmt.Fprint(w, line)
		}
	}
}

package finding

import (
	"strings"
	"testing"

	"faultline/graph"
)

// Of a chain that fails because its end does, each callee above says where it begins, and is one level less loud.
func TestFailuresThatArePassedOn(t *testing.T) {
	user, bc, cd := edgeOf(graph.Node{Kind: graph.User}, service("a")), edgeOf(service("b"), service("c")), edgeOf(service("c"), service("d"))
	chain := func(passed map[graph.EdgeKey]int64) map[graph.EdgeKey]graph.Finding {
		s := &system{}
		for _, k := range []graph.EdgeKey{user, ab, bc, cd} {
			s.same(k, func(m *minute) {
				class := graph.ServerError
				if k == cd {
					class = graph.Refused
				}
				m.calls(80, graph.None, 10*ms).calls(20, class, 10*ms)
				m.LogicalErrors += 20
				if k != cd {
					m.measure(graph.PassedOn, 20, passed[k], 10*ms)
				}
			})
		}
		found := map[graph.EdgeKey]graph.Finding{}
		for _, f := range s.judge() {
			found[f.Edge] = f
		}
		return found
	}

	const begins = "; it passes on what fails at "
	for _, tt := range []struct {
		name   string
		passed map[graph.EdgeKey]int64
		at     map[graph.EdgeKey]string // where it is said to begin
	}{
		{"all the way up", map[graph.EdgeKey]int64{user: 20, ab: 20, bc: 19}, map[graph.EdgeKey]string{user: "c → d", ab: "c → d", bc: "c → d"}},
		{"from the middle", map[graph.EdgeKey]int64{user: 20, ab: 17, bc: 0}, map[graph.EdgeKey]string{user: "b → c", ab: "b → c"}},
		{"half of it", map[graph.EdgeKey]int64{user: 10, ab: 10, bc: 10}, nil},
	} {
		found := chain(tt.passed)
		for _, k := range []graph.EdgeKey{user, ab, bc} {
			f, at := found[k], tt.at[k]
			switch said := strings.HasSuffix(f.Sentence, begins+at); {
			case f.Rule != "server_error":
				t.Errorf("%s: %+v is not found to fail", tt.name, k)
			case at != "" && (!said || f.Level != graph.Warn):
				t.Errorf("%s: %s, %q, want one that ends with %q", tt.name, f.Level, f.Sentence, begins+at)
			case at == "" && (strings.Contains(f.Sentence, begins) || f.Level != graph.Severe):
				t.Errorf("%s: %s, %q, and begins there", tt.name, f.Level, f.Sentence)
			}
		}
		if f := found[cd]; f.Rule != "refused" || f.Level != graph.Severe {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}

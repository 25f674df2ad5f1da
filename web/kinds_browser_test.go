package web

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

// kindNames are the kinds of nodes that there are.
func kindNames() []string {
	names := []string{graph.Unknown.String()}
	for k := graph.Unknown + 1; k.String() != graph.Unknown.String(); k++ {
		names = append(names, k.String())
	}
	return names
}

// Every kind is one that the API names.
func TestKindsOfTheAPI(t *testing.T) {
	field, _ := reflect.TypeFor[Node]().FieldByName("Kind")
	named := strings.Split(field.Tag.Get("enum"), ",")
	slices.Sort(named)
	kinds := kindNames()
	slices.Sort(kinds)
	if !slices.Equal(named, kinds) {
		t.Errorf("the API names %v, there are %v", named, kinds)
	}
	for _, name := range kinds {
		if got := graph.ParseNodeKind(name).String(); got != name {
			t.Errorf("%s is read as %s", name, got)
		}
	}
}

// What triggers functions and a provider of models are on the map like users and third parties, and explained.
func TestKindsInBrowser(t *testing.T) {
	ingress := graph.Node{Env: "production", Kind: graph.Ingress}
	models := graph.Node{Env: "production", Kind: graph.LLM, Name: "openai"}
	w := &world{now: time.Now, calls: append(shopCalls(),
		call{key: graph.EdgeKey{Source: ingress, Target: service("thumbnails"), Protocol: graph.HTTP}, rate: 3, latency: 80 * time.Millisecond},
		call{key: graph.EdgeKey{Source: service("thumbnails"), Target: models, Protocol: graph.RPC}, rate: 3, latency: 900 * time.Millisecond},
	)}
	address, s := show(t, w)
	_, body := ask(t, s, "/api/v1/graph?service=shop/thumbnails&depth=1")
	var g Graph
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes {
		if want := map[string]string{"ingress": "ingress", "llm:openai": "llm", "shop/thumbnails": "service"}[n.ID]; n.Kind != want || len(g.Nodes) != 3 {
			t.Errorf("%s of %d nodes is of kind %s", n.ID, len(g.Nodes), n.Kind)
		}
	}
	b := visit(t, address+"/", 1440, 900)
	b.until("window.faultline?.place('ingress') && faultline.place('llm:openai') && faultline.still")
	x := func(id string) float64 { return value[float64](b, "faultline.place('"+id+"').x") }
	if x("ingress") != x("user") || x("ingress") >= x("shop/thumbnails") || x("shop/thumbnails") >= x("llm:openai") {
		t.Errorf("from left to right: ingress %v, user %v, thumbnails %v, llm %v", x("ingress"), x("user"), x("shop/thumbnails"), x("llm:openai"))
	}
	// Who sends no spans is told by what is called, and what it is.
	b.click("(({x, y}) => ({x, y}))(faultline.nodes.find(n => n.id === 'ingress'))")
	b.until("document.querySelector('#panel .tiles') && faultline.state.service === 'ingress'")
	panel := value[string](b, "document.querySelector('#panel').innerText")
	for _, want := range []string{"What triggers functions, and sends no spans", "Nothing that it calls is unwell", "sends", "to 1 service", "as those answer"} {
		if !strings.Contains(panel, want) {
			t.Errorf("the panel of ingress does not say %q:\n%s", want, panel)
		}
	}
	for _, odd := range []string{"alled by nobody", "0 callers", "instances"} {
		if strings.Contains(panel, odd) {
			t.Errorf("the panel of ingress says %q:\n%s", odd, panel)
		}
	}
	b.press("\x1b")
	b.until("document.querySelector('#panel').hidden")
	b.press("?")
	b.until("document.querySelector('dialog .legend')")
	legend := value[string](b, "document.querySelector('dialog .legend').innerText")
	for _, want := range []string{"a provider of models", "what triggers functions"} {
		if !strings.Contains(legend, want) {
			t.Errorf("the legend does not tell of %s: %s", want, legend)
		}
	}
	if n := value[int](b, "document.querySelectorAll('dialog .legend canvas.kind').length"); n != len(kindNames()) {
		t.Errorf("the legend has %d kinds of %d", n, len(kindNames()))
	}
}

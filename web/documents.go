package web

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed documents.html
var documentsHTML string

//go:embed documents.css
var documentsCSS []byte

// phrase is a part of a sentence; Code ones stood between backticks.
type phrase struct {
	Text string
	Code bool
}

func prose(s string) []phrase {
	var phrases []phrase
	for i, part := range strings.Split(s, "`") {
		phrases = append(phrases, phrase{part, i%2 == 1})
	}
	return phrases
}

var documentsPage = template.Must(template.New("documents").Funcs(template.FuncMap{"prose": prose}).Parse(documentsHTML))

// documents mounts the API's description: for programs at /api/openapi.json, for people at /api/docs. Both are written
// once, and load nothing from elsewhere.
func (s *Server) documents() error {
	s.describeLive()
	openAPI, err := json.MarshalIndent(s.api.OpenAPI(), "", "  ")
	if err != nil {
		return fmt.Errorf("write OpenAPI document: %w", err)
	}
	var page bytes.Buffer
	if err := documentsPage.Execute(&page, newReference(s.api.OpenAPI())); err != nil {
		return fmt.Errorf("write API page: %w", err)
	}
	for path, document := range map[string]struct {
		contentType string
		body        []byte
	}{
		"/api/openapi.json": {"application/vnd.oai.openapi+json;version=3.1", openAPI},
		"/api/docs":         {"text/html; charset=utf-8", page.Bytes()},
		"/api/docs.css":     {"text/css; charset=utf-8", documentsCSS},
	} {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", document.contentType)
			_, _ = w.Write(document.body)
		})
	}
	return nil
}

// describeToken adds how the token is shown, where one is asked for.
func (s *Server) describeToken(api *huma.OpenAPI) {
	if s.AuthToken == "" {
		return
	}
	api.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "The token, as FAULTLINE_AUTH_TOKEN has it"},
		"basic":  {Type: "http", Scheme: "basic", Description: "Any user, the token as password"},
	}
	api.Security = []map[string][]string{{"bearer": {}}, {"basic": {}}}
}

// LiveMessage is a message of the WebSocket.
type LiveMessage struct {
	Type    string    `json:"type" enum:"graph,delta" doc:"graph: the whole map, once; delta: what changed since the message before"`
	Seq     int64     `json:"seq" doc:"Without gaps"`
	At      time.Time `json:"at" doc:"When the map was current"`
	Env     string    `json:"env" doc:"The environment shown"`
	Envs    []string  `json:"envs" nullable:"false" doc:"All environments seen"`
	Nodes   []Node    `json:"nodes" nullable:"false" doc:"Whole: all, or those that changed"`
	Edges   []Edge    `json:"edges" nullable:"false" doc:"Whole: all, or those that changed"`
	Links   []Link    `json:"links" nullable:"false" doc:"Whole: all, or those that changed"`
	Removed *Removed  `json:"removed,omitempty" doc:"In a delta"`
}

// Removed are the ids of what is gone.
type Removed struct {
	Nodes []string `json:"nodes" nullable:"false"`
	Edges []string `json:"edges" nullable:"false"`
	Links []string `json:"links" nullable:"false"`
}

// describeLive adds the WebSocket to the document, which knows of no such thing.
func (s *Server) describeLive() {
	text := &huma.Schema{Type: huma.TypeString}
	message := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[LiveMessage](), true, "LiveMessage")
	s.api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: "/api/v1/live", Summary: "The live map, pushed",
		Description: "A WebSocket. First a message `{type:\"graph\",seq,at,env,envs,nodes,edges,links}` with the whole map of the last minute, then every second " +
			"`{type:\"delta\",seq,at,env,envs,nodes,edges,links,removed:{nodes,edges,links}}` with the nodes, edges and links that changed, whole, and the ids of those that are gone. " +
			"`seq` has no gaps: whoever sees one connects again. `at` is when the map was current. Nodes, edges and links are those of the graph. " +
			"A client that does not read is cut.",
		Parameters: []*huma.Param{
			{Name: "env", In: "query", Description: "Environment; absent for the busiest", Schema: text},
			{Name: "service", In: "query", Description: "Id of a node: only what leads to it and what it leads to", Schema: text},
			{Name: "depth", In: "query", Description: "How many calls far, with service; 1 when absent", Schema: &huma.Schema{Type: huma.TypeInteger}},
		},
		Responses: map[string]*huma.Response{
			"101": {
				Description: "Switching to the WebSocket protocol, over which such messages come, each a text",
				Content:     map[string]*huma.MediaType{"application/json": {Schema: message}},
			},
			"403": {Description: "The page that asks is of another site"},
			"422": {Description: "A parameter cannot be what it is"},
			"426": {Description: "Not a WebSocket's handshake"},
			"429": {Description: "Too many clients of this address follow the map already"},
			"503": {Description: "Too many clients follow the map already, or the server stops"},
		},
	})
}

// reference is what the page for people shows.
type reference struct {
	Title, Version, Description string
	Operations                  []referenceOperation
	Schemas                     []referenceSchema
}

type referenceOperation struct {
	ID, Method, Path, Summary, Description string
	Params                                 []referenceField
	Answer                                 string // name of a schema, or ""
}

type referenceSchema struct {
	Name, Description string
	Fields            []referenceField
}

type referenceField struct {
	Name, In, Type, Schema, Description string
}

func newReference(api *huma.OpenAPI) reference {
	r := reference{Title: api.Info.Title, Version: api.Info.Version, Description: api.Info.Description}
	paths := make([]string, 0, len(api.Paths))
	for path := range api.Paths {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		for _, op := range []*huma.Operation{api.Paths[path].Get, api.Paths[path].Post} {
			if op != nil {
				r.Operations = append(r.Operations, newReferenceOperation(op))
			}
		}
	}
	schemas := api.Components.Schemas.Map()
	names := make([]string, 0, len(schemas))
	for name := range schemas {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		schema := referenceSchema{Name: name, Description: schemas[name].Description}
		fields := make([]string, 0, len(schemas[name].Properties))
		for field := range schemas[name].Properties {
			fields = append(fields, field)
		}
		slices.Sort(fields)
		for _, field := range fields {
			property := schemas[name].Properties[field]
			kind, ref := typeOf(property)
			schema.Fields = append(schema.Fields, referenceField{Name: field, Type: kind, Schema: ref, Description: property.Description})
		}
		r.Schemas = append(r.Schemas, schema)
	}
	return r
}

func newReferenceOperation(op *huma.Operation) referenceOperation {
	o := referenceOperation{ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		kind, _ := typeOf(p.Schema)
		o.Params = append(o.Params, referenceField{Name: p.Name, In: p.In, Type: kind, Description: p.Description})
	}
	if op.RequestBody != nil {
		for contentType := range op.RequestBody.Content {
			o.Params = append(o.Params, referenceField{Name: "body", In: "body", Type: contentType, Description: op.RequestBody.Description})
		}
	}
	for _, status := range []string{"200", "101"} {
		if ok := op.Responses[status]; ok != nil {
			for _, media := range ok.Content {
				_, o.Answer = typeOf(media.Schema)
			}
		}
	}
	return o
}

// typeOf says what a schema describes, and which schema of the document that is, if it is one.
func typeOf(s *huma.Schema) (kind, schema string) {
	if s == nil {
		return "", ""
	}
	if s.Ref != "" {
		name := s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
		return name, name
	}
	kind = s.Type
	switch {
	case s.Type == huma.TypeArray && s.Items != nil:
		kind, schema = typeOf(s.Items)
		kind = "list of " + kind
	case len(s.Enum) > 0:
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = fmt.Sprint(v)
		}
		kind = strings.Join(values, " | ")
	case s.Format == "date-time":
		kind = "time"
	}
	if s.Nullable {
		kind += " or null"
	}
	return kind, schema
}

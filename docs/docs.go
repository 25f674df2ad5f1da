// Package docs holds the pages about the rules by which Faultline names what goes wrong, one for each, as they lie in
// docs/rules, embedded so that a running server explains itself without the network.
//
// Pages are rendered to HTML once, when the first is asked for; raw HTML in them is left out. Links between them lead
// to where the pages are served, /docs/rules and /docs/rules/{rule}. A look-up costs a map access.
package docs

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

//go:embed rules/*.md
var files embed.FS

// index is the file that lists the rules.
const index = "README"

// Path is where the pages are served: the index there, a rule's page below it, by its name.
const Path = "/docs/rules"

// A Page is one document.
type Page struct {
	Rule  string // the rule's name, "" for the index
	Title string // its heading, as text
	// Body is the whole page as HTML, the heading included. It is safe to show as it is: it comes from this repository,
	// and what is raw HTML in its source is left out.
	Body string
}

// Rule returns the page of a rule.
func Rule(name string) (Page, bool) {
	p, ok := pages()[name]
	return p, ok && name != ""
}

// Index returns the page that lists the rules.
func Index() Page { return pages()[""] }

// Rules returns the names of the rules that have a page, in order.
func Rules() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(pages())), func(name string) bool { return name == "" })
}

// pages returns every page by its rule. What is embedded is checked by a test, so that nothing here can fail.
var pages = sync.OnceValue(func() map[string]Page {
	all, err := render()
	if err != nil {
		panic(fmt.Sprintf("render embedded pages: %v", err))
	}
	return all
})

func render() (map[string]Page, error) {
	entries, err := files.ReadDir("rules")
	if err != nil {
		return nil, fmt.Errorf("list pages: %w", err)
	}
	markdown := goldmark.New(goldmark.WithExtensions(extension.Table), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	all := map[string]Page{}
	for _, e := range entries {
		source, err := files.ReadFile(path.Join("rules", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		doc := markdown.Parser().Parse(text.NewReader(source))
		p := Page{Rule: ruleOf(e.Name()), Title: title(doc, source)}
		if err := serveLinks(doc); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		var body bytes.Buffer
		if err := markdown.Renderer().Render(&body, source, doc); err != nil {
			return nil, fmt.Errorf("render %s: %w", e.Name(), err)
		}
		p.Body = body.String()
		all[p.Rule] = p
	}
	return all, nil
}

// ruleOf returns the rule that a file is about.
func ruleOf(file string) string {
	if name := strings.TrimSuffix(file, ".md"); name != index {
		return name
	}
	return ""
}

// title returns the text of the first heading.
func title(doc ast.Node, source []byte) string {
	heading, ok := doc.FirstChild().(*ast.Heading)
	if !ok || heading.Level != 1 {
		return ""
	}
	var words strings.Builder
	for n := heading.FirstChild(); n != nil; n = n.NextSibling() {
		if t, ok := n.(*ast.Text); ok {
			words.Write(t.Segment.Value(source))
		}
	}
	return words.String()
}

// serveLinks turns links from file to file, as they work in the repository, into links from page to page.
func serveLinks(doc ast.Node) error {
	return ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		link, ok := n.(*ast.Link)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		file, fragment, marked := strings.Cut(string(link.Destination), "#")
		if file == "" {
			return ast.WalkContinue, nil
		}
		if path.Ext(file) != ".md" || strings.Contains(file, "/") {
			return ast.WalkStop, fmt.Errorf("a link to %q, which is no page of a rule", link.Destination)
		}
		to := strings.TrimSuffix(Path+"/"+ruleOf(file), "/")
		if marked {
			to += "#" + fragment
		}
		link.Destination = []byte(to)
		return ast.WalkContinue, nil
	})
}

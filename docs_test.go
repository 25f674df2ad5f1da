package faultline_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestLinks(t *testing.T) {
	faults, n := checkLinks(t, os.DirFS("."))
	for _, f := range faults {
		t.Error(f)
	}
	if n < 20 {
		t.Errorf("%d links found, which is too few to believe", n)
	}
}

var (
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	inCode   = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`)
	headline = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	unslug   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// checkLinks wants every relative link of a Markdown file to lead to a file, and to a heading of it where it names one,
// and every picture of docs/img to be shown somewhere, and to be small. n is how many links there are.
func checkLinks(t *testing.T, tree fs.FS) (faults []string, n int) {
	t.Helper()
	read := func(name string) string {
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	linked := map[string]bool{}
	walk(t, tree, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		text := inCode.ReplaceAllString(fenced.ReplaceAllString(read(name), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1]+m[2], "#")
			if strings.Contains(target, "://") {
				continue
			}
			n++
			to := path.Join(path.Dir(name), target)
			if target == "" {
				to = name
			}
			linked[to] = true
			if _, err := fs.Stat(tree, to); err != nil {
				faults = append(faults, name+": links to "+to+", which does not exist")
			} else if anchor != "" && !slices.Contains(anchors(read(to)), anchor) {
				faults = append(faults, name+": links to "+to+"#"+anchor+", which has no such heading")
			}
		}
	})
	pictures, err := fs.Glob(tree, "docs/img/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pictures {
		if !linked[name] {
			faults = append(faults, name+": shown nowhere")
		}
		if info, err := fs.Stat(tree, name); err != nil || info.Size() > 300_000 {
			faults = append(faults, name+": larger than 300 kB")
		}
	}
	return faults, n
}

// anchors returns what the headings of a page are called in links.
func anchors(text string) (list []string) {
	for _, m := range headline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		slug := unslug.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		list = append(list, strings.ReplaceAll(slug, " ", "-"))
	}
	return list
}

// TestLinkRules runs checkLinks on a tree that it has nothing to say of, and on others.
func TestLinkRules(t *testing.T) {
	tests := []struct {
		name, page string
		want       string // part of the one fault; "" for none
	}{
		{"good", "# A b!\n[x](docs/y.md#why-not) ![p](docs/img/p.png) [z](#a-b) [w](https://x.example/y)", ""},
		{"in code", "![p](docs/img/p.png) `[x](no.md)`\n\n```md\n[x](no.md)\n```\n", ""},
		{"gone", "![p](docs/img/p.png) [x](no.md)", "links to no.md"},
		{"no heading", "![p](docs/img/p.png) [x](docs/y.md#what)", "no such heading"},
		{"no heading of its own", "![p](docs/img/p.png) [x](#what)", "no such heading"},
		{"picture in HTML", `<img src="docs/img/p.png"><img src="docs/img/q.png">`, "links to docs/img/q.png"},
		{"picture unused", "text", "docs/img/p.png: shown nowhere"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			faults, _ := checkLinks(t, fstest.MapFS{
				"README.md":      {Data: []byte(tt.page)},
				"docs/y.md":      {Data: []byte("# Y\n\n## Why `not`?\n")},
				"docs/img/p.png": {Data: []byte{0}},
			})
			switch {
			case tt.want == "" && len(faults) > 0:
				t.Errorf("faults in a good page: %q", faults)
			case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)):
				t.Errorf("faults = %q, want one with %q", faults, tt.want)
			}
		})
	}
}

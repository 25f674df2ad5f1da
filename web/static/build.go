//go:build ignore

// Build bundles src into dist: scripts and styles minified, every name with the hash of its content, every file that
// shrinks with a compressed twin. With -check it writes nothing and fails when dist is not what src gives.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	log.SetFlags(0)

	built := api.Build(api.BuildOptions{
		EntryPoints:       []string{"src/app.js", "src/theme.js", "src/app.css"},
		Outdir:            "dist",
		Bundle:            true,
		MinifySyntax:      true,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		Charset:           api.CharsetUTF8,
		Format:            api.FormatIIFE,
		Target:            api.ES2022,
		LegalComments:     api.LegalCommentsInline,
		LogLevel:          api.LogLevelWarning,
	})
	if len(built.Errors) > 0 {
		os.Exit(1)
	}
	files := map[string][]byte{}
	add := func(name string, content []byte) {
		sum := sha256.Sum256(content)
		ext := filepath.Ext(name)
		name = fmt.Sprintf("%s-%s%s", strings.TrimSuffix(name, ext), hex.EncodeToString(sum[:5]), ext)
		files[name] = content
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			log.Fatal(err)
		}
		w.Write(content) // a buffer takes everything
		w.Close()
		if b.Len() < len(content)*9/10 {
			files[name+".gz"] = b.Bytes()
		}
	}
	for _, f := range built.OutputFiles {
		add(filepath.Base(f.Path), f.Contents)
	}
	icon, err := os.ReadFile("src/icon.svg")
	if err != nil {
		log.Fatal(err)
	}
	add("icon.svg", icon)

	old, err := os.ReadDir("dist")
	if err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	stale := false
	for _, f := range old {
		if _, ok := files[f.Name()]; !ok {
			stale = true
			if !*check {
				os.Remove(filepath.Join("dist", f.Name()))
			}
		}
	}
	if err := os.MkdirAll("dist", 0o755); err != nil {
		log.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join("dist", name)
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, files[name]) {
			continue
		}
		stale = true
		if !*check {
			if err := os.WriteFile(path, files[name], 0o644); err != nil {
				log.Fatal(err)
			}
		}
	}
	if *check && stale {
		log.Fatal("dist is not what src gives: run go generate ./web/static")
	}
}

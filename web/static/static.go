// Package static holds the browser's half of the program: the bundled scripts and styles, embedded, each under a name
// that carries the hash of its content, so that a browser may keep it for ever and never has an old one.
//
// The sources are in src, what is built from them in dist, both in the repository: building the program needs nothing
// but Go. `go generate ./web/static` builds dist anew with esbuild's Go library; the same sources give the same bytes.
// Nothing is loaded from another host. A look-up costs a map access; answers are compressed when built, not when asked.
package static

import (
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:generate go run build.go

// Prefix is where Handler is to be mounted.
const Prefix = "/static/"

//go:embed dist
var dist embed.FS

// An asset is one file, plain and compressed.
type asset struct {
	mime        string
	plain, gzip []byte
}

var (
	assets = map[string]asset{}  // by hashed name
	hashed = map[string]string{} // plain name → hashed name
)

// Names in dist are name-HASH.ext and name-HASH.ext.gz; that they are readable and complete is checked by a test.
func init() {
	entries, err := fs.ReadDir(dist, "dist")
	if err != nil {
		panic(fmt.Sprintf("read embedded assets: %v", err))
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".gz") {
			continue
		}
		plain, err := fs.ReadFile(dist, "dist/"+name)
		if err != nil {
			panic(fmt.Sprintf("read embedded asset: %v", err))
		}
		// A file that does not shrink has no compressed twin.
		gzip, _ := fs.ReadFile(dist, "dist/"+name+".gz")
		ext := path.Ext(name)
		stem, _, _ := strings.Cut(name, "-")
		assets[name] = asset{mime.TypeByExtension(ext), plain, gzip}
		hashed[stem+ext] = name
	}
}

// Path returns the address of an asset by its plain name, such as "app.js". It panics on a name that is not there:
// that is a mistake in the program.
func Path(name string) string {
	h, ok := hashed[name]
	if !ok {
		panic("no asset named " + name)
	}
	return Prefix + h
}

// Size returns how many bytes of an asset go over the wire, compressed where the browser takes it.
func Size(name string) int {
	a := assets[hashed[name]]
	if a.gzip != nil {
		return len(a.gzip)
	}
	return len(a.plain)
}

// Handler serves the assets under Prefix.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets[strings.TrimPrefix(r.URL.Path, Prefix)]
		if !ok {
			w.Header().Set("Cache-Control", "no-store")
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.mime)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Vary", "Accept-Encoding")
		body := a.plain
		if a.gzip != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body = a.gzip
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method == http.MethodGet {
			w.Write(body) //nolint:errcheck // the browser went away
		}
	})
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name = strings.TrimSpace(name); name == "gzip" || name == "*" {
			q = strings.ReplaceAll(q, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

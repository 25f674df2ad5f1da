package static

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

func get(t *testing.T, method, path, encoding string) (*http.Response, []byte) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), body
}

func TestAssets(t *testing.T) {
	total := 0
	for name, kind := range map[string]string{"app.js": "text/javascript", "theme.js": "text/javascript", "app.css": "text/css", "icon.svg": "image/svg+xml"} {
		path := Path(name)
		answer, plain := get(t, "GET", path, "identity")
		if answer.StatusCode != http.StatusOK || len(plain) == 0 || !strings.HasPrefix(answer.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s, %d bytes of %s", path, answer.Status, len(plain), answer.Header.Get("Content-Type"))
		}
		if got := answer.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		answer, packed := get(t, "GET", path, "br;q=1, gzip;q=0.8")
		if answer.Header.Get("Content-Encoding") == "gzip" {
			r, err := gzip.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			unpacked, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(unpacked, plain) {
				t.Errorf("%s: the compressed file is another one (%v)", path, err)
			}
		}
		if Size(name) != len(packed) {
			t.Errorf("%s: %d bytes on the wire, Size says %d", path, len(packed), Size(name))
		}
		total += len(packed)
		if answer, _ := get(t, "GET", path, "gzip;q=0"); answer.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed for a client that refuses it", path)
		}
		if answer, body := get(t, "HEAD", path, ""); answer.StatusCode != http.StatusOK || len(body) != 0 {
			t.Errorf("HEAD %s: %s, %d bytes", path, answer.Status, len(body))
		}
		for _, host := range []string{"http://", "https://"} {
			for line := range strings.SplitSeq(string(plain), "\n") {
				for rest := line; ; {
					_, after, found := strings.Cut(rest, host)
					if !found {
						break
					}
					if !strings.HasPrefix(after, "www.w3.org/2000/svg") && !strings.HasPrefix(after, "github.com/leeoniya/uPlot") {
						t.Errorf("%s names a foreign host: %s%.40s", path, host, after)
					}
					rest = after
				}
			}
		}
	}
	t.Logf("%d bytes compressed in all", total)
	if total > 120<<10 {
		t.Errorf("%d bytes compressed; a page may have 150 KB, its HTML among them", total)
	}
}

func TestUnknownAssets(t *testing.T) {
	for _, path := range []string{"/static/", "/static/app.js", "/static/../static.go", "/static/app-0000000000.js"} {
		if answer, _ := get(t, "GET", path, ""); answer.StatusCode != http.StatusNotFound || strings.Contains(answer.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s", path, answer.Status)
		}
	}
	if answer, _ := get(t, "POST", Path("app.js"), ""); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", answer.Status)
	}
}

// TestCurrent builds the assets again and compares.
func TestCurrent(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the bundler")
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "build.go", "-check")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

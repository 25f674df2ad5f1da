package sqlite

import (
	"fmt"
	"testing"

	"faultline/storage"
)

// LimitPages makes the file full at a number of pages.
func LimitPages(t *testing.T, s storage.Store, pages int) {
	t.Helper()
	if _, err := s.(*Store).w.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count(%d)`, pages)); err != nil {
		t.Fatal(err)
	}
}

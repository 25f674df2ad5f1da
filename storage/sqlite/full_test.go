package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

func TestIsFull(t *testing.T) {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "small.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), `PRAGMA max_page_count = 1; CREATE TABLE first (a)`); err == nil {
		t.Fatal("a table went into a file without room for it")
	} else if !isFull(fmt.Errorf("prepare: %w", err)) {
		t.Errorf("%v is not taken for a full disk", err)
	}
	if err := (&fs.PathError{Op: "open", Path: "faultline.lock", Err: syscall.ENOSPC}); !isFull(err) {
		t.Errorf("%v is not taken for a full disk", err)
	}
	_, wrong := db.ExecContext(t.Context(), `SELECT nothing FROM nowhere`)
	for _, err := range []error{nil, wrong, errors.New("other"), syscall.EACCES} {
		if isFull(err) {
			t.Errorf("%v is taken for a full disk", err)
		}
	}
}

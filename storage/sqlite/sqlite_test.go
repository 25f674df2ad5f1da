package sqlite_test

import (
	"testing"

	"faultline/storage"
	"faultline/storage/sqlite"
	"faultline/storage/storagetest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string, r storage.Retention) storage.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestContract(t *testing.T) { storagetest.Run(t, open) }

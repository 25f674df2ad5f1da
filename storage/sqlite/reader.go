package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"faultline/storage"
)

// ErrReadOnly says that a store was opened for reading.
var ErrReadOnly = errors.New("the store was opened for reading")

// OpenReader opens the store in a directory for reading alone: it takes no lock and changes nothing, so that another
// process may have it open and write to it. Write and Maintain return ErrReadOnly.
func OpenReader(ctx context.Context, dir string, retention storage.Retention) (*Store, error) {
	s, err := openReader(ctx, dir, retention)
	if err != nil {
		return nil, fmt.Errorf("open store in %s for reading: %w", dir, err)
	}
	return s, nil
}

func openReader(ctx context.Context, dir string, retention storage.Retention) (_ *Store, err error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is none: a collector makes it")
	} else if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, retention: retention, words: newDictionary(), cache: newSumCache(), closing: map[partID]time.Time{}, dropped: map[dropped]int64{}}
	if err := s.connectReader(ctx, path); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.read(ctx, func(tx *sql.Tx) error { return checkVersion(ctx, tx) }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

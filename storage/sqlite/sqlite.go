// Package sqlite remembers on local disk, with no set-up: one SQLite file that holds windows as compressed columns, a few
// small tables of words, and example traces. docs/format.md says what lies where.
//
// It keeps the contract of package storage. Write is one transaction; Maintain many short ones, in which closed parts are
// added to the block of their minute, minutes to that of their ten and so on, each exactly once. A row of an edge takes
// 15 to 35 bytes at up to ten calls in its window; 5,000 edges cost about a tenth of a second of CPU a minute. It does
// not promise durability beyond the last checkpoint of the write-ahead log when the machine loses power, and one process
// at a time owns the file.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"faultline/storage"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// File is the name of the database in the data directory.
const File = "faultline.db"

const schemaVersion = 2

//go:embed schema.sql
var schema string

// Store is a storage.Store in one SQLite file.
type Store struct {
	dir       string
	retention storage.Retention
	w, r      *sql.DB
	asked     map[string]*sql.Stmt // of r, by their texts
	lock      *os.File
	words     *dictionary
	cache     *sumCache

	mu      sync.Mutex // held by whoever writes, one transaction at a time
	block   blockWriter
	closing map[partID]time.Time // parts closed by this process: when Maintain first saw them so, zero until then
	swept   int64                // the day on which the dictionary was last swept
	dropped map[dropped]int64    // what was dropped last, by this process
}

var _ storage.Store = (*Store)(nil)

// Open opens the store in a directory, which it makes when it is not there. Parts that a process that died left open are
// closed. It refuses a store of a newer version and one that another process has open.
func Open(ctx context.Context, dir string, retention storage.Retention) (*Store, error) {
	s, err := openStore(ctx, dir, retention)
	if isFull(err) {
		return nil, fmt.Errorf("the disk that holds %s is full: make room on it, or choose a directory on another one: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return s, nil
}

// isFull reports whether something failed for want of room on the disk.
func isFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) {
		return true
	}
	// The index of the write-ahead log is made as large as it has to be first; without room that is an error of its own.
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE
	}
	return false
}

func openStore(ctx context.Context, dir string, retention storage.Retention) (_ *Store, err error) {
	if retention.Fine <= 0 || retention.Fine > retention.Minute || retention.Minute > retention.Hour || retention.Traces <= 0 {
		return nil, fmt.Errorf("retention must be positive and no shorter for longer windows: %+v", retention)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, retention: retention, words: newDictionary(), cache: newSumCache(), closing: map[partID]time.Time{}, dropped: map[dropped]int64{}}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if s.lock, err = lockFile(filepath.Join(dir, "faultline.lock")); err != nil {
		return nil, err
	}
	// SQLite would make the file readable for all.
	path := filepath.Join(dir, File)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// auto_vacuum must come before anything is written, so also before the journal's mode.
	s.w, err = connect(path, 1, "_txlock=immediate", "auto_vacuum(incremental)", "journal_mode(wal)", "synchronous(normal)",
		"journal_size_limit(67108864)", "cache_size(-16000)", "temp_store(memory)")
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s, s.connectReader(ctx, path)
}

// connect opens a pool of n connections that each run the pragmas first.
func connect(path string, n int, txlock string, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode() + "&" + txlock}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// connectReader opens the readers' connections, and prepares what every question asks: its texts take SQLite as long to
// read as a few blocks.
func (s *Store) connectReader(ctx context.Context, path string) (err error) {
	s.r, err = connect(path, 4, "_txlock=deferred", "query_only(1)", "cache_size(-8000)", "mmap_size(268435456)", "temp_store(memory)")
	if err != nil {
		return err
	}
	texts := []string{selectDropped, selectUntil}
	for _, text := range []string{selectBlocks(allLanes), selectUnfolded(allLanes)} {
		texts = append(texts, text, text+notIn)
	}
	var tables int // a store that an older version has open is without counts of writes
	if err := s.r.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'writes'`).Scan(&tables); err != nil {
		return err
	}
	if tables > 0 {
		texts = append(texts, selectWrites)
	}
	s.asked = map[string]*sql.Stmt{}
	for _, text := range texts {
		if s.asked[text], err = s.r.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes or checks the schema and closes what a dead process left open.
func (s *Store) prepare(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		var tables int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&tables); err != nil {
			return err
		}
		if tables == 0 {
			if _, err := tx.ExecContext(ctx, schema+findingSchema+writesSchema); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO schema VALUES (?)`, schemaVersion)
			return err
		}
		if err := checkVersion(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, findingSchema+writesSchema); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE block INDEXED BY block_unfolded SET state = ? WHERE state < 2 AND state = ?`, closed, open)
		return err
	})
}

// checkVersion refuses what is not a store, and one of a newer version.
func checkVersion(ctx context.Context, tx *sql.Tx) error {
	var version int
	if err := tx.QueryRowContext(ctx, `SELECT version FROM schema`).Scan(&version); err != nil {
		return fmt.Errorf("%s is not a store of this program: %w", File, err)
	}
	if version < schemaVersion {
		return fmt.Errorf("%s has schema version %d, from before the first release: move it away", File, version)
	}
	if version > schemaVersion {
		return fmt.Errorf("%s has schema version %d, this program knows up to %d: start a newer version", File, version, schemaVersion)
	}
	return nil
}

// write runs f in one transaction of the writer.
func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	if s.w == nil {
		return ErrReadOnly
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	return tx.Commit()
}

// read runs f in one transaction of a reader: all that it asks, it sees at one moment.
func (s *Store) read(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	err = f(tx)
	return errors.Join(err, ignoreDone(tx.Rollback()))
}

// ignoreDone leaves out that a transaction was over already, because its context was.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// Close closes the file. What was written stays.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.r, s.w} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	s.r, s.w = nil, nil
	return errors.Join(errs...)
}

// State returns a value of Batch.State.
func (s *Store) State(ctx context.Context, key string) ([]byte, error) {
	var v []byte
	err := s.r.QueryRowContext(ctx, `SELECT value FROM state WHERE key = ?`, key).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, storage.ErrNotFound
	}
	return v, err
}

// Info describes the store. Its cost grows with the number of traces, by about 10 ms a million.
func (s *Store) Info(ctx context.Context) (storage.Info, error) {
	info := storage.Info{Kind: "sqlite", Retention: s.retention}
	for _, suffix := range []string{"", "-wal"} {
		if st, err := os.Stat(filepath.Join(s.dir, File+suffix)); err == nil {
			info.Bytes += st.Size()
		}
	}
	err := s.read(ctx, func(tx *sql.Tx) error {
		for _, l := range []int64{fine, minute, hour} {
			var first, last sql.NullInt64
			if err := tx.QueryRowContext(ctx, `SELECT min(start) FROM block WHERE length = ?`, l).Scan(&first); err != nil {
				return err
			}
			if err := tx.QueryRowContext(ctx, `SELECT max(start) FROM block WHERE length = ?`, l).Scan(&last); err != nil {
				return err
			}
			if !first.Valid {
				continue
			}
			if t := time.Unix(first.Int64, 0).UTC(); info.Oldest.IsZero() || t.Before(info.Oldest) {
				info.Oldest = t
			}
			if t := time.Unix(last.Int64, 0).UTC(); t.After(info.Newest) {
				info.Newest = t
			}
		}
		if err := tx.QueryRowContext(ctx, `SELECT value FROM total WHERE name = 'entries'`).Scan(&info.Windows); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM trace`).Scan(&info.Traces)
	})
	return info, err
}

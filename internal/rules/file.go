package rules

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// File is the rules file in force. It is safe for concurrent use.
type File struct {
	path string

	mu       sync.Mutex
	set      *Set
	text     []byte
	err      error
	since    time.Time // when what is in force was read
	modified time.Time // of the file that was read last, good or bad; zero for none
	size     int64
}

// State says what is in force, and what keeps the file from being so.
type State struct {
	Path  string
	Text  string    // in force, "" for no rules
	Since time.Time // when it was read
	Err   error     // why the file as it is now is not in force; nil when it is
}

// NewFile returns a File that was not read yet: see Poll.
func NewFile(path string) *File { return &File{path: path} }

// State returns what is in force.
func (f *File) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return State{Path: f.path, Text: string(f.text), Since: f.since, Err: f.err}
}

// Poll reads the file if it changed. changed says that other rules are in force now, or that the file cannot be, which
// State explains: the rules before stay. No file is a file without rules.
func (f *File) Poll(now time.Time) (set *Set, changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if f.modified.IsZero() && f.err == nil {
			return f.set, false
		}
		f.set, f.text, f.err, f.since = nil, nil, nil, now
		f.modified, f.size = time.Time{}, 0
		return nil, true
	case err != nil:
		f.modified = time.Time{} // once it can be had again it is read again, changed or not
		return f.set, f.fail(err)
	case info.ModTime().Equal(f.modified) && info.Size() == f.size:
		return f.set, false
	}
	text, err := read(f.path)
	if err != nil {
		return f.set, f.fail(err)
	}
	f.modified, f.size = info.ModTime(), info.Size()
	set, err = Parse(text)
	if err != nil {
		return f.set, f.fail(fmt.Errorf("%s: %w", f.path, err))
	}
	f.set, f.text, f.err, f.since = set, text, nil, now
	return set, true
}

// fail notes an error, and reports whether it is a new one.
func (f *File) fail(err error) bool {
	before := f.err
	f.err = err
	return before == nil || before.Error() != err.Error()
}

// read reads a file that must not be too long.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	return text, errors.Join(err, file.Close())
}

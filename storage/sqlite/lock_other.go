//go:build !unix

package sqlite

import "os"

// lockFile does not lock where the system has no advisory locks.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

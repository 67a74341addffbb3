package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// readPrivate reads a small regular file that only its owner, who is the
// process's user, can read. It follows no link and waits for no pipe.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) { // a link; a socket
		return nil, ErrNotFile
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotFile
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: mode %04o: chmod 600", ErrPermissions, info.Mode().Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%w: run as the user who owns it", ErrPermissions)
	}
	if info.Size() > maxFile {
		return nil, ErrDamaged
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// writeNew writes a file that must not exist yet. It becomes visible whole or
// not at all: a link refuses to replace, which a rename does not.
func writeNew(path string, content []byte) error {
	release, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer release()
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return placeFile(path, content, func(from, to string) error {
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	}, nil)
}

// replaceFile gives path the content in one step: a crash leaves the old file or
// the new one, whole. No copy of the old one is kept: it would hold retired keys
// and open with an old passphrase. The caller holds the folder's lock.
func replaceFile(path string, content []byte, step func(point string) error) error {
	return placeFile(path, content, os.Rename, step)
}

// placeFile writes content to a file of its own, on disk before it gets its name
// by place, and the name on disk before it returns. step, if any, is called
// between the steps; its error ends the work there.
func placeFile(path string, content []byte, place func(from, to string) error, step func(point string) error) error {
	if step == nil {
		step = func(string) error { return nil }
	}
	dir := filepath.Dir(path)
	if err := removeUnplaced(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, unplaced+"*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what a failure leaves behind
	half := len(content) / 2
	for _, do := range []struct {
		point string
		do    func() error
	}{
		{"created", func() error { _, err := f.Write(content[:half]); return err }},
		{"half written", func() error { _, err := f.Write(content[half:]); return err }},
		{"written", f.Sync},
		{"synced", func() error { return place(f.Name(), path) }},
		{"placed", func() error { return syncFolder(dir) }},
		{"done", func() error { return nil }},
	} {
		if err = step(do.point); err == nil {
			err = do.do()
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// unplaced begins the names of files that have not got their own yet.
const unplaced = ".keyring-"

// removeUnplaced removes what a crash has left: such a file may hold a key that
// was to be retired. The caller holds the folder's lock, so nobody is writing one.
func removeUnplaced(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unplaced) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockFolder waits until no other process changes a keyring in the folder. The
// lock ends with release or with the process.
func lockFolder(dir string) (release func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", filepath.Base(dir), err), d.Close())
	}
	return func() { _ = d.Close() }, nil // closing ends the lock
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"xinqiao/crypto/cert"
)

// errRegisterBusy reports a register that another process is writing to.
var errRegisterBusy = errors.New("another command is at work on this CA's register: wait for it, and try again")

// registerFile is a CA's register, held by this process alone. A certificate
// leaves the CA only after its line is on disk; so whatever is out is in the
// register, and a line that a crash cut short names nothing that is out.
type registerFile struct {
	file *os.File
	*cert.Register
}

// openRegister opens the register of a CA's directory for writing, made if it is
// missing. What a crash has cut short is moved into a file beside it, and told.
func openRegister(dir string, tell io.Writer, now time.Time) (_ *registerFile, err error) {
	path := filepath.Join(dir, pkiRegister)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errRegisterBusy
		}
		return nil, err
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	reg, torn, err := cert.ReadRegister(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w\nrestore it from a backup; do not edit it, and issue nothing until then", path, err)
	}
	r := &registerFile{f, reg}
	switch {
	case len(torn) > 0:
		err = r.mend(dir, torn, int64(len(content)-len(torn)), tell, now)
	case len(content) == 0:
		err = syncDir(dir)
	case !bytes.HasSuffix(content, []byte("\n")): // only the line's end is missing
		err = r.write([]byte("\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// mend puts a torn line aside before it cuts the register at its last whole line.
func (r *registerFile) mend(dir string, torn []byte, whole int64, tell io.Writer, now time.Time) error {
	aside := filepath.Join(dir, fmt.Sprintf("%s.torn-%d", pkiRegister, now.UnixNano()))
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(torn)
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(dir)); err != nil {
		return err
	}
	if err := errors.Join(r.file.Truncate(whole), r.file.Sync()); err != nil {
		return err
	}
	fmt.Fprintf(tell, "the register's last line was cut short, by a crash most likely: no certificate of it was given out.\n"+
		"It is kept as %s; every whole line stands.\n", aside)
	return nil
}

// add records what the CA is about to give out.
func (r *registerFile) add(records ...cert.Record) error {
	var lines []byte
	for _, record := range records {
		line, err := record.Encode()
		if err != nil {
			return err
		}
		if err := r.Add(record); err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	return r.write(lines)
}

func (r *registerFile) write(b []byte) error {
	if _, err := r.file.Write(b); err != nil {
		return fmt.Errorf("write the register: %w", err)
	}
	return r.file.Sync()
}

// close lets others at the register.
func (r *registerFile) close() error { return r.file.Close() }

// readRegister reads a register for display. A CA that has issued nothing has none.
func readRegister(dir string, tell io.Writer) (*cert.Register, error) {
	path := filepath.Join(dir, pkiRegister)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, pkiRoot)); err != nil {
			return nil, fmt.Errorf("%s is no CA's directory: %w", dir, err)
		}
	} else if err != nil {
		return nil, err
	}
	reg, torn, err := cert.ReadRegister(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(torn) > 0 {
		fmt.Fprintln(tell, "the register's last line is cut short, or is being written; the next pki issue or revoke puts it aside")
	}
	return reg, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

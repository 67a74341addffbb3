package source

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"xinqiao/exchange"
	"xinqiao/exchange/material"
)

// Record is a material with the subject it is put under.
type Record struct {
	Subject  exchange.Subject
	Material material.Material
}

// PutAll stores many records as Put stores one, with workers at a time and one
// sync of the directory. When it fails, some of the records may be stored.
func (v *Vault) PutAll(records []Record, workers int) error {
	if workers < 1 {
		return errors.New("put records: no workers")
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs error // protected by mu
	)
	next := make(chan Record)
	for range workers {
		wg.Go(func() {
			for r := range next {
				if err := v.write(r.Subject, r.Material); err != nil {
					mu.Lock()
					errs = errors.Join(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, r := range records {
		next <- r
	}
	close(next)
	wg.Wait()
	if errs != nil {
		return errs
	}
	return v.syncDir()
}

// write puts a record's file in place. The content is on disk before the name
// is; the name is there for good after syncDir.
func (v *Vault) write(subject exchange.Subject, m material.Material) (err error) {
	head, err := m.Head()
	if err != nil {
		return fmt.Errorf("put record: %w", err)
	}
	if _, err := v.check(subject, head.Item, m); err != nil {
		return fmt.Errorf("put record of %s: %w", head.Item, err)
	}
	plain, err := m.Encode()
	if err != nil {
		return fmt.Errorf("put record of %s: %w", head.Item, err)
	}
	name, aad, err := v.place(subject, head.Item)
	if err != nil {
		return fmt.Errorf("put record of %s: %w", head.Item, err)
	}
	sealed, err := v.keys.SealLocal(purpose, aad, plain)
	if err != nil {
		return fmt.Errorf("put record of %s: %w", head.Item, err)
	}
	if len(sealed) > maxFile {
		return fmt.Errorf("put record of %s: it is too long", head.Item)
	}
	if err := replace(v.dir, name, sealed); err != nil {
		return fmt.Errorf("put record of %s: %w", head.Item, err)
	}
	return nil
}

// replace gives name the content, in one step for every reader and after every
// crash. os.CreateTemp makes the file readable to its owner alone.
func replace(dir, name string, content []byte) error {
	f, err := os.CreateTemp(dir, "put-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func (v *Vault) syncDir() error {
	d, err := os.Open(v.dir)
	if err != nil {
		return fmt.Errorf("put record: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("put record: %w", err)
	}
	return nil
}

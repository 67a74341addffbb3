package replica

import "sync"

// fault holds the first error after which the node must not go on. Once set it
// stays: after a failed fsync the kernel may call the same pages clean, so a
// later success proves nothing.
type fault struct {
	mu      sync.Mutex
	err     error
	ch      chan error    // delivers err once
	tripped chan struct{} // closed when err is set
}

func newFault() *fault {
	return &fault{ch: make(chan error, 1), tripped: make(chan struct{})}
}

// set keeps the first error and returns it.
func (f *fault) set(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		f.ch <- err
		close(f.tripped)
	}
	return f.err
}

func (f *fault) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

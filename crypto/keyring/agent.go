package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"xinqiao/crypto/gm"
)

const (
	agentConns = 64 // connections that an agent serves at once
	agentOps   = 8  // operations at once
)

// ErrServed reports a socket at which another agent answers.
var ErrServed = errors.New("another agent serves this socket")

// An Agent lets other processes of its own user use a keyring's keys over a
// socket. It holds the keys so that they need not, and offers what Device does:
// no operation returns a key or changes one.
type Agent struct {
	device Device
	log    *slog.Logger
	uid    int
	ops    chan struct{}
	counts [opMAC + 1][codeEnd]atomic.Uint64
	denied atomic.Uint64 // connections of other users, and beyond the limit

	mu    sync.Mutex
	conns map[net.Conn]bool // mu protects conns
}

// NewAgent returns an agent over the keys that k stands on.
func NewAgent(k *Keyring, log *slog.Logger) *Agent {
	return &Agent{device: k.device, log: log, uid: os.Geteuid(), ops: make(chan struct{}, agentOps), conns: map[net.Conn]bool{}}
}

// Listen opens the agent's socket, mode 0600, in a directory that only its user
// may enter: made if it is missing, refused (ErrPermissions) if it is open to
// others. A socket that a dead agent has left is replaced, one that is served is
// ErrServed, anything else is ErrNotFile.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("keyring agent: %w", err)
	}
	return l, nil
}

func listen(path string) (net.Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: the socket's directory must be this user's own, mode 0700", ErrPermissions)
	}
	release, err := lockFolder(dir) // against another agent that starts now
	if err != nil {
		return nil, err
	}
	defer release()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%w: something else is in the socket's place", ErrNotFile)
	}
	if c, err := net.Dial("unix", path); err == nil {
		return errors.Join(ErrServed, c.Close())
	}
	return os.Remove(path)
}

// Serve answers until ctx ends, which closes the listener and every connection,
// or until the listener fails.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		_ = l.Close() // it is gone, or Accept tells why not
		a.mu.Lock()
		defer a.mu.Unlock()
		for c := range a.conns {
			_ = c.Close()
		}
		a.conns = nil // what is accepted from now on is closed
	})
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
			time.Sleep(50 * time.Millisecond) // until a descriptor is free
			continue
		}
		if err != nil {
			return fmt.Errorf("keyring agent: %w", err)
		}
		if err := a.admit(c); err != nil {
			a.denied.Add(1)
			a.log.Warn("connection refused", "err", err)
			_ = c.Close()
			continue
		}
		wg.Go(func() { a.converse(c) })
	}
}

// admit takes a connection of this agent's own user while there is room.
func (a *Agent) admit(c net.Conn) error {
	if err := checkPeer(c, a.uid); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil || len(a.conns) >= agentConns {
		return errors.New("too many connections")
	}
	a.conns[c] = true
	return nil
}

// converse answers one connection until it ends or breaks the protocol.
func (a *Agent) converse(c net.Conn) {
	defer func() {
		a.mu.Lock()
		delete(a.conns, c)
		a.mu.Unlock()
		_ = c.Close()
	}()
	err := greet(c)
	for err == nil {
		err = a.exchange(c)
	}
	if errors.Is(err, errFrame) {
		a.counts[0][codeMalformed].Add(1)
		a.log.Warn("connection closed: malformed", "err", err)
	}
}

// exchange answers one request.
func (a *Agent) exchange(c net.Conn) error {
	var n int
	if err := within(c, idleTime, func() (err error) { n, err = readSize(c, maxFrame); return err }); err != nil {
		return err
	}
	var q request
	if err := within(c, moveTime, func() error { return readBody(c, n, &q) }); err != nil {
		return err
	}
	if q.Op < opKeys || q.Op > opMAC {
		return fmt.Errorf("%w: operation %d", errFrame, q.Op)
	}
	a.ops <- struct{}{}
	r := a.answer(q)
	<-a.ops
	clear(q.Body)
	a.counts[q.Op][r.Code].Add(1)
	defer clear(r.Body)
	return within(c, moveTime, func() error { return writeFrame(c, r) })
}

// answer does what is asked. A failure is told by its code; its words go to the
// log, where nothing of the request goes.
func (a *Agent) answer(q request) (r response) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("operation panicked", "op", q.Op.String(), "key", q.ID.String())
			r = response{Code: codeFailed}
		}
	}()
	var err error
	switch q.Op {
	case opKeys:
		var keys []Key
		keys, err = a.device.Keys()
		r.Keys = toWire(keys)
	case opSign:
		var sig gm.Signature
		sig, err = a.device.Sign(q.ID, q.Use, q.Body)
		r.Body = sig[:]
	case opDecrypt:
		r.Body, err = a.device.Decrypt(q.ID, q.Body)
	case opMAC:
		var d gm.Digest
		d, err = a.device.MAC(q.ID, q.Body)
		r.Body = d[:]
	}
	if err != nil {
		r = response{Code: codeOf(err)}
		a.log.Warn("operation failed", "op", q.Op.String(), "key", q.ID.String(), "outcome", r.Code.String())
		if r.Code == codeFailed {
			a.log.Error("the keys could not be used", "err", err)
		}
	}
	return r
}

// LogCounts writes one line with how many operations ended how, and nothing of
// what they were about.
func (a *Agent) LogCounts() {
	var list []any
	for o := range a.counts {
		for c := range a.counts[o] {
			if n := a.counts[o][c].Load(); n > 0 {
				list = append(list, slog.Uint64(op(o).String()+" "+code(c).String(), n))
			}
		}
	}
	a.log.Info("operations", append(list, slog.Uint64("connections refused", a.denied.Load()))...)
}

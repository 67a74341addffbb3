package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"xinqiao/crypto/cert"
)

// ErrRevoked reports a peer whose certificate a CA's revocation list names.
var ErrRevoked = errors.New("the certificate is revoked")

// revocations are the CAs' lists that the configuration names. They only narrow
// whom the channel admits: what the ledger says about an entry must not depend on
// when a file reached a node, or nodes would judge alike entries differently.
//
// The file is read again when it changes. A new file that is malformed, not the
// CAs', or older than what was there does not replace the old one, and an
// expired list goes on revoking what it revokes: in either case more is refused
// than without the file, and the log says what to do.
type revocations struct {
	path string
	root []byte
	log  *slog.Logger

	mu    sync.Mutex
	seen  os.FileInfo                  // mu protects these
	lists map[string]*cert.Revocations // by the issuer's key
	told  string                       // the last complaint, so that each is made once
}

// openRevocations reads the file, which must be there and be good: a node whose
// operator named it does not start without it. No path means no lists.
func openRevocations(path string, root []byte, log *slog.Logger, now time.Time) (*revocations, error) {
	r := &revocations{path: path, root: root, log: log}
	if path == "" {
		return r, nil
	}
	return r, r.read(now)
}

// refuse returns ErrRevoked if a list names the certificate that a peer shows, or
// the CA that issued it.
func (r *revocations) refuse(who cert.Identity, now time.Time) error {
	if r.path == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if info, err := os.Stat(r.path); err != nil || !sameFile(info, r.seen) {
		if err := r.read(now); err != nil {
			r.tell("the revocation list cannot be read: the one before it stays in force", err)
		}
	}
	for _, list := range r.lists {
		if now.After(list.NextUpdate) {
			r.tell("the revocation list has expired and stays in force: get the CA's next one", fmt.Errorf("list %d of %q", list.Number, list.Issuer))
		}
		if one, ok := list.Revoked([]byte(who.Chain)); ok {
			return fmt.Errorf("%w since %s by %q: %s", ErrRevoked, one.At.Format(time.RFC3339), list.Issuer, one.Reason)
		}
	}
	return nil
}

// tell warns about one thing once, until there is another.
func (r *revocations) tell(what string, err error) {
	if said := what + err.Error(); said != r.told {
		r.told = said
		r.log.Warn(what, "error", err)
	}
}

func sameFile(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// read replaces the lists by those of the file, all of them or none.
func (r *revocations) read(now time.Time) error {
	info, err := os.Stat(r.path)
	if err != nil {
		return err
	}
	r.seen = info
	file, err := os.ReadFile(r.path)
	if err != nil {
		return err
	}
	root, err := cert.ParseRoot(r.root)
	if err != nil {
		return err
	}
	ders, err := cert.DecodeRevocations(file)
	if err != nil {
		return err
	}
	lists := map[string]*cert.Revocations{}
	for _, der := range ders {
		list, err := cert.ParseRevocations(root, der, now)
		if err != nil && !errors.Is(err, cert.ErrListExpired) {
			return err
		}
		if before := r.lists[list.IssuerKey]; before != nil {
			if err := list.Follows(before.Number); err != nil {
				return err
			}
		}
		if lists[list.IssuerKey] != nil {
			return fmt.Errorf("%w: two lists of %q", cert.ErrList, list.Issuer)
		}
		lists[list.IssuerKey] = list
	}
	for key, before := range r.lists {
		if lists[key] == nil {
			return fmt.Errorf("%w: the list of %q is gone", cert.ErrListOlder, before.Issuer)
		}
	}
	r.lists = lists
	return nil
}

package bench

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/ledger"
	"xinqiao/ledger/merkle"
)

// prices is the CPU that each operation costs by itself.
type prices struct{ sign, verify, second, entry, leaf, node time.Duration }

// needs is how many of them the entries of a spell could not do without, on all
// nodes together. What the program did beyond that is its own affair.
type needs struct {
	entries  int
	frames   uint64 // each is signed once and verified on every node
	seconds  uint64 // verdicts of the other engine
	cosigned uint64 // cosignatures made; each is verified on every node
}

// leafOver is what a leaf has beyond its entry, in bytes.
const leafOver = 64

// sample measures each operation alone for about d altogether, on all cores at
// once: what the machine can do is what its cores do together, and two that share
// their units do less than twice as much as one.
func sample(k *keyring.Keyring, cores int, d time.Duration) (prices, error) {
	var p prices
	first, second := gm.Emmansun(), gm.Tjfoc()
	body := make([]byte, 180) // as long as a frame's
	msg := gm.Preimage(ledger.DomainFrame, body)
	sig, err := k.Sign(ledger.DomainFrame, body)
	if err != nil {
		return p, err
	}
	key := k.SignPublic()
	entry, leaf := make([]byte, EntrySize), make([]byte, EntrySize+leafOver)
	verify := func(e gm.Engine) func() error {
		return func() error {
			if !e.Verify(key, msg, sig) {
				return fmt.Errorf("%s does not verify what was signed", e.Name())
			}
			return nil
		}
	}
	hash := func(data []byte) func() error {
		return func() error { merkle.LeafHash(first, data); return nil }
	}
	for _, op := range []struct {
		price *time.Duration
		do    func() error
	}{
		{&p.sign, func() error { _, err := k.Sign(ledger.DomainFrame, body); return err }},
		{&p.verify, verify(first)},
		{&p.second, verify(second)},
		{&p.entry, hash(entry)},
		{&p.leaf, hash(leaf)},
		{&p.node, func() error { merkle.NodeHash(first, gm.Digest{1}, gm.Digest{2}); return nil }},
	} {
		if *op.price, err = price(cores, d/6, op.do); err != nil {
			return p, err
		}
	}
	return p, nil
}

// price is the CPU time of one call. It counts this process's time and not the
// clock's, so that a noisy neighbour makes nothing look dearer.
func price(cores int, d time.Duration, do func() error) (time.Duration, error) {
	var calls atomic.Int64
	errs := make([]error, cores)
	var wg sync.WaitGroup
	began, cpu := time.Now(), processCPU()
	for core := range cores {
		wg.Go(func() {
			for errs[core] == nil && time.Since(began) < d {
				for range 8 {
					errs[core] = errors.Join(errs[core], do())
				}
				calls.Add(8)
			}
		})
	}
	wg.Wait()
	return (processCPU() - cpu) / time.Duration(max(calls.Load(), 1)), errors.Join(errs...)
}

// processCPU is what this process has used so far.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perEntry is the CPU that an entry needs on all nodes together.
func (p prices) perEntry(n needs, nodes int) time.Duration {
	if n.entries == 0 {
		return 0
	}
	all := time.Duration(nodes)
	total := time.Duration(n.frames)*(p.sign+all*p.verify) +
		time.Duration(n.seconds)*p.second +
		time.Duration(n.cosigned)*(p.sign+all*p.verify) +
		// On each node: the entry below its frame's root, the leaf below the tree's
		// root, and about one inner hash in each of the two.
		time.Duration(n.entries)*all*(p.entry+p.leaf+2*p.node)
	return total / time.Duration(n.entries)
}

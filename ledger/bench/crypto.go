package bench

import (
	"fmt"
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

// sample measures each operation alone for about d altogether.
func sample(k *keyring.Keyring, d time.Duration) (prices, error) {
	var p prices
	first, second := gm.Emmansun(), gm.Tjfoc()
	body := make([]byte, 180) // as long as a frame's
	msg := gm.Preimage(ledger.DomainFrame, body)
	sig, err := k.Sign(ledger.DomainFrame, body)
	if err != nil {
		return p, err
	}
	key := k.SignPublic()
	entry, leaf, left := make([]byte, EntrySize), make([]byte, EntrySize+leafOver), gm.Digest{}
	var bad error
	check := func(e gm.Engine) {
		if !e.Verify(key, msg, sig) {
			bad = fmt.Errorf("%s does not verify what was signed", e.Name())
		}
	}
	each := d / 6
	p.sign = price(each, func() { _, bad = k.Sign(ledger.DomainFrame, body) })
	p.verify = price(each, func() { check(first) })
	p.second = price(each, func() { check(second) })
	p.entry = price(each, func() { merkle.LeafHash(first, entry) })
	p.leaf = price(each, func() { merkle.LeafHash(first, leaf) })
	p.node = price(each, func() { left = merkle.NodeHash(first, left, left) })
	return p, bad
}

// price is the CPU time of one call. It counts this process's time and not the
// clock's, so that a noisy neighbour makes nothing look dearer.
func price(d time.Duration, do func()) time.Duration {
	calls, began, cpu := 0, time.Now(), processCPU()
	for time.Since(began) < d || calls < 8 {
		for range 8 {
			do()
		}
		calls += 8
	}
	return (processCPU() - cpu) / time.Duration(calls)
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

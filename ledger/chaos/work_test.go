package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

// op is one operation of the history: an entry, however often it was sent.
type op struct {
	kind      string // access | withdraw | consent | fact
	author    exchange.Dept
	id        ledger.ID
	consent   string
	entry     []byte
	call, ret time.Duration // since the run began; ret is meaningless while unknown
	out       Outcome
	attempts  int
	open      bool // some attempt's outcome was unknown
}

// consent is an authority record that the clients fight over.
type consent struct {
	key               string
	holder, requester exchange.Dept
	max               uint32
}

// work is the clients and what they saw.
type work struct {
	c     *cluster
	began time.Time

	mu       sync.Mutex
	consents []consent
	history  []*op
	reads    int
	serial   int
}

func newWork(c *cluster) *work {
	return &work{c: c, began: time.Now()}
}

func (w *work) now() time.Duration { return time.Since(w.began) }

// send has the operation's entry appended, again with the same bytes while its
// outcome is unknown, and puts it into the history.
func (w *work) send(o *op, tries int, release bool) {
	o.call = w.now()
	n := w.c.nodes[o.author]
	for range tries {
		o.attempts++
		var out Outcome
		if err := n.call("Append", Write{Entry: o.entry, Release: release, Within: 4 * time.Second}, &out, 6*time.Second); err != nil {
			out = Outcome{Result: "unknown", Err: err.Error()}
		}
		o.out = out
		o.open = o.open || out.Result == "unknown"
		if out.Result != "unknown" && out.Result != "not-proposed" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if o.open && o.out.Result == "not-proposed" {
		o.out.Result = "unknown" // an earlier attempt may yet appear
	}
	o.ret = w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, o)
}

func (w *work) next(name string) ledger.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	return id(name, fmt.Sprint(w.serial))
}

func newOp(kind, consent string, e ledger.Entry) *op {
	b, err := e.Encode()
	if err != nil {
		panic(fmt.Sprintf("the harness makes a malformed entry: %v", err)) // ends the test
	}
	return &op{kind: kind, author: e.Author, id: e.ID, consent: consent, entry: b}
}

// grant makes a consent that anyone may use once its holder's node has it.
func (w *work) grant(r *rand.Rand) {
	d := depts()
	i := r.IntN(len(d))
	c := consent{key: w.next("consent").String(), requester: d[i], holder: d[(i+1+r.IntN(len(d)-1))%len(d)]}
	if r.IntN(2) == 0 {
		c.max = uint32(1 + r.IntN(12))
	}
	e := fact(c.requester, w.next("consent entry"), ledger.FactChange{Type: ledger.FactAuthority, Key: c.key, Action: ledger.Set,
		Provider: c.holder, Grantee: c.requester, MaxReads: c.max})
	o := newOp("consent", c.key, e)
	w.send(o, 3, false)
	if o.out.Result == "not-proposed" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.consents = append(w.consents, c)
}

// pick prefers young consents: there the races are.
func (w *work) pick(r *rand.Rand) (consent, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.consents) == 0 {
		return consent{}, false
	}
	return w.consents[max(0, len(w.consents)-1-r.IntN(6))], true
}

// read asks a node how a consent stands.
func (w *work) read(at exchange.Dept, c consent) (Standing, bool) {
	var s Standing
	if err := w.c.nodes[at].call("Read", Question{Requester: c.requester, Consent: c.key}, &s, 3*time.Second); err != nil {
		return Standing{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	return s, true
}

// access has the holder decide about a consent and release. Some rest on what the
// holder knows to be withdrawn, some are sent twice with one id and other bytes. It
// reports whether a response was released.
func (w *work) access(r *rand.Rand, c consent) (released bool) {
	s, ok := w.read(c.holder, c)
	if !ok || s.Fact == nil || !s.Fact.Active && r.IntN(4) > 0 {
		return false
	}
	entry := w.next("access")
	e := ledger.Entry{Suite: gm.Suite, Kind: ledger.KindAccess, ID: entry, Author: c.holder, Access: &ledger.Access{
		Holder: c.holder, Requester: c.requester, Class: "civil", Outcome: exchange.Allowed, Basis: s.Basis, Request: gm.Digest{1},
		Response: gm.Emmansun().Sum([]byte("response"), entry[:]), Body: gm.Digest{3}, HolderTag: ledger.Tag{7},
		RequesterTag: ledger.Tag{8}, Size: 12, Epoch: "2026-11"}}
	first := newOp("access", c.key, e)
	if r.IntN(12) > 0 {
		w.send(first, 1+r.IntN(3), true)
		return first.out.Released
	}
	other := *e.Access
	other.Request = gm.Digest{2}
	e.Access = &other
	second := newOp("access", c.key, e)
	var both sync.WaitGroup
	both.Go(func() { w.send(first, 2, true) })
	both.Go(func() { w.send(second, 2, true) })
	both.Wait()
	return first.out.Released || second.out.Released
}

func (w *work) revoke(r *rand.Rand, c consent) {
	author := c.requester
	if r.IntN(2) == 0 {
		author = c.holder
	}
	if s, ok := w.read(author, c); !ok || s.Fact == nil {
		return // its node has not seen the consent
	}
	e := fact(author, w.next("withdrawal"), ledger.FactChange{Type: ledger.FactAuthority, Key: c.key, Action: ledger.Withdraw,
		Provider: c.holder, Grantee: c.requester})
	w.send(newOp("withdraw", c.key, e), 3, false)
}

// client works until stop is closed.
func (w *work) client(r *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		c, ok := w.pick(r)
		switch n := r.IntN(100); {
		case !ok || n < 8:
			w.grant(r)
		case n < 14:
			w.revoke(r, c)
		default:
			w.access(r, c)
		}
		time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond)
	}
}

// insist sends the operation until it has an outcome, as one that began once.
func (w *work) insist(o *op, within time.Duration) error {
	w.send(o, int(within/(100*time.Millisecond)), false)
	if o.out.Result != "committed" {
		return fmt.Errorf("%s cannot write a %s: %s %s", o.author, o.kind, o.out.Result, o.out.Err)
	}
	return nil
}

// found writes every department's own facts; all must be there in the end.
func (w *work) found(within time.Duration) error {
	var all sync.WaitGroup
	errs := make(chan error, 64)
	for _, d := range depts() {
		for _, e := range ownFacts(d) {
			all.Go(func() { errs <- w.insist(newOp("fact", "", e), within) })
		}
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// consentOf registers a consent and waits until the holder's node has it.
func (w *work) consentOf(holder, requester exchange.Dept, within time.Duration) (consent, error) {
	c := consent{key: w.next("consent").String(), holder: holder, requester: requester}
	set := fact(requester, w.next("consent entry"), ledger.FactChange{Type: ledger.FactAuthority, Key: c.key, Action: ledger.Set,
		Provider: holder, Grantee: requester})
	if err := w.insist(newOp("consent", c.key, set), within); err != nil {
		return c, err
	}
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		if s, ok := w.read(holder, c); ok && s.Fact != nil {
			return c, nil
		}
		if time.Now().After(deadline) {
			return c, fmt.Errorf("%s does not see the consent of %s", holder, requester)
		}
	}
}

// goesOn has every node answer one access, as a cluster without faults must.
func (w *work) goesOn(within time.Duration) error {
	d := depts()
	errs := make([]error, len(d))
	var all sync.WaitGroup
	for i, holder := range d {
		all.Go(func() {
			c, err := w.consentOf(holder, d[(i+1)%len(d)], within)
			deadline, r := time.Now().Add(within), rand.New(rand.NewPCG(1, uint64(i)))
			for err == nil && !w.access(r, c) {
				if time.Now().After(deadline) {
					err = fmt.Errorf("%s releases nothing any more", holder)
				}
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

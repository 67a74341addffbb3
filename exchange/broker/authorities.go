package broker

import (
	"context"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/policy"
	"xinqiao/policy/authority"
)

// authorityRecord is an authority record as its grantee keeps it.
type authorityRecord struct {
	Record []byte    `cbor:"1,keyasint"`
	Salt   gm.Digest `cbor:"2,keyasint"`
}

// caseRecord is an open case towards one holder. Cases are per pair, so that
// the ledger does not link what one case asks of several holders.
type caseRecord struct {
	Key   string    `cbor:"1,keyasint"`
	Salt  gm.Digest `cbor:"2,keyasint"`
	Entry []byte    `cbor:"3,keyasint"` // that opens it: trying again appends the same
}

// registered is what a registration's idempotency key stands for. The ids are
// kept before anything is appended, so that trying again appends the same.
type registered struct {
	Form    gm.Digest `cbor:"1,keyasint"`
	Key     string    `cbor:"2,keyasint"` // of the authority fact
	Entry   []byte    `cbor:"3,keyasint"`
	CaseKey string    `cbor:"4,keyasint"`
}

// Register records that a subject has consented. It opens the case towards the
// provider if this is the first consent for it.
func (b *Broker) Register(ctx context.Context, system, key string, f exchange.ConsentForm) (exchange.AuthorityInfo, error) {
	const op = "broker.Register"
	name, err := b.cfg.Keys.LocalTag(kindIdempotency, []byte("register\x00"+system+"\x00"+key))
	if err != nil {
		return exchange.AuthorityInfo{}, err
	}
	defer b.locks.lock(string(name[:]))()
	form, err := b.cfg.Keys.LocalTag("form", canon.MustMarshal(f))
	if err != nil {
		return exchange.AuthorityInfo{}, err
	}
	var r registered
	known, err := b.load(kindIdempotency, name[:], &r)
	if err != nil {
		return exchange.AuthorityInfo{}, err
	}
	if known && r.Form != form {
		return exchange.AuthorityInfo{}, &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeConflict, Op: op,
			Msg: "the idempotency key was used for another registration", Hint: "use a new key for each consent"}
	}
	if !known {
		if err := b.knowsProvider(ctx, f.Provider); err != nil {
			return exchange.AuthorityInfo{}, err
		}
		if r, err = b.newConsent(f, form); err != nil {
			return exchange.AuthorityInfo{}, err
		}
		if err := b.save(kindIdempotency, name[:], r); err != nil {
			return exchange.AuthorityInfo{}, err
		}
	}
	if err := b.openCase(ctx, f.Case, f.Provider); err != nil {
		return exchange.AuthorityInfo{}, err
	}
	entry, err := ledger.DecodeEntry(r.Entry)
	if err != nil {
		return exchange.AuthorityInfo{}, err
	}
	b.cfg.Crash("register-before-append")
	if err := b.append(ctx, op, entry); err != nil {
		return exchange.AuthorityInfo{}, err
	}
	return b.Authority(ctx, r.Key)
}

// knowsProvider keeps a consent towards nobody off the ledger.
func (b *Broker) knowsProvider(ctx context.Context, dept exchange.Dept) error {
	known := false
	err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) error {
		known = v.Fact(ledger.FactMember, string(dept)).In(v.Now())
		return nil
	})
	if err != nil {
		return appendError("broker.Register", err)
	}
	if !known {
		return &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeUnknownDept, Pointer: "/provider", Op: "broker.Register",
			Msg: "no such department is a member of this exchange", Hint: "see GET /api/v1/catalogue for departments and what they hold"}
	}
	return nil
}

func (b *Broker) newConsent(f exchange.ConsentForm, form gm.Digest) (registered, error) {
	id, err := ledger.NewID()
	if err != nil {
		return registered{}, err
	}
	if err := f.Subject.Check(b.cfg.Population); err != nil {
		err.Pointer = "/subject/id"
		return registered{}, err
	}
	record, err := authority.FromConsent(id, b.cfg.Self, f, b.cfg.Clock())
	if err != nil {
		return registered{}, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Op: "broker.Register", Msg: err.Error(),
			Hint: "see the API description for what a consent must say, by its channel", Err: err}
	}
	raw, err := record.Encode()
	if err != nil {
		return registered{}, err
	}
	rec := authorityRecord{Record: raw, Salt: nonce()}
	commitment, err := record.Commitment(b.cfg.Engine, rec.Salt[:])
	if err != nil {
		return registered{}, err
	}
	if err := b.save(kindAuthority, []byte(id.String()), rec); err != nil {
		return registered{}, err
	}
	entry, err := b.factEntry(ledger.FactChange{Type: ledger.FactAuthority, Key: id.String(), Action: ledger.Set, Provider: f.Provider,
		Grantee: b.cfg.Self, NotBefore: record.NotBefore, NotAfter: record.NotAfter, MaxReads: record.Use.MaxReads, Commitment: commitment})
	if err != nil {
		return registered{}, err
	}
	encoded, err := entry.Encode()
	return registered{Form: form, Key: id.String(), Entry: encoded}, err
}

func (b *Broker) factEntry(c ledger.FactChange) (ledger.Entry, error) {
	id, err := ledger.NewID()
	return ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: id, Author: b.cfg.Self, Origin: b.cfg.Clock().UnixMilli(), Fact: &c}, err
}

// append has the entry committed, and says why when the ledger refuses it.
func (b *Broker) append(ctx context.Context, op string, e ledger.Entry) error {
	placed, err := b.cfg.Ledger.Append(ctx, e)
	if err != nil {
		return appendError(op, err)
	}
	if placed.Result != ledger.Committed {
		return &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeStale, Op: op,
			Msg: "the ledger refused the change: " + placed.Slot.String(), Hint: "read the present state and try again"}
	}
	return nil
}

func caseName(keys Keys, c exchange.Case, holder exchange.Dept) ([]byte, error) {
	d, err := keys.LocalTag("case", []byte(string(c)+"\x00"+string(holder)))
	return d[:], err
}

// openCase opens the case towards holder, once.
func (b *Broker) openCase(ctx context.Context, c exchange.Case, holder exchange.Dept) error {
	name, err := caseName(b.cfg.Keys, c, holder)
	if err != nil {
		return err
	}
	defer b.locks.lock(string(name))()
	var rec caseRecord
	known, err := b.load(kindAuthority, name, &rec)
	if err != nil {
		return err
	}
	if !known {
		id, err := ledger.NewID()
		if err != nil {
			return err
		}
		rec = caseRecord{Key: id.String(), Salt: nonce()}
		entry, err := b.factEntry(ledger.FactChange{Type: ledger.FactCase, Key: rec.Key, Action: ledger.Set, Provider: holder,
			Grantee: b.cfg.Self, Commitment: caseCommitment(b.cfg.Engine, rec.Salt, c, holder)})
		if err != nil {
			return err
		}
		if rec.Entry, err = entry.Encode(); err != nil {
			return err
		}
		if err := b.save(kindAuthority, name, rec); err != nil {
			return err
		}
	}
	opened := false
	if err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) error {
		opened = v.Fact(ledger.FactCase, rec.Key) != nil
		return nil
	}); err != nil || opened {
		return err
	}
	entry, err := ledger.DecodeEntry(rec.Entry)
	if err != nil {
		return err
	}
	return b.append(ctx, "broker.openCase", entry)
}

func (b *Broker) attachCase(r *request) error {
	name, err := caseName(b.cfg.Keys, r.Case.Case, r.Holder)
	if err != nil {
		return err
	}
	var rec caseRecord
	known, err := b.load(kindAuthority, name, &rec)
	if known {
		r.Case.Key, r.Case.Salt = rec.Key, rec.Salt
	}
	return err
}

// Authority returns the state of an authority record that this department is a
// party to.
func (b *Broker) Authority(ctx context.Context, id string) (exchange.AuthorityInfo, error) {
	missing := &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Op: "broker.Authority",
		Msg: "this department is no party to such an authority record", Hint: "check the id"}
	var f *ledger.Fact
	info := exchange.AuthorityInfo{ID: id, Basis: string(policy.Consent)}
	err := b.cfg.Ledger.Read(ctx, func(v *ledger.View) error {
		if f = v.Fact(ledger.FactAuthority, id); f == nil {
			return nil
		}
		s := standing(f)
		info.State, info.Provider, info.Grantee = string(s.At(v.Now())), f.Provider, f.Grantee
		info.NotBefore, info.NotAfter = millis(f.NotBefore*1000), millis(f.NotAfter*1000)
		info.MaxReads, info.Reads = f.MaxReads, f.Reads
		return nil
	})
	if err != nil {
		return exchange.AuthorityInfo{}, appendError("broker.Authority", err)
	}
	if f == nil || f.Provider != b.cfg.Self && f.Grantee != b.cfg.Self {
		return exchange.AuthorityInfo{}, missing
	}
	hash, err := b.cfg.Ledger.LeafHash(f.Version - 1)
	info.Receipt = ledger.PublicReceipt(b.cfg.Ledger.Origin(), f.Author, f.Entry, f.Version-1, hash, f.Time)
	return info, err
}

// withdrawal is what this department keeps of why an authority ended.
type withdrawal struct {
	System string    `cbor:"1,keyasint"`
	Reason string    `cbor:"2,keyasint"`
	Entry  ledger.ID `cbor:"3,keyasint"`
}

// Withdraw records that the subject takes the authority back. Once it returns,
// no node commits or releases another access that rests on it. Withdrawing
// again is no error. The reason stays with this department, sealed.
func (b *Broker) Withdraw(ctx context.Context, system, id, reason string) (exchange.AuthorityInfo, error) {
	defer b.locks.lock("withdraw\x00" + id)()
	info, err := b.Authority(ctx, id)
	if err != nil || info.State == string(policy.StateWithdrawn) {
		return info, err
	}
	entry, err := b.factEntry(ledger.FactChange{Type: ledger.FactAuthority, Key: id, Action: ledger.Withdraw,
		Provider: info.Provider, Grantee: info.Grantee})
	if err != nil {
		return info, err
	}
	if err := b.save(kindAuthority, []byte("withdrawal "+id), withdrawal{System: system, Reason: reason, Entry: entry.ID}); err != nil {
		return info, err
	}
	placed, err := b.cfg.Ledger.Append(ctx, entry)
	if err != nil {
		return info, appendError("broker.Withdraw", err)
	}
	b.cfg.Log.Info("authority withdrawn", "system", system, "authority", id, "index", placed.Index, "result", placed.Result.String())
	// An entry that came second is refused too, and then the state says so.
	if info, err = b.Authority(ctx, id); err == nil && info.State != string(policy.StateWithdrawn) {
		return info, &exchange.Error{Kind: exchange.Conflict, Code: exchange.CodeStale, Op: "broker.Withdraw",
			Msg: "the ledger refused the withdrawal: " + placed.Slot.String(), Hint: "tell the node's operator: the authority is still in force"}
	}
	return info, err
}

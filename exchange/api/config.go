package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Exchanges asks other departments. A denial is an Answer with a nil error; an
// error says that the exchange did not end. With an error of kind Undetermined
// the Answer still carries the exchange's ID when one was assigned, so that the
// system can ask for it later.
type Exchanges interface {
	// Ask conducts one exchange. The same system, key and question yield the
	// same answer; another question under a used key is a Conflict.
	Ask(ctx context.Context, system, key string, q exchange.Question) (exchange.Answer, error)
	// Answered returns how an exchange that system asked for ended, or NotFound.
	Answered(ctx context.Context, system, id string) (exchange.Answer, error)
}

// Authorities keeps the authority records (授权记录) of this department.
type Authorities interface {
	// Register puts a consent on the ledger and returns once it is committed.
	Register(ctx context.Context, system, key string, f exchange.ConsentForm) (exchange.AuthorityInfo, error)
	// Authority returns the state of one record, or NotFound.
	Authority(ctx context.Context, id string) (exchange.AuthorityInfo, error)
	// Withdraw returns once no access can be committed on the record any more.
	// Withdrawing what is withdrawn is not an error.
	Withdraw(ctx context.Context, system, id, reason string) (exchange.AuthorityInfo, error)
}

// Catalogue lists what departments hold.
type Catalogue interface {
	Catalogue(ctx context.Context) ([]exchange.CatalogueItem, error)
}

// Ledger reads this node's replica of the access ledger.
type Ledger interface {
	// Search returns a page of rows, newest first, and the cursor of the next
	// page, empty at the end.
	Search(ctx context.Context, q exchange.LedgerQuery) (rows []exchange.LedgerRow, next string, err error)
	// Row returns one entry, or NotFound.
	Row(ctx context.Context, index uint64) (exchange.LedgerRow, error)
	// Proof returns what shows offline that an entry stands in the ledger.
	Proof(ctx context.Context, index uint64) (exchange.LedgerProof, error)
	// Checkpoint returns the latest cosigned note.
	Checkpoint(ctx context.Context) (string, error)
	// Evidence returns an evidence file (zip) for the entries.
	Evidence(ctx context.Context, indices []uint64) ([]byte, error)
}

// Scope is what a system may use the API for.
type Scope string

// The scopes.
const (
	ScopeExchange  Scope = "exchange"  // ask, and read own answers
	ScopeConsent   Scope = "consent"   // register and withdraw authority records
	ScopeCatalogue Scope = "catalogue" // read the catalogue
	ScopeLedger    Scope = "ledger"    // search the ledger and take evidence
)

// System is one department system that may call the API. It has a token, a key
// or both. The zero System is refused.
type System struct {
	Name      string       // appears in logs and is given to the broker; the keyid of its signatures
	TokenHash gm.Digest    // SM3 of the bearer token; the token itself is held nowhere
	Key       gm.PublicKey // with which its signed requests verify
	Signed    bool         // the token is not accepted: the system must sign
	Scopes    []Scope      //
	Expires   time.Time    // required: a credential without an end is not accepted
}

// Config is what the API needs. Fields are required unless said otherwise.
type Config struct {
	Exchanges   Exchanges
	Authorities Authorities
	Catalogue   Catalogue
	Ledger      Ledger
	Systems     []System
	// Host reports whether callers reach this node under a host name or address. A
	// signed request for another host is refused. Required when a system has a key.
	Host       func(host string) bool
	Population exchange.Population // zero: real people
	// Explain tells a person what a code of denial means; policy.Explain is one.
	Explain func(code exchange.Code, lang string) (text, article, remedy string)
	Engine  gm.Engine // hashes tokens, verifies signatures
	Clock   func() time.Time
	Log     *slog.Logger
	// Observe, when not nil, is called once per request with the route's
	// pattern, never with a path.
	Observe func(route string, status int, seconds float64)
	// MaxInFlight bounds concurrent requests; 0 means 256.
	MaxInFlight int
}

func (c *Config) check() error {
	switch {
	case c.Exchanges == nil || c.Authorities == nil || c.Catalogue == nil || c.Ledger == nil:
		return errors.New("api: Exchanges, Authorities, Catalogue and Ledger are required")
	case c.Explain == nil || c.Engine == nil || c.Clock == nil || c.Log == nil:
		return errors.New("api: Explain, Engine, Clock and Log are required")
	}
	seen, keys := map[string]bool{}, map[gm.PublicKey]bool{}
	for _, s := range c.Systems {
		switch {
		case !exchange.Dept(s.Name).Valid() || seen[s.Name]:
			return fmt.Errorf("api: system %q: name is malformed or used twice (want 2 to 32 of a-z, 0-9, -)", s.Name)
		case s.TokenHash == gm.Digest{} && s.Key.IsZero():
			return fmt.Errorf("api: system %s: neither a token hash nor a key", s.Name)
		case s.Signed && s.Key.IsZero():
			return fmt.Errorf("api: system %s: it must sign and has no key", s.Name)
		case !s.Key.IsZero() && (keys[s.Key] || c.Host == nil):
			return fmt.Errorf("api: system %s: its key is another system's too, or Host is missing", s.Name)
		case s.Expires.IsZero():
			return fmt.Errorf("api: system %s: no expiry", s.Name)
		}
		for _, scope := range s.Scopes {
			if !slices.Contains([]Scope{ScopeExchange, ScopeConsent, ScopeCatalogue, ScopeLedger}, scope) {
				return fmt.Errorf("api: system %s: unknown scope %q", s.Name, scope)
			}
		}
		seen[s.Name], keys[s.Key] = true, true
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = 256
	}
	return nil
}

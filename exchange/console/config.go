package console

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Ledger reads this node's replica of the access ledger.
type Ledger interface {
	// Search returns a page of rows, newest first, and the cursor of the next.
	Search(ctx context.Context, q exchange.LedgerQuery) (rows []exchange.LedgerRow, next string, err error)
	// Row returns one entry, or NotFound.
	Row(ctx context.Context, index uint64) (exchange.LedgerRow, error)
	// Proof returns the inclusion proof of an entry.
	Proof(ctx context.Context, index uint64) (exchange.LedgerProof, error)
	// Evidence returns an evidence file (zip) for the entries.
	Evidence(ctx context.Context, indices []uint64) ([]byte, error)
}

// Catalogue names items and fields for people.
type Catalogue interface {
	Catalogue(ctx context.Context) ([]exchange.CatalogueItem, error)
}

// Login turns a one-time code into an officer. A code works once, whether or
// not the page after it is ever seen. Codes is one.
type Login interface {
	Redeem(code string) (officer string, ok bool)
}

// Config is what the console needs. Fields are required unless said otherwise.
type Config struct {
	Self   exchange.Dept // whose node this is
	Ledger Ledger
	Login  Login
	// Engines verify cosignatures; one counts when all of them accept it. The
	// first also hashes.
	Engines []gm.Engine
	// Members returns the signing keys of the departments that cosign
	// checkpoints, by name.
	Members func(ctx context.Context) (map[string]gm.PublicKey, error)
	// Explain tells a person what a code of denial means; policy.Explain is one.
	Explain func(code exchange.Code, lang string) (text, article, remedy string)
	// Name is what people call a department; nil shows ids.
	Name func(d exchange.Dept, lang string) string
	// Catalogue may be nil: then items and fields are shown by their names.
	Catalogue Catalogue
	Clock     func() time.Time
	Log       *slog.Logger
	// Observe, when not nil, is called once per request with the route's pattern.
	Observe func(route string, status int, seconds float64)
}

func (c *Config) check() error {
	switch {
	case c.Ledger == nil || c.Login == nil || c.Members == nil || c.Explain == nil:
		return errors.New("console: Ledger, Login, Members and Explain are required")
	case len(c.Engines) == 0 || c.Clock == nil || c.Log == nil:
		return errors.New("console: Engines, Clock and Log are required")
	case !c.Self.Valid():
		return errors.New("console: Self is not the name of a department")
	}
	if c.Name == nil {
		c.Name = func(d exchange.Dept, _ string) string { return string(d) }
	}
	return nil
}

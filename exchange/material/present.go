package material

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// Presentation is what leaves the holder: the signed body, and salt and value of
// the fields that are shown. It prints redacted.
//
// Disclosed fields are certified by the issuer's signature over Body. Predicates
// are not: the holder computes them from a field that it does not show, and they
// are certified by the holder's signature over the response that carries the
// presentation, together with the time they were computed for. A presentation
// with predicates proves nothing outside of that response.
type Presentation struct {
	Body        []byte            `cbor:"1,keyasint"`
	Sig         gm.Signature      `cbor:"2,keyasint"`
	SubjectSalt gm.Digest         `cbor:"3,keyasint"`
	Disclosed   []Disclosure      `cbor:"4,keyasint,omitempty"`
	Predicates  []PredicateResult `cbor:"5,keyasint,omitempty"`
}

// PredicateResult says whether a predicate over an undisclosed field holds.
type PredicateResult struct {
	Field     exchange.Field `cbor:"1,keyasint"`
	Predicate string         `cbor:"2,keyasint"`
	Holds     bool           `cbor:"3,keyasint"`
}

// Want is what a presentation must be about and show. Zero values match nothing,
// At excepted.
type Want struct {
	Item    exchange.Item
	Subject exchange.Subject
	Views   []exchange.View
	Issuer  exchange.Dept
	Cert    gm.Digest // of the issuer's signing certificate
	At      time.Time // must lie in the material's validity; zero leaves that to the caller, who finds it in Verified
}

// Verified is what a presentation proved.
type Verified struct {
	MaterialID [16]byte
	IssuedAt   time.Time
	ValidFrom  time.Time            // zero: no bound
	ValidTo    time.Time            // zero: no bound
	Fields     []exchange.Disclosed // in the order of the views asked for
}

// Present shows exactly the views, with predicates decided as of asOf. Modes
// other than Value and Predicate are ErrMode, a field that the material does not
// have is ErrNoField, an empty view list or a view named twice is ErrViews, and a
// material outside its validity is ErrValidity.
func (m Material) Present(views []exchange.View, asOf time.Time) (Presentation, error) {
	if err := checkViews(views); err != nil {
		return Presentation{}, err
	}
	b, err := decodeBody(m.Body)
	if err != nil {
		return Presentation{}, err
	}
	if !b.inForce(asOf) {
		return Presentation{}, ErrValidity
	}
	p := Presentation{Body: slices.Clone(m.Body), Sig: m.Sig, SubjectSalt: m.SubjectSalt}
	for _, v := range views {
		i := slices.IndexFunc(m.Disclosures, func(d Disclosure) bool { return d.Field == v.Field })
		if i < 0 {
			return Presentation{}, fmt.Errorf("%w: %s", ErrNoField, v.Field)
		}
		if v.Mode == exchange.Value {
			p.Disclosed = append(p.Disclosed, m.Disclosures[i])
			continue
		}
		holds, err := EvalPredicate(v.Predicate, v.Field, m.Disclosures[i].Value, asOf)
		if err != nil {
			return Presentation{}, err
		}
		p.Predicates = append(p.Predicates, PredicateResult{Field: v.Field, Predicate: v.Predicate, Holds: holds})
	}
	return p, nil
}

// Verify checks the presentation against the issuer's key and w: the issuer's
// signature, item, issuer, certificate and subject, that each shown field opens a
// digest of the signed body, and that exactly the views of w are there; one more
// or one less is ErrViews.
func (p Presentation) Verify(e gm.Engine, issuer gm.PublicKey, w Want) (Verified, error) {
	if err := checkViews(w.Views); err != nil {
		return Verified{}, err
	}
	b, err := verifyBody(e, issuer, p.Body, p.Sig, p.SubjectSalt, w)
	if err != nil {
		return Verified{}, err
	}
	if err := b.opened(e, p.Disclosed); err != nil {
		return Verified{}, err
	}
	// As many as there are views, none twice, and each view found: then they
	// are the same set.
	if len(p.Disclosed)+len(p.Predicates) != len(w.Views) {
		return Verified{}, fmt.Errorf("%w: %d views instead of %d", ErrViews, len(p.Disclosed)+len(p.Predicates), len(w.Views))
	}
	h := b.head()
	out := Verified{MaterialID: h.ID, IssuedAt: h.IssuedAt, ValidFrom: h.ValidFrom, ValidTo: h.ValidTo}
	for _, v := range w.Views {
		d, ok := p.shown(v)
		if !ok {
			return Verified{}, fmt.Errorf("%w: %s %s is missing", ErrViews, v.Field, v.Mode)
		}
		out.Fields = append(out.Fields, d)
	}
	return out, nil
}

// Head reads what the presentation says of its material. Verify believes it.
func (p Presentation) Head() (Head, error) {
	b, err := decodeBody(p.Body)
	if err != nil {
		return Head{}, err
	}
	return b.head(), nil
}

// shown finds the view in what the presentation shows.
func (p Presentation) shown(v exchange.View) (exchange.Disclosed, bool) {
	if v.Mode == exchange.Value {
		i := slices.IndexFunc(p.Disclosed, func(d Disclosure) bool { return d.Field == v.Field })
		if i < 0 {
			return exchange.Disclosed{}, false
		}
		return exchange.Disclosed{View: v, Value: p.Disclosed[i].Value}, true
	}
	i := slices.IndexFunc(p.Predicates, func(r PredicateResult) bool { return r.Field == v.Field && r.Predicate == v.Predicate })
	if i < 0 {
		return exchange.Disclosed{}, false
	}
	return exchange.Disclosed{View: v, Holds: p.Predicates[i].Holds}, true
}

// verifyBody checks everything that does not depend on which fields are shown.
func verifyBody(e gm.Engine, issuer gm.PublicKey, raw []byte, sig gm.Signature, salt gm.Digest, w Want) (body, error) {
	if !e.Verify(issuer, gm.Preimage(domainBody, raw), sig) {
		return body{}, fmt.Errorf("%w: the signature does not hold", ErrForged)
	}
	b, err := decodeBody(raw)
	if err != nil {
		return body{}, err
	}
	switch {
	case b.Item != w.Item:
		return body{}, fmt.Errorf("%w: item", ErrOther)
	case b.Issuer != w.Issuer:
		return body{}, fmt.Errorf("%w: issuer", ErrOther)
	case b.Cert != w.Cert || w.Cert == gm.Digest{}:
		return body{}, fmt.Errorf("%w: certificate", ErrOther)
	case !validSubject(w.Subject) || b.Subject != commitSubject(e, salt, w.Subject):
		return body{}, fmt.Errorf("%w: subject", ErrOther)
	case !w.At.IsZero() && !b.inForce(w.At):
		return body{}, ErrValidity
	}
	return b, nil
}

// checkViews refuses what is not a request for something, each thing once, in a
// mode that is supported.
func checkViews(views []exchange.View) error {
	if len(views) == 0 || len(views) > exchange.MaxViews {
		return fmt.Errorf("%w: %d views are asked for", ErrViews, len(views))
	}
	seen := make(map[exchange.View]bool, len(views))
	for _, v := range views {
		switch {
		case v.Mode != exchange.Value && v.Mode != exchange.Predicate:
			return fmt.Errorf("%w: %s of %s: only value and predicate are", ErrMode, v.Mode, v.Field)
		case !v.Valid() || seen[v]:
			return fmt.Errorf("%w: a view is malformed or named twice", ErrViews)
		}
		seen[v] = true
	}
	return nil
}

// String withholds the fields.
func (p Presentation) String() string { return "presentation withheld" }

// GoString withholds the fields.
func (p Presentation) GoString() string { return p.String() }

// LogValue withholds the fields.
func (p Presentation) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String withholds whether it holds.
func (r PredicateResult) String() string { return string(r.Field) + " " + r.Predicate + " withheld" }

// GoString withholds whether it holds.
func (r PredicateResult) GoString() string { return r.String() }

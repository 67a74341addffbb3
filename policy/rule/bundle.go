package rule

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"xinqiao/crypto/canon"
	"xinqiao/exchange"
	"xinqiao/policy"
)

// The names of the files that are not rules. Each is alone in its bundle.
const (
	BaselineFile     = "baseline.yaml"
	RestrictionsFile = "restrictions.yaml"
)

// MaxBundle bounds an encoded bundle, in bytes; it must fit in a ledger entry.
const MaxBundle = 90 << 10

const maxFiles = 256

// ErrBundle reports a bundle that is not acceptable as a whole.
var ErrBundle = errors.New("unacceptable bundle")

var fileForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}\.yaml$`)

// Bundle is what one department, or the authority, publishes at a time: a
// holder's rules, a requester's restrictions, or the baseline. Exactly one of
// the three is set.
type Bundle struct {
	Rules        []policy.Rule // by id
	Baseline     *policy.Baseline
	Restrictions *policy.Restrictions
}

// Owner returns whose bundle it is: it must be the author of the ledger entry.
func (b Bundle) Owner() exchange.Dept {
	switch {
	case b.Baseline != nil:
		return exchange.Authority
	case b.Restrictions != nil:
		return b.Restrictions.Dept
	case len(b.Rules) > 0:
		return b.Rules[0].Provider
	}
	return ""
}

// ParseBundle reads the files of a bundle and checks them against one another.
// All rules are of one holder, no id stands twice, and no two rules open an
// item to a department for the same purpose. Nothing of a bundle holds unless
// all of it does.
func ParseBundle(files map[string][]byte, v Vocabulary) (Bundle, error) {
	if err := checkFiles(files); err != nil {
		return Bundle{}, err
	}
	if src, ok := files[BaselineFile]; ok {
		b, err := ParseBaseline(BaselineFile, src, v)
		if err != nil {
			return Bundle{}, err
		}
		return Bundle{Baseline: &b}, nil
	}
	if src, ok := files[RestrictionsFile]; ok {
		r, err := ParseRestrictions(RestrictionsFile, src, v)
		if err != nil {
			return Bundle{}, err
		}
		return Bundle{Restrictions: &r}, nil
	}
	var b Bundle
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		r, err := ParseRule(name, files[name], v)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, other := range b.Rules {
			if err := clash(other, r); err != nil {
				problems = append(problems, &Error{File: name, Msg: err.Error()})
			}
		}
		b.Rules = append(b.Rules, r)
	}
	if err := errors.Join(problems...); err != nil {
		return Bundle{}, err
	}
	slices.SortFunc(b.Rules, func(x, y policy.Rule) int {
		if x.ID < y.ID {
			return -1
		}
		return 1
	})
	return b, nil
}

// clash reports why two rules cannot stand in one bundle.
func clash(a, b policy.Rule) error {
	switch {
	case a.ID == b.ID:
		return fmt.Errorf("rule %s stands in two files", a.ID)
	case a.Provider != b.Provider:
		return fmt.Errorf("rules of %s and %s stand in one bundle", a.Provider, b.Provider)
	case a.Item != b.Item:
		return nil
	}
	for _, p := range a.Purposes {
		for _, x := range a.To {
			for _, y := range b.To {
				if x.Dept == y.Dept && slices.Contains(b.Purposes, p) {
					return fmt.Errorf("rules %s and %s both open %s to %s for %s", a.ID, b.ID, a.Item, x.Dept, p)
				}
			}
		}
	}
	return nil
}

func checkFiles(files map[string][]byte) error {
	if len(files) == 0 || len(files) > maxFiles {
		return fmt.Errorf("%w: want 1 to %d files, have %d", ErrBundle, maxFiles, len(files))
	}
	for name := range files {
		if !fileForm.MatchString(name) {
			return fmt.Errorf("%w: file name %q", ErrBundle, name)
		}
		if (name == BaselineFile || name == RestrictionsFile) && len(files) > 1 {
			return fmt.Errorf("%w: %s is alone in its bundle", ErrBundle, name)
		}
	}
	return nil
}

// EncodeBundle returns the canonical bytes that stand on the ledger: a map from
// file name to the file as its owner wrote it.
func EncodeBundle(files map[string][]byte) ([]byte, error) {
	if err := checkFiles(files); err != nil {
		return nil, err
	}
	b, err := canon.Marshal(files)
	if err != nil {
		return nil, fmt.Errorf("%w: encode: %w", ErrBundle, err)
	}
	if len(b) > MaxBundle {
		return nil, fmt.Errorf("%w: %d bytes are over the limit of %d", ErrBundle, len(b), MaxBundle)
	}
	return b, nil
}

// DecodeBundle reads what EncodeBundle wrote and refuses everything else.
func DecodeBundle(b []byte) (map[string][]byte, error) {
	if len(b) > MaxBundle {
		return nil, fmt.Errorf("%w: %d bytes are over the limit of %d", ErrBundle, len(b), MaxBundle)
	}
	var files map[string][]byte
	if err := canon.Unmarshal(b, &files); err != nil {
		return nil, fmt.Errorf("%w: decode: %w", ErrBundle, err)
	}
	return files, checkFiles(files)
}

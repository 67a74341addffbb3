package cert_test

import (
	"bytes"
	mrand "math/rand/v2"
	"testing"

	"xinqiao/crypto/cert"
)

// TestTenThousandChangedBytes changes one byte at a time of a certificate that
// the root issued, and of a chain with an issuing CA. None is accepted: what is
// signed is signed, and the rest has one form.
func TestTenThousandChangedBytes(t *testing.T) {
	t.Parallel()
	ca, root := newCA(t)
	below := newKey(t)
	der, err := ca.IssueCA("issuing", below.Public(), epoch, year)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := cert.OpenIssuingCA(root, der, signerOf(below))
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]*cert.CA{"root": ca, "issuing CA": issuing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain, err := from.Issue(request(t, "minzheng", cert.Signing), epoch)
			if err != nil {
				t.Fatal(err)
			}
			known, err := cert.ParseRoot(root)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := known.Verify(chain, epoch); err != nil {
				t.Fatal(err)
			}
			random := mrand.New(mrand.NewPCG(3, 4))
			for range 10_000 {
				i, change := random.IntN(len(chain)), byte(1+random.IntN(255))
				bad := bytes.Clone(chain)
				bad[i] ^= change
				if id, err := known.Verify(bad, epoch); err == nil {
					t.Errorf("byte %d changed by %02x: accepted as %s", i, change, id.Dept)
				}
			}
		})
	}
}

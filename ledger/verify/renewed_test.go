package verify

import (
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/exchange"
)

// TestTrustRenewed: evidence of a department that has renewed its
// certificate is proven once the trust file knows the new one, and what was signed
// under the old stays proven.
func TestTrustRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trust, before := w.trust(), w.evidence(t)
	next := w.admit(t, "minzheng", cert.Signing)
	w.depts["minzheng"] = next
	after := w.evidence(t)
	if _, err := Run(after, trust); reason(err) != ReasonMember {
		t.Errorf("by the old trust file: %v, want %s", err, ReasonMember)
	}
	renewed, dept, err := trust.Renewed(next.DER, ledgerTime)
	if err != nil || dept != "minzheng" {
		t.Fatalf("%s, %v", dept, err)
	}
	if again, _, err := renewed.Renewed(next.DER, ledgerTime); err != nil || len(again.Members[0].Certificates) != len(renewed.Members[0].Certificates) {
		t.Errorf("added twice: %v", err)
	}
	for name, archive := range map[string][]byte{"before": before, "after": after} {
		if _, err := Run(archive, renewed); err != nil {
			t.Errorf("evidence from %s the renewal: %v", name, err)
		}
	}
	if trust.trusts("minzheng", Fingerprint(engine, next.DER)) {
		t.Error("the trust file that was given has changed")
	}
}

// TestTrustRenewedRefuses: what does not belong into a trust file.
func TestTrustRenewedRefuses(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	for name, tc := range map[string]struct {
		der []byte
		at  time.Time
	}{
		"of another root":       {other.admit(t, "minzheng", cert.Signing).DER, ledgerTime},
		"for encryption":        {w.admit(t, "minzheng", cert.Encryption).DER, ledgerTime},
		"of no member":          {w.admit(t, "renshe", cert.Signing).DER, ledgerTime},
		"the authority's":       {w.admit(t, exchange.Authority, cert.Signing).DER, ledgerTime},
		"expired":               {w.admitFor(t, "minzheng", cert.Signing, time.Hour).DER, ledgerTime},
		"not yet valid":         {w.admit(t, "minzheng", cert.Signing).DER, ledgerTime.AddDate(0, 0, -2)},
		"nothing":               {nil, ledgerTime},
		"something behind it":   {append(w.admit(t, "minzheng", cert.Signing).DER, 0), ledgerTime},
		"the root, as a member": {w.root, ledgerTime},
	} {
		if got, _, err := w.trust().Renewed(tc.der, tc.at); err == nil || len(got.Members[0].Certificates) != 1 {
			t.Errorf("%s: taken, %v", name, err)
		}
	}
}

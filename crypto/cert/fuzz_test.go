package cert_test

import (
	"bytes"
	"errors"
	"testing"

	"xinqiao/crypto/cert"
)

// The seeds in testdata/fuzz are good and bad objects of a root whose key is gone.

func FuzzChain(f *testing.F) {
	h := newHierarchy(f)
	chain := issue(f, h.issuing, request(f, "minzheng", cert.Signing))
	f.Add(chain)
	f.Add(issue(f, h.offline, request(f, "minzheng", cert.Encryption)))
	root := h.offline.Root()
	f.Fuzz(func(t *testing.T, der []byte) {
		id, err := root.Verify(der, epoch)
		if err == nil && id.Dept != "minzheng" {
			t.Errorf("accepted a chain of %+v", id)
		}
		if err != nil && !errors.Is(err, cert.ErrProfile) && !errors.Is(err, cert.ErrForeign) && !errors.Is(err, cert.ErrExpired) {
			t.Errorf("%v is none of the sentinels", err)
		}
		if leaf := cert.Leaf(der); leaf != nil && !bytes.Equal(append(bytes.Clone(leaf), cert.Issuer(der)...), der) {
			t.Error("a chain is not its leaf and its issuer")
		}
		if _, whole, err := root.VerifyLeaf(der, [][]byte{der, h.issuing.Issuing()}, epoch); err == nil && len(whole) == 0 {
			t.Error("verified as nothing")
		}
		_, _ = cert.Describe(der)
	})
}

func FuzzPEM(f *testing.F) {
	h := newHierarchy(f)
	f.Add(cert.EncodePEM(issue(f, h.issuing, request(f, "minzheng", cert.Signing))))
	f.Add(cert.EncodeRevocations(revocations(f, h.issuing, 1)))
	f.Fuzz(func(t *testing.T, file []byte) {
		chain, err := cert.DecodePEM(file)
		if err != nil && !errors.Is(err, cert.ErrFile) {
			t.Errorf("%v", err)
		}
		if again, err2 := cert.DecodePEM(cert.EncodePEM(chain)); err == nil && (err2 != nil || !bytes.Equal(chain, again)) {
			t.Errorf("written again it is another: %v", err2)
		}
		if _, err := cert.DecodeCSR(file); err != nil && !errors.Is(err, cert.ErrFile) {
			t.Errorf("%v", err)
		}
		lists, err := cert.DecodeRevocations(file)
		if err != nil && !errors.Is(err, cert.ErrFile) || err == nil && len(lists) == 0 {
			t.Errorf("%d lists, %v", len(lists), err)
		}
	})
}

func FuzzCSR(f *testing.F) {
	der, err := cert.NewCSR("minzheng", cert.Signing, []string{"node.example", "10.0.0.1"}, signerOf(newKey(f)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := cert.ParseCSR(der)
		if err != nil && !errors.Is(err, cert.ErrCSR) {
			t.Errorf("%v", err)
		}
		if err == nil && (csr.Key.IsZero() || csr.Dept == "") {
			t.Errorf("accepted %+v", csr)
		}
	})
}

func FuzzRevocations(f *testing.F) {
	h := newHierarchy(f)
	leaf := issue(f, h.issuing, request(f, "minzheng", cert.Signing))
	f.Add(revocations(f, h.issuing, 3, cert.Revoked{Serial: serialOf(f, leaf), At: epoch, Reason: cert.KeyCompromise}))
	f.Add(revocations(f, h.offline, 9))
	f.Fuzz(func(t *testing.T, der []byte) {
		list, err := cert.ParseRevocations(h.offline.Root(), der, epoch)
		if err == nil && list.Number == 0 {
			t.Error("a list without a number")
		}
		if list, err := cert.InspectRevocations(der); err != nil && !errors.Is(err, cert.ErrList) {
			t.Errorf("%v", err)
		} else if err == nil {
			list.Revoked(leaf)
			list.Revoked(der)
		}
	})
}

func FuzzRegister(f *testing.F) {
	ca, _ := newCA(f)
	record, err := cert.RecordOf(issue(f, ca, request(f, "minzheng", cert.Signing)), epoch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(book(f, record, cert.Record{Event: cert.Revoke, At: epoch, Serial: record.Serial, Reason: cert.Superseded}, cert.Record{Event: cert.ListOut, At: epoch, Number: 1}))
	f.Fuzz(func(t *testing.T, file []byte) {
		if record, err := cert.ParseRecord(file); err == nil {
			line, err := record.Encode()
			if err != nil {
				t.Fatalf("a record that was read is not written: %v", err)
			}
			if again, err := cert.ParseRecord(bytes.TrimSuffix(line, []byte("\n"))); err != nil || again.Serial != record.Serial || again.Event != record.Event {
				t.Fatalf("written again it is another: %+v, %v", again, err)
			}
		} else if !errors.Is(err, cert.ErrRegister) {
			t.Errorf("%v", err)
		}
		reg, torn, err := cert.ReadRegister(file)
		switch {
		case err != nil && !errors.Is(err, cert.ErrRegister):
			t.Errorf("%v", err)
		case err == nil && !bytes.HasSuffix(file, torn):
			t.Errorf("torn %q is not the end", torn)
		case err == nil:
			reg.Revocations()
			reg.Current("minzheng", epoch)
		}
	})
}

func FuzzLicensed(f *testing.F) {
	root := newLicensedCA(f, nil, "root", nil)
	f.Add(root.certify(f, newKey(f).Public(), licensedLeaf(1)), []byte{})
	f.Add(root.der, root.der)
	f.Fuzz(func(t *testing.T, leaf, between []byte) {
		for _, usage := range []cert.Usage{cert.Signing, cert.Encryption} {
			if _, key, err := cert.VerifyLicensed(root.der, leaf, between, usage, epoch); err != nil && !errors.Is(err, cert.ErrLicensed) || err == nil && key.IsZero() {
				t.Errorf("%v", err)
			}
		}
	})
}

package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
)

// Step is one thing that was checked.
type Step struct {
	Name   string `json:"name"` // trust | archive | manifest | exporter | tree-head | entries | report | complete
	Passed bool   `json:"passed"`
}

// Report is the outcome of Run. What stands beside Proven and Steps was read
// from the file and holds only when Proven.
type Report struct {
	Proven bool   `json:"proven"`
	Reason Reason `json:"reason,omitempty"` // why not
	File   string `json:"file,omitempty"`   // the file of the archive concerned
	Detail string `json:"detail,omitempty"`
	Steps  []Step `json:"steps"`
	Evidence
}

// Run checks an evidence file against t, every signature and hash with both
// engines. The error is nil when it is proven, a *Failure when it is not, and
// ErrNotZip when it is no zip at all.
func Run(archive []byte, t Trust) (Report, error) {
	return run(gm.Emmansun(), gm.Tjfoc(), archive, t)
}

func run(first, second gm.Engine, archive []byte, t Trust) (Report, error) {
	v := &verifier{engines: [2]gm.Engine{first, second}, trust: t, used: map[string]bool{}}
	steps := []struct {
		name  string
		check func() error
	}{
		{"trust", v.checkTrust},
		{"archive", func() (err error) { v.files, err = readZip(archive); return err }},
		{"manifest", v.checkManifest},
		{"exporter", v.checkExporter},
		{"tree-head", v.checkHead},
		{"entries", v.checkEntries},
		{"report", v.checkReport},
		{"complete", v.checkComplete},
	}
	var r Report
	for _, s := range steps {
		err := s.check()
		r.Steps = append(r.Steps, Step{s.name, err == nil})
		if err == nil {
			continue
		}
		var f *Failure
		if errors.As(err, &f) {
			r.Reason, r.File = f.Reason, f.File
			if f.Err != nil {
				r.Detail = f.Err.Error()
			}
		}
		return r, err
	}
	r.Proven, r.Evidence = true, v.evidence
	return r, nil
}

// verifier holds what the steps found; each relies on those before it.
type verifier struct {
	engines  [2]gm.Engine
	trust    Trust
	root     *cert.Root
	files    map[string][]byte
	used     map[string]bool // files that have a place in the proof
	manifest Manifest
	certs    map[string]CertificateFile // by fingerprint
	head     checkpoint.Note
	evidence Evidence
}

func (v *verifier) checkTrust() error {
	if err := v.trust.check(); err != nil {
		return fail(ReasonTrust, "", "%w", err)
	}
	return nil
}

// file returns a file that the proof needs.
func (v *verifier) file(name string) ([]byte, error) {
	b, ok := v.files[name]
	if !ok {
		return nil, fail(ReasonMissingFile, name, "the proof needs it")
	}
	v.used[name] = true
	return b, nil
}

// sum hashes with both engines.
func (v *verifier) sum(parts ...[]byte) (gm.Digest, error) {
	a, b := v.engines[0].Sum(parts...), v.engines[1].Sum(parts...)
	if a != b {
		return gm.Digest{}, fail(ReasonSplit, "", "the engines hash differently")
	}
	return a, nil
}

// signed checks a signature with both engines.
func (v *verifier) signed(why Reason, file string, key gm.PublicKey, domain string, body []byte, sig gm.Signature) error {
	switch gm.VerifyBoth(v.engines[0], v.engines[1], key, gm.Preimage(domain, body), sig) {
	case gm.AgreeValid:
		return nil
	case gm.Split:
		return fail(ReasonSplit, file, "one engine accepts the signature, the other does not")
	}
	return fail(why, file, "the signature does not hold")
}

// key returns the key of dept's certificate with this fingerprint, which the
// trust file pins and which was valid at the time.
func (v *verifier) key(dept exchange.Dept, fingerprint string, at time.Time) (gm.PublicKey, error) {
	var none gm.PublicKey
	c, ok := v.certs[fingerprint]
	if !ok || c.Dept != dept {
		return none, fail(ReasonCertificate, "", "the file has no certificate %.16s of %s", fingerprint, dept)
	}
	name := certFile(c.Dept, c.Fingerprint)
	der, err := v.file(name)
	if err != nil {
		return none, err
	}
	if !v.trust.trusts(dept, fingerprint) {
		return none, fail(ReasonMember, name, "the trust file does not know it as a certificate of %s", dept)
	}
	id, err := v.root.Verify(der, at)
	switch {
	case err != nil:
		return none, fail(ReasonCertificate, name, "%w", err)
	case id.Usage != cert.Signing:
		return none, fail(ReasonCertificate, name, "it is for %s, not for signing", id.Usage)
	case id.Dept != string(dept):
		return none, fail(ReasonMember, name, "it names %s, not %s", id.Dept, dept)
	}
	return id.Key, nil
}

// checkManifest holds the files to the manifest.
func (v *verifier) checkManifest() error {
	raw, err := v.file(fileManifest)
	if err != nil {
		return err
	}
	m := &v.manifest
	if err := strictJSON(raw, m); err != nil {
		return fail(ReasonManifest, fileManifest, "%w", err)
	}
	switch {
	case m.Format != FormatEvidence:
		return fail(ReasonFormat, fileManifest, "format %q: want %q", m.Format, FormatEvidence)
	case m.Origin != v.trust.Origin:
		return fail(ReasonOrigin, fileManifest, "ledger %q: the trusted one is %q", m.Origin, v.trust.Origin)
	case len(m.Entries) == 0 || !ascending(m.Entries):
		return fail(ReasonManifest, fileManifest, "its entries are missing or out of order")
	}
	if err := v.checkDigests(); err != nil {
		return err
	}
	v.certs = map[string]CertificateFile{}
	for _, c := range m.Certificates {
		if !validFingerprint(c.Fingerprint) || !c.Dept.Valid() {
			return fail(ReasonManifest, fileManifest, "a certificate is malformed")
		}
		if name := certFile(c.Dept, c.Fingerprint); m.Files[name] != c.Fingerprint {
			return fail(ReasonFileDigest, name, "it is not the certificate that the manifest names")
		}
		v.certs[c.Fingerprint] = c
	}
	return nil
}

// checkExporter holds the manifest to its exporter's signature.
func (v *verifier) checkExporter() (err error) {
	if v.root, err = cert.ParseRoot(v.trust.Root); err != nil {
		return fail(ReasonTrust, "", "root: %w", err)
	}
	sig, err := v.file(fileManifestSig)
	if err != nil {
		return err
	}
	if len(sig) != gm.SignatureSize {
		return fail(ReasonManifestSig, fileManifestSig, "%d bytes: want %d", len(sig), gm.SignatureSize)
	}
	key, err := v.key(v.manifest.Exporter, v.manifest.Certificate, v.manifest.Created)
	if err != nil {
		return err
	}
	return v.signed(ReasonManifestSig, fileManifestSig, key, DomainEvidence, v.files[fileManifest], gm.Signature(sig))
}

func ascending(list []uint64) bool {
	for i := 1; i < len(list); i++ {
		if list[i] <= list[i-1] {
			return false
		}
	}
	return true
}

// checkDigests compares the files there with the files listed, both ways.
func (v *verifier) checkDigests() error {
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if name == fileManifest || name == fileManifestSig {
			continue
		}
		want, listed := v.manifest.Files[name]
		if !listed {
			return fail(ReasonUnknownFile, name, "the manifest does not list it")
		}
		have, err := v.sum(v.files[name])
		if err != nil {
			return err
		}
		if hex.EncodeToString(have[:]) != want {
			return fail(ReasonFileDigest, name, "its digest is not the listed one")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.manifest.Files)) {
		if _, there := v.files[name]; !there {
			return fail(ReasonMissingFile, name, "the manifest lists it")
		}
	}
	return nil
}

// checkHead holds the tree head to a quorum. Every line must be a trusted
// department's valid cosignature: one that is not was put there by somebody.
func (v *verifier) checkHead() error {
	raw, err := v.file(fileCheckpoint)
	if err != nil {
		return err
	}
	if v.head, err = checkpoint.Parse(raw); err != nil {
		return fail(ReasonCheckpoint, fileCheckpoint, "%w", err)
	}
	if v.head.Origin != v.trust.Origin {
		return fail(ReasonOrigin, fileCheckpoint, "a tree head of %q", v.head.Origin)
	}
	seen := map[string]bool{}
	for _, c := range v.head.Cosignatures {
		if seen[c.Name] {
			return fail(ReasonCosignature, fileCheckpoint, "%s cosigned twice", c.Name)
		}
		seen[c.Name] = true
		key, err := v.cosigner(c)
		if err != nil {
			return err
		}
		err = v.signed(ReasonCosignature, fileCheckpoint, key, checkpoint.Domain, checkpoint.Statement(c.Name, c.Time, v.head.Checkpoint), c.Sig)
		if err != nil {
			return err
		}
	}
	if v.trust.Quorum < 1 || len(seen) < v.trust.Quorum {
		return fail(ReasonQuorum, fileCheckpoint, "%d departments cosigned, %d are needed", len(seen), v.trust.Quorum)
	}
	return nil
}

// cosigner finds which of the department's certificates a cosignature is by. A
// department whose certificate was renewed may have several in the file.
func (v *verifier) cosigner(c checkpoint.Cosignature) (gm.PublicKey, error) {
	for _, f := range v.manifest.Certificates {
		if string(f.Dept) != c.Name || f.Dept == exchange.Authority {
			continue
		}
		id, err := cert.Inspect(v.files[certFile(f.Dept, f.Fingerprint)])
		if err == nil && checkpoint.KeyHash(v.engines[0], c.Name, id.Key) == c.KeyHash {
			return v.key(f.Dept, f.Fingerprint, c.Time)
		}
	}
	return gm.PublicKey{}, fail(ReasonCosignature, fileCheckpoint, "no certificate of %q has its key", c.Name)
}

func (v *verifier) checkEntries() error {
	for _, index := range v.manifest.Entries {
		if err := v.checkEntry(index); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) checkEntry(index uint64) error {
	name := leafFile(index)
	raw, err := v.file(name)
	if err != nil {
		return err
	}
	leaf, entry, err := ledger.DecodeLeaf(raw)
	if err != nil {
		return fail(ReasonLeaf, name, "%w", err)
	}
	if err := v.checkInclusion(index, raw); err != nil {
		return err
	}
	if err := v.checkFrame(leaf, entry); err != nil {
		return err
	}
	return v.checkBody(index, entry)
}

// checkInclusion leads the leaf to the cosigned root, once with each engine.
func (v *verifier) checkInclusion(index uint64, leaf []byte) error {
	name := proofFile(index)
	raw, err := v.file(name)
	if err != nil {
		return err
	}
	var p proof
	if err := strictJSON(raw, &p); err != nil {
		return fail(ReasonInclusion, name, "%w", err)
	}
	if p.Index != index || p.Size != v.head.Size {
		return fail(ReasonInclusion, name, "a path of index %d in a tree of %d: want %d in %d", p.Index, p.Size, index, v.head.Size)
	}
	path := make([]gm.Digest, len(p.Path))
	for i, s := range p.Path {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != gm.HashSize {
			return fail(ReasonInclusion, name, "hash %d of the path is malformed", i)
		}
		path[i] = gm.Digest(b)
	}
	for _, e := range v.engines {
		if err := merkle.VerifyInclusion(e, merkle.LeafHash(e, leaf), index, p.Size, path, v.head.Root); err != nil {
			return fail(ReasonInclusion, name, "%w", err)
		}
	}
	return nil
}

// checkFrame holds the entry to its author's signature: the signature is over
// the frame's root, the root over the entry.
func (v *verifier) checkFrame(leaf ledger.Leaf, entry ledger.Entry) error {
	name := frameFile(leaf.Frame)
	raw, err := v.file(name)
	if err != nil {
		return err
	}
	record, body, err := ledger.DecodeFrameRecord(raw)
	if err != nil {
		return fail(ReasonFrame, name, "%w", err)
	}
	hash, err := v.sum(gm.Preimage(ledger.DomainFrame, record.Body), record.Sig[:])
	if err != nil {
		return err
	}
	switch {
	case hash != leaf.Frame:
		return fail(ReasonFrame, name, "it is not the frame that the leaf names")
	case body.Suite != gm.Suite || body.Origin != v.trust.Origin:
		return fail(ReasonFrame, name, "it is of another suite or ledger")
	case body.Dept != entry.Author:
		return fail(ReasonFrame, name, "it is by %s, the entry by %s", body.Dept, entry.Author)
	case int(body.Count) != len(record.Leaves) || int64(leaf.Pos) >= int64(len(record.Leaves)):
		return fail(ReasonFrameRoot, name, "it does not have the entry's place")
	}
	for _, e := range v.engines {
		if merkle.LeafHash(e, leaf.Entry) != record.Leaves[leaf.Pos] || merkle.Root(e, record.Leaves) != body.Root {
			return fail(ReasonFrameRoot, name, "its root does not cover the entry")
		}
	}
	key, err := v.key(body.Dept, hex.EncodeToString(body.Cert[:]), leaf.At())
	if err != nil {
		return err
	}
	return v.signed(ReasonFrameSignature, name, key, ledger.DomainFrame, record.Body, record.Sig)
}

// checkBody compares a disclosed body, if there is one, with the entry's
// commitment.
func (v *verifier) checkBody(index uint64, entry ledger.Entry) error {
	name := bodyFile(index)
	raw, disclosed := v.files[name]
	if !disclosed {
		return nil
	}
	v.used[name] = true
	if entry.Access == nil {
		return fail(ReasonBody, name, "entry %d has no body", index)
	}
	for _, e := range v.engines {
		_, commitment, err := ledger.DecodeBody(e, raw)
		if err != nil {
			return fail(ReasonBody, name, "%w", err)
		}
		if commitment != entry.Access.Body {
			return fail(ReasonBody, name, "the entry commits to another body")
		}
	}
	return nil
}

// checkReport holds the readable report to what was proven: people read it
// without running this program.
func (v *verifier) checkReport() error {
	d, err := describe(v.files, v.manifest, v.head)
	if err != nil {
		return fail(ReasonReport, "", "%w", err)
	}
	for name, want := range map[string][]byte{fileReportText: d.text(), fileReportHTML: d.html()} {
		have, err := v.file(name)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want) {
			return fail(ReasonReport, name, "it does not say what the files say")
		}
	}
	v.evidence = d
	return nil
}

// checkComplete refuses files that nothing above needed.
func (v *verifier) checkComplete() error {
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if !v.used[name] {
			return fail(ReasonUnknownFile, name, "it has no place in the proof")
		}
	}
	for _, c := range v.manifest.Certificates {
		if !v.used[certFile(c.Dept, c.Fingerprint)] {
			return fail(ReasonUnknownFile, certFile(c.Dept, c.Fingerprint), "nothing was signed with it")
		}
	}
	return nil
}

// String names what was proven in one line.
func (r Report) String() string {
	if !r.Proven {
		return fmt.Sprintf("not proven: %s", r.Reason)
	}
	return fmt.Sprintf("proven: %d entries of %s at size %d", len(r.Entries), r.Origin, r.Size)
}

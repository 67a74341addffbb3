package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

// DomainEvidence separates signatures of manifests.
const DomainEvidence = "xinqiao/evidence/v1"

// Names of the files with one place in the archive.
const (
	fileManifest    = "manifest.json"
	fileManifestSig = "manifest.sig" // 64 bytes, over gm.Preimage(DomainEvidence, manifest.json)
	fileCheckpoint  = "checkpoint.txt"
	fileReportText  = "report.txt"
	fileReportHTML  = "report.html"
)

func leafFile(i uint64) string  { return "leaves/" + strconv.FormatUint(i, 10) + ".cbor" }
func proofFile(i uint64) string { return "proofs/" + strconv.FormatUint(i, 10) + ".json" }
func bodyFile(i uint64) string  { return "bodies/" + strconv.FormatUint(i, 10) + ".cbor" }
func frameFile(h gm.Digest) string {
	return "frames/" + hex.EncodeToString(h[:]) + ".cbor"
}
func certFile(dept exchange.Dept, fingerprint string) string {
	return "certs/" + string(dept) + "-" + fingerprint[:16] + ".der"
}

// Manifest lists what an evidence file holds. Its exporter answers for the
// selection; for the contents the ledger's proofs speak.
type Manifest struct {
	Format       string            `json:"format"`
	Origin       string            `json:"origin"`
	Created      time.Time         `json:"created"` // by the exporter's clock, whole seconds UTC
	Exporter     exchange.Dept     `json:"exporter"`
	Certificate  string            `json:"certificate"` // fingerprint of the one that manifest.sig verifies with
	Entries      []uint64          `json:"entries"`     // ledger indices, ascending
	Certificates []CertificateFile `json:"certificates"`
	Files        map[string]string `json:"files"` // SM3 of every other file but manifest.sig, hexadecimal
}

// CertificateFile names a certificate in the archive.
type CertificateFile struct {
	Dept        exchange.Dept `json:"dept"`
	Fingerprint string        `json:"fingerprint"`
}

// proof is the content of a proofs/ file.
type proof struct {
	Index uint64   `json:"index"`
	Size  uint64   `json:"size"`
	Path  []string `json:"path"` // hexadecimal, lowest first
}

// A Certificate is a department's signing certificate.
type Certificate struct {
	Dept exchange.Dept
	DER  []byte
	Key  gm.PublicKey
}

// Selection is what goes into an evidence file.
type Selection struct {
	Exporter exchange.Dept
	Created  time.Time
	// Proofs of the entries, all to the same tree head.
	Proofs []exchange.LedgerProof
	// Bodies discloses the bodies of some of the entries, by index.
	Bodies map[uint64][]byte
	// Certificates of everyone who may have signed; those needed are taken. The
	// exporter's own is the first of its department.
	Certificates []Certificate
}

// ErrSelection reports a selection of which no evidence file can be made.
var ErrSelection = errors.New("no evidence file can be made of this selection")

// Export makes an evidence file, signed with the exporter's key behind s. It
// leaves out cosignatures that do not verify with the certificates given.
func Export(e gm.Engine, s ledger.Signer, sel Selection) ([]byte, error) {
	if len(sel.Proofs) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrSelection)
	}
	x := &export{engine: e, sel: sel, files: map[string][]byte{}, certs: map[string]CertificateFile{}}
	if err := x.addHead(); err != nil {
		return nil, fmt.Errorf("%w: tree head: %w", ErrSelection, err)
	}
	for _, p := range sel.Proofs {
		if err := x.addEntry(p); err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", ErrSelection, p.Index, err)
		}
	}
	m, err := x.manifest()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSelection, err)
	}
	sig, err := s.Sign(DomainEvidence, m)
	if err != nil {
		return nil, fmt.Errorf("sign the evidence file: %w", err)
	}
	x.files[fileManifest], x.files[fileManifestSig] = m, sig[:]
	return WriteZip(x.files), nil
}

type export struct {
	engine gm.Engine
	sel    Selection
	files  map[string][]byte
	certs  map[string]CertificateFile // those taken, by fingerprint
	head   checkpoint.Note
}

// addHead keeps the cosignatures that hold, one for each department.
func (x *export) addHead() error {
	note, err := checkpoint.Parse([]byte(x.sel.Proofs[0].Checkpoint))
	if err != nil {
		return err
	}
	x.head = checkpoint.Note{Checkpoint: note.Checkpoint}
	taken := map[string]bool{}
	for _, c := range note.Cosignatures {
		msg := gm.Preimage(checkpoint.Domain, checkpoint.Statement(c.Name, c.Time, note.Checkpoint))
		for _, cert := range x.sel.Certificates {
			if string(cert.Dept) == c.Name && !taken[c.Name] && c.KeyHash == checkpoint.KeyHash(x.engine, c.Name, cert.Key) &&
				x.engine.Verify(cert.Key, msg, c.Sig) {
				taken[c.Name] = true
				x.head.Cosignatures = append(x.head.Cosignatures, c)
				x.take(cert)
			}
		}
	}
	x.files[fileCheckpoint] = x.head.Encode()
	return nil
}

func (x *export) addEntry(p exchange.LedgerProof) error {
	leaf, _, err := ledger.DecodeLeaf(p.Leaf)
	if err != nil {
		return err
	}
	_, body, err := ledger.DecodeFrameRecord(p.Frame)
	if err != nil {
		return err
	}
	if p.Size != x.head.Size {
		return fmt.Errorf("its proof leads to size %d, another to %d", p.Size, x.head.Size)
	}
	if _, twice := x.files[leafFile(p.Index)]; twice {
		return errors.New("it is there twice")
	}
	found := false
	for _, cert := range x.sel.Certificates {
		if cert.Dept == body.Dept && x.engine.Sum(cert.DER) == body.Cert {
			x.take(cert)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("the certificate that %s signed it with is not given", body.Dept)
	}
	path := proof{Index: p.Index, Size: p.Size, Path: []string{}}
	for _, h := range p.Path {
		path.Path = append(path.Path, hex.EncodeToString(h))
	}
	if x.files[proofFile(p.Index)], err = indentJSON(path); err != nil {
		return err
	}
	x.files[leafFile(p.Index)], x.files[frameFile(leaf.Frame)] = p.Leaf, p.Frame
	if b, ok := x.sel.Bodies[p.Index]; ok {
		x.files[bodyFile(p.Index)] = b
	}
	return nil
}

func (x *export) take(c Certificate) {
	f := CertificateFile{Dept: c.Dept, Fingerprint: Fingerprint(x.engine, c.DER)}
	x.certs[f.Fingerprint] = f
	x.files[certFile(f.Dept, f.Fingerprint)] = c.DER
}

func (x *export) manifest() ([]byte, error) {
	m := Manifest{Format: FormatEvidence, Origin: x.head.Origin, Created: x.sel.Created.UTC().Truncate(time.Second),
		Exporter: x.sel.Exporter, Files: map[string]string{}}
	for _, c := range x.sel.Certificates {
		if c.Dept == x.sel.Exporter && m.Certificate == "" {
			m.Certificate = Fingerprint(x.engine, c.DER)
			x.take(c)
		}
	}
	if m.Certificate == "" {
		return nil, errors.New("the exporter's certificate is not given")
	}
	for _, p := range x.sel.Proofs {
		m.Entries = append(m.Entries, p.Index)
	}
	slices.Sort(m.Entries)
	for _, fingerprint := range slices.Sorted(maps.Keys(x.certs)) {
		m.Certificates = append(m.Certificates, x.certs[fingerprint])
	}
	readable, err := describe(x.files, m, x.head)
	if err != nil {
		return nil, err
	}
	x.files[fileReportText], x.files[fileReportHTML] = readable.text(), readable.html()
	for name, b := range x.files {
		m.Files[name] = Fingerprint(x.engine, b)
	}
	return indentJSON(m)
}

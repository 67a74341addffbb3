package verify

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

var update = flag.Bool("update", false, "make testdata/evidence.zip and trust.json anew")

func reason(err error) Reason {
	var f *Failure
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

func TestProvenEvidenceSaysWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	archive := w.evidence(t)
	r, err := Run(archive, w.trust())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Proven || r.Reason != "" || len(r.Entries) != 4 || r.Size != w.tree.Size() || r.Exporter != "minzheng" {
		t.Fatalf("report %+v", r)
	}
	if !slices.Equal(r.Cosigners, []exchange.Dept{"gongan", "minzheng", "zhujian"}) {
		t.Errorf("cosigners %v", r.Cosigners)
	}
	for _, s := range r.Steps {
		if !s.Passed {
			t.Errorf("step %s did not pass", s.Name)
		}
	}
	allowed, denied := r.Entries[1], r.Entries[2]
	if allowed.Requester != "zhujian" || allowed.Holder != "minzheng" || allowed.Author != "minzheng" || allowed.Outcome != "allowed" ||
		allowed.Detail == nil || allowed.Detail.Item != "civil/marriage-record" || allowed.Detail.Case != "ZJ-2026-0001" {
		t.Errorf("allowed access: %+v", allowed)
	}
	if denied.Outcome != "denied" || denied.Detail != nil {
		t.Errorf("denied access: %+v", denied)
	}
	for _, lang := range []string{"zh", "en"} {
		text := r.Text(lang)
		for _, want := range []string{"zhujian", "minzheng", "civil/marriage-record", "gongan", allowed.LeafHash, "2026-03-02 16:30:04 +08:00"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", lang, want, text)
			}
		}
		if strings.Contains(text, "11010119900307000X") {
			t.Errorf("%s: the subject's identifier is shown", lang)
		}
	}
}

// The archive must be one that other tools open.
func TestTheArchiveIsAnOrdinaryZip(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"a.txt": []byte("one"), "b/c.cbor": {}, "b/d.cbor": bytes.Repeat([]byte{7}, 100_000)}
	b := WriteZip(files)
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 3 || r.File[0].Name != "a.txt" || r.File[0].Modified.Year() != 1980 {
		t.Errorf("files %+v", r.File)
	}
	got, err := readZip(b)
	if err != nil || !maps.EqualFunc(files, got, bytes.Equal) {
		t.Errorf("read back: %v", err)
	}
}

// Whatever byte of the file changes, it is not proven, and never "not a zip".
func TestEveryFlippedByteOfTheFileIsNotProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	archive, trust := w.evidence(t), w.trust()
	each(t, len(archive), func(i int) {
		bad := bytes.Clone(archive)
		bad[i] ^= 1 << (i % 8)
		r, err := Run(bad, trust)
		if err == nil || r.Proven || reason(err) == "" || r.Reason != reason(err) {
			t.Errorf("byte %d of %d: proven %v, %v", i, len(archive), r.Proven, err)
		}
	})
}

// Whatever byte of a file inside changes, it is not proven, even in an archive
// that is packed anew with the right checksums.
func TestEveryFlippedByteOfAFileInsideIsNotProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files, err := readZip(w.evidence(t))
	if err != nil {
		t.Fatal(err)
	}
	trust := w.trust()
	for name, content := range files {
		stride := 1
		if name == fileManifest {
			stride = 11 // each costs two signatures by the slow engine
		}
		each(t, len(content)/stride, func(n int) {
			i := n * stride
			changed := maps.Clone(files)
			changed[name] = bytes.Clone(content)
			changed[name][i] ^= 1 << (i % 8)
			if r, err := Run(WriteZip(changed), trust); err == nil || r.Proven || reason(err) == "" {
				t.Errorf("%s, byte %d: proven %v, %v", name, i, r.Proven, err)
			}
		})
	}
}

// each runs fn for 0 to n−1 on all cores.
func each(t *testing.T, n int, fn func(i int)) {
	t.Helper()
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for k := range workers {
		wg.Go(func() {
			for i := k; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// attack is what a department with a right key and every right file at hand may
// change before it signs the manifest.
type attack struct {
	world *world
	files map[string][]byte
	m     Manifest
	signs dept
}

func (a *attack) archive(t *testing.T) []byte {
	t.Helper()
	a.m.Files = map[string]string{}
	for name, b := range a.files {
		if name != fileManifest && name != fileManifestSig {
			a.m.Files[name] = Fingerprint(engine, b)
		}
	}
	m, err := indentJSON(a.m)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := a.signs.Sign(DomainEvidence, m)
	if err != nil {
		t.Fatal(err)
	}
	a.files[fileManifest], a.files[fileManifestSig] = m, sig[:]
	return WriteZip(a.files)
}

// editProof changes one inclusion path.
func (a *attack) editProof(t *testing.T, index uint64, fn func(*proof)) {
	t.Helper()
	var p proof
	if err := json.Unmarshal(a.files[proofFile(index)], &p); err != nil {
		t.Fatal(err)
	}
	fn(&p)
	b, err := indentJSON(p)
	if err != nil {
		t.Fatal(err)
	}
	a.files[proofFile(index)] = b
}

// editLeaf changes a leaf, leaving everything else.
func (a *attack) editLeaf(t *testing.T, index uint64, fn func(*ledger.Leaf)) {
	t.Helper()
	l, _, err := ledger.DecodeLeaf(a.files[leafFile(index)])
	if err != nil {
		t.Fatal(err)
	}
	fn(&l)
	a.files[leafFile(index)] = canon.MustMarshal(l)
}

// editFrame changes the frame of a leaf and what names it.
func (a *attack) editFrame(t *testing.T, index uint64, fn func(*ledger.FrameRecord, *ledger.FrameBody)) {
	t.Helper()
	l, _, err := ledger.DecodeLeaf(a.files[leafFile(index)])
	if err != nil {
		t.Fatal(err)
	}
	r, body, err := ledger.DecodeFrameRecord(a.files[frameFile(l.Frame)])
	if err != nil {
		t.Fatal(err)
	}
	fn(&r, &body)
	a.files[frameFile(l.Frame)] = canon.MustMarshal(r)
}

// cosign replaces the tree head.
func (a *attack) cosign(t *testing.T, n checkpoint.Checkpoint, by ...dept) {
	t.Helper()
	note := checkpoint.Note{Checkpoint: n}
	for _, d := range by {
		c, err := checkpoint.Cosign(d, engine, string(d.Dept), d.Key, ledgerTime, n)
		if err != nil {
			t.Fatal(err)
		}
		note.Cosignatures = append(note.Cosignatures, c)
	}
	a.files[fileCheckpoint] = note.Encode()
}

func (a *attack) head(t *testing.T) checkpoint.Checkpoint {
	t.Helper()
	n, err := checkpoint.Parse(a.files[fileCheckpoint])
	if err != nil {
		t.Fatal(err)
	}
	return n.Checkpoint
}

func (a *attack) addCert(d Certificate) {
	f := Fingerprint(engine, d.DER)
	a.files[certFile(d.Dept, f)] = d.DER
	a.m.Certificates = append(a.m.Certificates, CertificateFile{d.Dept, f})
}

const target = 4 // the allowed access of the story

func attacks() map[string]struct {
	change func(*testing.T, *attack)
	want   Reason
} {
	type row = struct {
		change func(*testing.T, *attack)
		want   Reason
	}
	return map[string]row{
		"nothing":    {func(*testing.T, *attack) {}, ""},
		"later time": {func(t *testing.T, a *attack) { a.editLeaf(t, target, func(l *ledger.Leaf) { l.Time += 1000 }) }, ReasonInclusion},
		"other result": {func(t *testing.T, a *attack) {
			a.editLeaf(t, target, func(l *ledger.Leaf) { l.Result = ledger.Stale })
		}, ReasonInclusion},
		"leaf that is none":    {func(_ *testing.T, a *attack) { a.files[leafFile(target)] = []byte("x") }, ReasonLeaf},
		"leaf as another":      {func(_ *testing.T, a *attack) { a.files[leafFile(target)] = a.files[leafFile(target+1)] }, ReasonInclusion},
		"path index":           {func(t *testing.T, a *attack) { a.editProof(t, target, func(p *proof) { p.Index++ }) }, ReasonInclusion},
		"path size":            {func(t *testing.T, a *attack) { a.editProof(t, target, func(p *proof) { p.Size-- }) }, ReasonInclusion},
		"path cut":             {func(t *testing.T, a *attack) { a.editProof(t, target, func(p *proof) { p.Path = p.Path[1:] }) }, ReasonInclusion},
		"path hash malformed":  {func(t *testing.T, a *attack) { a.editProof(t, target, func(p *proof) { p.Path[0] = "zz" }) }, ReasonInclusion},
		"path not JSON":        {func(_ *testing.T, a *attack) { a.files[proofFile(target)] = []byte("{") }, ReasonInclusion},
		"path with a stranger": {func(_ *testing.T, a *attack) { a.files[proofFile(target)] = []byte(`{"index":4,"note":1}`) }, ReasonInclusion},
		"frame signature": {func(t *testing.T, a *attack) {
			a.editFrame(t, target, func(r *ledger.FrameRecord, _ *ledger.FrameBody) { r.Sig[3] ^= 1 })
		}, ReasonFrame},
		"frame with other entries": {func(t *testing.T, a *attack) {
			a.editFrame(t, target, func(r *ledger.FrameRecord, _ *ledger.FrameBody) { r.Leaves[0][0] ^= 1 })
		}, ReasonFrameRoot},
		"frame with one entry fewer": {func(t *testing.T, a *attack) {
			a.editFrame(t, target, func(r *ledger.FrameRecord, _ *ledger.FrameBody) { r.Leaves = r.Leaves[:1] })
		}, ReasonFrameRoot},
		"frame body": {func(t *testing.T, a *attack) {
			a.editFrame(t, target, func(r *ledger.FrameRecord, b *ledger.FrameBody) {
				b.Seq++
				r.Body = canon.MustMarshal(b)
			})
		}, ReasonFrame},
		"two cosigners gone": {func(t *testing.T, a *attack) { a.cosign(t, a.head(t), a.world.depts["minzheng"]) }, ReasonQuorum},
		"no cosigner":        {func(t *testing.T, a *attack) { a.cosign(t, a.head(t)) }, ReasonQuorum},
		"one cosigner twice": {func(t *testing.T, a *attack) {
			a.cosign(t, a.head(t), a.world.depts["minzheng"], a.world.depts["minzheng"])
		}, ReasonCosignature},
		"a cosigner's name on another's key": {func(t *testing.T, a *attack) {
			d := a.world.depts["minzheng"]
			d.Dept = "zhujian"
			a.cosign(t, a.head(t), a.world.depts["minzheng"], d)
		}, ReasonCosignature},
		"the authority as a cosigner": {func(t *testing.T, a *attack) {
			a.cosign(t, a.head(t), a.world.depts["minzheng"], a.world.depts[exchange.Authority])
		}, ReasonCosignature},
		"head of a shorter tree": {func(t *testing.T, a *attack) {
			h := a.head(t)
			h.Size--
			a.cosign(t, h, a.world.depts["minzheng"], a.world.depts["zhujian"])
		}, ReasonInclusion},
		"head of another ledger": {func(t *testing.T, a *attack) {
			h := a.head(t)
			h.Origin = "elsewhere"
			a.cosign(t, h, a.world.depts["minzheng"], a.world.depts["zhujian"])
		}, ReasonOrigin},
		"head that is none": {func(_ *testing.T, a *attack) { a.files[fileCheckpoint] = []byte("x") }, ReasonCheckpoint},
		"head gone":         {func(_ *testing.T, a *attack) { delete(a.files, fileCheckpoint) }, ReasonMissingFile},
		"leaf gone":         {func(_ *testing.T, a *attack) { delete(a.files, leafFile(target)) }, ReasonMissingFile},
		"report gone":       {func(_ *testing.T, a *attack) { delete(a.files, fileReportText) }, ReasonMissingFile},
		"report that lies": {func(_ *testing.T, a *attack) {
			a.files[fileReportHTML] = bytes.Replace(a.files[fileReportHTML], []byte("allowed"), []byte("ignored"), 1)
		}, ReasonReport},
		"other body": {func(_ *testing.T, a *attack) {
			a.files[bodyFile(target)] = bytes.Replace(a.files[bodyFile(target)], []byte("ZJ-2026-0001"), []byte("ZJ-2026-0002"), 1)
		}, ReasonBody},
		"body of another entry": {func(_ *testing.T, a *attack) { a.files[bodyFile(target+1)] = a.files[bodyFile(target)] }, ReasonBody},
		"body that is none":     {func(_ *testing.T, a *attack) { a.files[bodyFile(target)] = []byte{0xa0, 0} }, ReasonBody},
		"body of an acknowledgement": {func(_ *testing.T, a *attack) {
			a.files[bodyFile(a.m.Entries[3])] = a.files[bodyFile(target)]
		}, ReasonBody},
		"a file of no use":  {func(_ *testing.T, a *attack) { a.files["notes/read-me.txt"] = []byte("hello") }, ReasonUnknownFile},
		"a leaf unlisted":   {func(_ *testing.T, a *attack) { a.files[leafFile(99)] = a.files[leafFile(target)] }, ReasonUnknownFile},
		"other format":      {func(_ *testing.T, a *attack) { a.m.Format = "xinqiao-evidence/2" }, ReasonFormat},
		"other ledger":      {func(_ *testing.T, a *attack) { a.m.Origin = "elsewhere" }, ReasonOrigin},
		"no entries":        {func(_ *testing.T, a *attack) { a.m.Entries = nil }, ReasonManifest},
		"an entry twice":    {func(_ *testing.T, a *attack) { a.m.Entries = append(a.m.Entries, a.m.Entries[3]) }, ReasonManifest},
		"exporter renamed":  {func(_ *testing.T, a *attack) { a.m.Exporter = "zhujian" }, ReasonCertificate},
		"signed by another": {func(_ *testing.T, a *attack) { a.signs = a.world.depts["zhujian"] }, ReasonManifestSig},
		"exported before the certificate": {func(_ *testing.T, a *attack) {
			a.m.Created = ledgerTime.AddDate(-1, 0, 0)
		}, ReasonCertificate},
		"certificate swapped": {func(_ *testing.T, a *attack) {
			f := certFile("minzheng", a.m.Certificate)
			a.files[f] = a.world.depts["zhujian"].DER
		}, ReasonFileDigest},
		"a certificate of no use": {func(t *testing.T, a *attack) { a.addCert(a.world.admit(t, "shuiwu", cert.Signing).Certificate) }, ReasonUnknownFile},
		"exporter with a certificate nobody trusts": {func(t *testing.T, a *attack) {
			a.signs = a.world.admit(t, "minzheng", cert.Signing)
			a.addCert(a.signs.Certificate)
			a.m.Certificate = Fingerprint(engine, a.signs.DER)
		}, ReasonMember},
	}
}

// A department that lies signs what it likes; the rest must convict it.
func TestALyingExporterIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	archive, trust := w.evidence(t), w.trust()
	for name, tc := range attacks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := readZip(archive)
			if err != nil {
				t.Fatal(err)
			}
			a := &attack{world: w, files: files, signs: w.depts["minzheng"]}
			if err := json.Unmarshal(files[fileManifest], &a.m); err != nil {
				t.Fatal(err)
			}
			tc.change(t, a)
			r, err := Run(a.archive(t), trust)
			if got := reason(err); got != tc.want || r.Proven != (tc.want == "") {
				t.Errorf("reason %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

// A frame that its author never signed, in a ledger that a quorum of liars
// cosigned: the author's signature alone convicts.
func TestAnEntryItsAuthorNeverSigned(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		forge func(*testing.T, *world)
		want  Reason
	}{
		"another's key": {func(_ *testing.T, w *world) {
			d := w.depts["minzheng"]
			d.key = w.depts["zhujian"].key
			w.depts["minzheng"] = d
		}, ReasonFrameSignature},
		"an untrusted certificate": {func(t *testing.T, w *world) { w.depts["minzheng"] = w.admit(t, "minzheng", cert.Signing) }, ReasonMember},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			trust, honest := w.trust(), w.depts["minzheng"]
			tc.forge(t, w)
			about := w.story(t)
			forger := w.depts["minzheng"]
			w.depts["minzheng"] = honest
			s := w.selection(t, about)
			s.Exporter = "zhujian"
			s.Certificates = append(s.Certificates, forger.Certificate)
			b, err := Export(engine, w.depts["zhujian"], s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Run(b, trust); reason(err) != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// A department renews its certificate: what it signed with the old one stays
// proven after that has expired, and the old one signs nothing new.
func TestRenewedCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.admitFor(t, "minzheng", cert.Signing, 24*time.Hour+30*time.Second) // ends before the head is cosigned
	renewed := w.depts["minzheng"]
	w.depts["minzheng"] = old
	about := w.story(t)
	w.depts["minzheng"] = renewed
	trust := w.trust()
	trust.Members[1].Certificates = append(trust.Members[1].Certificates, Fingerprint(engine, old.DER))

	s := w.selection(t, about)
	s.Certificates = append(s.Certificates, old.Certificate)
	b, err := Export(engine, renewed, s)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Run(b, trust); err != nil || len(r.Cosigners) != 3 {
		t.Errorf("cosigners %v, %v", r.Cosigners, err)
	}

	w.depts["minzheng"] = old
	if b, err = Export(engine, old, w.selection(t, about)); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(b, trust); reason(err) != ReasonCertificate {
		t.Errorf("an expired certificate exports: %v, want %s", err, ReasonCertificate)
	}
}

func TestEncryptionCertificatesSignNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.depts["minzheng"] = w.admit(t, "minzheng", cert.Encryption)
	b := w.evidence(t)
	if _, err := Run(b, w.trust()); reason(err) != ReasonCertificate {
		t.Errorf("%v, want %s", err, ReasonCertificate)
	}
}

func TestTrustDecides(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	archive := w.evidence(t)
	for name, tc := range map[string]struct {
		change func(*Trust)
		want   Reason
	}{
		"another root":          {func(t *Trust) { t.Root = other.root }, ReasonCertificate},
		"no root":               {func(t *Trust) { t.Root = nil }, ReasonTrust},
		"a root that is none":   {func(t *Trust) { t.Root = []byte("x") }, ReasonTrust},
		"another ledger":        {func(t *Trust) { t.Origin = "elsewhere" }, ReasonOrigin},
		"a member less":         {func(t *Trust) { t.Members = t.Members[1:] }, ReasonMember},
		"a certificate revoked": {func(t *Trust) { t.Members[1].Certificates = []string{strings.Repeat("00", 32)} }, ReasonMember},
		"another authority":     {func(t *Trust) { t.Authority = strings.Repeat("00", 32) }, ReasonMember},
		"quorum of nobody":      {func(t *Trust) { t.Quorum = 0 }, ReasonTrust},
		"quorum of all":         {func(t *Trust) { t.Quorum = 3 }, ""},
		"quorum beyond all":     {func(t *Trust) { t.Quorum = 4 }, ReasonTrust},
		"nothing":               {func(t *Trust) { *t = Trust{} }, ReasonTrust},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trust := w.trust()
			tc.change(&trust)
			if _, err := Run(archive, trust); reason(err) != tc.want {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// contrary is an engine that rejects what others accept, and the reverse.
type contrary struct{ gm.Engine }

func (c contrary) Verify(k gm.PublicKey, m []byte, s gm.Signature) bool {
	return !c.Engine.Verify(k, m, s)
}

func TestASplitVerdictProvesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	archive := w.evidence(t)
	for _, pair := range [][2]gm.Engine{{contrary{gm.Emmansun()}, gm.Tjfoc()}, {gm.Emmansun(), contrary{gm.Tjfoc()}}} {
		if r, err := run(pair[0], pair[1], archive, w.trust()); reason(err) != ReasonSplit || r.Proven {
			t.Errorf("%v, want %s", err, ReasonSplit)
		}
	}
}

func TestWhatIsNoZip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("certainly not a zip file, but long enough"), "PK": []byte("PK")} {
		if _, err := Run(b, w.trust()); !errors.Is(err, ErrNotZip) {
			t.Errorf("%s: %v, want ErrNotZip", name, err)
		}
	}
	archive := w.evidence(t)
	for name, b := range map[string][]byte{
		"cut short": archive[:len(archive)/2], "begun late": archive[1:], "with a tail": append(bytes.Clone(archive), 0),
		"with a head": append([]byte("#!/bin/sh\n"), archive...),
	} {
		if _, err := Run(b, w.trust()); reason(err) != ReasonContainer {
			t.Errorf("%s: %v, want %s", name, err, ReasonContainer)
		}
	}
	if _, err := Run(WriteZip(nil), w.trust()); reason(err) != ReasonMissingFile {
		t.Errorf("an empty archive: %v, want %s", err, ReasonMissingFile)
	}
}

// Repacking with a common tool keeps every file and is still refused: two
// readers of one archive could see different files.
func TestRepackedArchivesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files, err := readZip(w.evidence(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, method := range map[string]uint16{"stored": zip.Store, "deflated": zip.Deflate} {
		var out bytes.Buffer
		z := zip.NewWriter(&out)
		for file, b := range files {
			f, err := z.CreateHeader(&zip.FileHeader{Name: file, Method: method, Modified: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(out.Bytes(), w.trust()); reason(err) != ReasonContainer {
			t.Errorf("%s: %v, want %s", name, err, ReasonContainer)
		}
	}
}

func TestExportRefusesWhatCannotBeProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	about := w.story(t)
	for name, change := range map[string]func(*Selection){
		"nothing":             func(s *Selection) { s.Proofs = nil },
		"two tree sizes":      func(s *Selection) { s.Proofs[1].Size-- },
		"an entry twice":      func(s *Selection) { s.Proofs = append(s.Proofs, s.Proofs[0]) },
		"an author unknown":   func(s *Selection) { s.Certificates = s.Certificates[:0] },
		"an exporter unknown": func(s *Selection) { s.Exporter = "shuiwu" },
		"no checkpoint":       func(s *Selection) { s.Proofs[0].Checkpoint = "" },
		"a leaf that is none": func(s *Selection) { s.Proofs[0].Leaf = nil },
	} {
		s := w.selection(t, about)
		change(&s)
		if _, err := Export(engine, w.depts["minzheng"], s); !errors.Is(err, ErrSelection) {
			t.Errorf("%s: %v, want ErrSelection", name, err)
		}
	}
}

// A bad line in the note, from whoever gathered it, must not spoil the export.
func TestExportLeavesOutBadCosignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.selection(t, w.story(t))
	n, err := checkpoint.Parse([]byte(s.Proofs[0].Checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	n.Cosignatures[2].Sig[0] ^= 1
	n.Cosignatures = append(n.Cosignatures, n.Cosignatures[0])
	s.Proofs[0].Checkpoint = string(n.Encode())
	b, err := Export(engine, w.depts["minzheng"], s)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Run(b, w.trust()); err != nil || len(r.Cosigners) != 2 {
		t.Errorf("cosigners %v, %v", r.Cosigners, err)
	}
}

func TestTrustFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, err := w.trust().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseTrust(good); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":          nil,
		"unknown member": bytes.Replace(good, []byte(`"origin"`), []byte(`"orygin"`), 1),
		"trailing data":  append(bytes.Clone(good), "{}"...),
		"later format":   bytes.Replace(good, []byte("xinqiao-trust/1"), []byte("xinqiao-trust/2"), 1),
		"dept twice":     bytes.ReplaceAll(good, []byte("zhujian"), []byte("gongan")),
		"capital digits": bytes.Replace(good, []byte(w.trust().Authority), []byte(strings.ToUpper(w.trust().Authority)), 1),
	} {
		if _, err := ParseTrust(b); reason(err) != ReasonTrust {
			t.Errorf("%s: %v, want %s", name, err, ReasonTrust)
		}
	}
}

// Evidence that was once made verifies with every later version. Certificates
// are judged at the time of what they signed, so this holds for good.
func TestOldEvidenceStillVerifies(t *testing.T) {
	t.Parallel()
	evidenceFile, trustFile := filepath.Join("testdata", "evidence.zip"), filepath.Join("testdata", "trust.json")
	if *update {
		w := newWorld(t)
		trust, err := w.trust().Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(evidenceFile, w.evidence(t), 0o644), os.WriteFile(trustFile, trust, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.ReadFile(evidenceFile)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(trustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := ParseTrust(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(archive, trust)
	if err != nil || len(r.Entries) != 4 {
		t.Fatalf("%d entries, %v", len(r.Entries), err)
	}
	if _, err := hex.DecodeString(r.Root); err != nil {
		t.Error(err)
	}
}

// FuzzRun must neither panic nor call anything but the original proven.
func FuzzRun(f *testing.F) {
	w := newWorld(f)
	archive, trust := w.evidence(f), w.trust()
	f.Add(archive)
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Run(b, trust); (err == nil || r.Proven) && !bytes.Equal(b, archive) {
			t.Error("something else is proven")
		}
	})
}

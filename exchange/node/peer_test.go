package node_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/demo"
	"xinqiao/exchange/peer"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

// member is a department that has turned: its keys and certificates are real,
// its program is this test.
type member struct {
	dept   exchange.Dept
	keys   *keyring.Keyring
	cert   gm.Digest
	client *peer.Client
	dial   func(ctx context.Context, to exchange.Dept) (net.Conn, error)
}

func readPEM(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	der, err := cert.DecodePEM(file)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (n *network) turn(t *testing.T, dept exchange.Dept) member {
	t.Helper()
	dir := n.dir(dept)
	passphrase, err := os.ReadFile(filepath.Join(dir, "passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	m := member{dept: dept}
	if m.keys, err = keyring.Open(filepath.Join(dir, "keys.xq"), passphrase, gm.Emmansun()); err != nil {
		t.Fatal(err)
	}
	sign := readPEM(t, filepath.Join(dir, "sign.pem"))
	m.cert = gm.Emmansun().Sum(sign)
	mode, err := channel.ParseMode(n.config(t, dept).Channel)
	if err != nil {
		t.Fatal(err)
	}
	end, err := channel.New(channel.Config{Root: readPEM(t, filepath.Join(n.Dir, "ca", "root.pem")), Mode: mode, Credentials: channel.Credentials{
		SignCert: sign, EncCert: readPEM(t, filepath.Join(dir, "enc.pem")), Signer: m.keys.TLSSigner(), Decrypter: m.keys.TLSDecrypter(), Sign: m.keys.Sign},
		Admit: func(cert.Identity) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[exchange.Dept]string{}
	for _, d := range n.all() {
		addresses[d] = n.config(t, d).Listen.Peer
	}
	m.dial = func(ctx context.Context, to exchange.Dept) (net.Conn, error) {
		return end.Dial(ctx, addresses[to], string(to))
	}
	m.client = peer.NewClient(peer.ClientConfig{Self: dept, Address: func(d exchange.Dept) (string, bool) { return addresses[d], true },
		Dial: func(ctx context.Context, addr string, d exchange.Dept) (net.Conn, error) {
			return end.Dial(ctx, addr, string(d))
		}})
	t.Cleanup(m.client.Close)
	return m
}

// raw posts to another node what package peer's client would not.
func (m member) raw(t *testing.T, to exchange.Dept, path, contentType string, body []byte) int {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return m.dial(ctx, to) }}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+string(to)+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0 // cut off while it was still sending
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err == nil && bytes.Contains(b, []byte("goroutine ")) {
		t.Errorf("%s shows a stack", path)
	}
	return resp.StatusCode
}

// The messages between nodes, as an attacker who reads the wire format writes
// them. They are package broker's; a change there that breaks these breaks
// nodes of different versions too.
type (
	askMessage struct {
		Suite         string           `cbor:"1,keyasint"`
		Origin        string           `cbor:"2,keyasint"`
		ID            ledger.ID        `cbor:"3,keyasint"`
		Nonce         gm.Digest        `cbor:"4,keyasint"`
		Requester     exchange.Dept    `cbor:"5,keyasint"`
		Holder        exchange.Dept    `cbor:"6,keyasint"`
		RequesterCert gm.Digest        `cbor:"7,keyasint"`
		HolderCert    gm.Digest        `cbor:"8,keyasint"`
		Item          exchange.Item    `cbor:"9,keyasint"`
		Subject       exchange.Subject `cbor:"10,keyasint"`
		Views         []exchange.View  `cbor:"11,keyasint"`
		Purpose       exchange.Purpose `cbor:"12,keyasint"`
		Matter        exchange.Matter  `cbor:"13,keyasint"`
		Case          caseMessage      `cbor:"14,keyasint"`
		Operator      operatorMessage  `cbor:"15,keyasint"`
		Authority     *proofMessage    `cbor:"16,keyasint,omitempty"`
		Tag           ledger.Tag       `cbor:"17,keyasint"`
		Epoch         string           `cbor:"18,keyasint"`
		Issued        int64            `cbor:"19,keyasint"`
		Expires       int64            `cbor:"20,keyasint"`
	}
	caseMessage struct {
		Case exchange.Case `cbor:"1,keyasint"`
		Key  string        `cbor:"2,keyasint,omitempty"`
		Salt gm.Digest     `cbor:"3,keyasint"`
	}
	operatorMessage struct {
		Operator exchange.Operator `cbor:"1,keyasint"`
		Role     exchange.Role     `cbor:"2,keyasint,omitempty"`
		Salt     gm.Digest         `cbor:"3,keyasint"`
	}
	proofMessage struct {
		Key    string    `cbor:"1,keyasint"`
		Record []byte    `cbor:"2,keyasint"`
		Salt   gm.Digest `cbor:"3,keyasint"`
	}
	signedMessage struct {
		Body []byte       `cbor:"1,keyasint"`
		Sig  gm.Signature `cbor:"2,keyasint"`
	}
	replyMessage struct {
		Entry  ledger.ID `cbor:"1,keyasint"`
		Sealed []byte    `cbor:"2,keyasint,omitempty"`
		Denial []byte    `cbor:"3,keyasint,omitempty"`
		Body   []byte    `cbor:"4,keyasint,omitempty"`
	}
	denialMessage struct {
		Suite     string            `cbor:"1,keyasint"`
		Request   gm.Digest         `cbor:"2,keyasint"`
		Entry     ledger.ID         `cbor:"3,keyasint"`
		Holder    exchange.Dept     `cbor:"4,keyasint"`
		Requester exchange.Dept     `cbor:"5,keyasint"`
		Outcome   exchange.Outcome  `cbor:"6,keyasint"`
		AsOf      int64             `cbor:"7,keyasint"`
		Reasons   []exchange.Reason `cbor:"9,keyasint,omitempty"`
	}
)

const askDomain = "xinqiao/ask/v1"

// message is a request of m to 民政 that is in form and would be denied only for
// want of an authority.
func (n *network) message(t *testing.T, m member) askMessage {
	t.Helper()
	now := time.Now()
	return askMessage{Suite: gm.Suite, Origin: n.Origin, ID: newID(t), Nonce: gm.Digest{1, 2, 3}, Requester: m.dept, Holder: demo.Minzheng,
		RequesterCert: m.cert, HolderCert: gm.Emmansun().Sum(readPEM(t, filepath.Join(n.dir(demo.Minzheng), "sign.pem"))),
		Item: demo.MarriageRecord, Subject: demo.Wife(), Views: []exchange.View{value("marital_status")}, Purpose: demo.StoryPurpose,
		Matter: demo.StoryMatter, Case: caseMessage{Case: "ZJ-PEER"}, Operator: operatorMessage{Operator: handler},
		Epoch: ledger.Epoch(now), Issued: now.UnixMilli(), Expires: now.Add(time.Minute).UnixMilli()}
}

func newID(t *testing.T) ledger.ID {
	t.Helper()
	id, err := ledger.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func signAs(t *testing.T, m member, domain string, v any) []byte {
	t.Helper()
	body := canon.MustMarshal(v)
	sig, err := m.keys.Sign(domain, body)
	if err != nil {
		t.Fatal(err)
	}
	return canon.MustMarshal(signedMessage{Body: body, Sig: sig})
}

// denied sends a message over m's connection and returns the reasons of the
// signed denial, once it is sure that nothing else came and that the holder's
// ledger has the attempt.
func (n *network) denied(t *testing.T, m member, msg []byte) []exchange.Reason {
	t.Helper()
	out, err := m.client.Ask(t.Context(), demo.Minzheng, msg)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	var r replyMessage
	if err := canon.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Sealed) != 0 || len(r.Denial) == 0 {
		t.Fatalf("a response of %d sealed bytes was released", len(r.Sealed))
	}
	var s signedMessage
	var d denialMessage
	if err := errors.Join(canon.Unmarshal(r.Denial, &s), canon.Unmarshal(s.Body, &d)); err != nil {
		t.Fatal(err)
	}
	if !gm.Emmansun().Verify(n.Site(demo.Minzheng).Key, gm.Preimage("xinqiao/answer/v1", s.Body), s.Sig) {
		t.Error("the denial is not signed by the holder")
	}
	if d.Outcome != exchange.Refused || d.Requester != m.dept || d.Entry != r.Entry {
		t.Errorf("the denial says %s to %s", d.Outcome, d.Requester)
	}
	rows, _, err := n.sdk[demo.Minzheng].Search(t.Context(), exchange.LedgerQuery{Kind: "access", Dept: m.dept, Page: exchange.Page{Limit: 200}})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(rows, func(row exchange.LedgerRow) bool { return row.Entry == r.Entry.String() })
	if at < 0 || rows[at].Requester != m.dept || rows[at].Outcome != exchange.Refused || rows[at].Result != "committed" {
		t.Errorf("the attempt is not among the %d newest entries as it was", len(rows))
	}
	return d.Reasons
}

// strangeRequests: what a member's node sends and no honest node would. Each
// attempt is denied under its code, stands on the ledger in the name of the
// department whose connection it came over, and opens nothing.
func strangeRequests(t *testing.T, n *network) {
	bad, owner := n.turn(t, demo.Weijian), n.turn(t, demo.Zhujian)
	if reasons := n.denied(t, bad, signAs(t, bad, askDomain, n.message(t, bad))); has(reasons, exchange.DenyBadMessage) || !has(reasons, exchange.DenyNoAuthority) {
		t.Fatalf("the message that is in form is denied for %v", reasons)
	}
	with := func(change func(*askMessage)) func() []byte {
		return func() []byte {
			m := n.message(t, bad)
			change(&m)
			return signAs(t, bad, askDomain, m)
		}
	}
	good := func() []byte { return signAs(t, bad, askDomain, n.message(t, bad)) }
	for _, c := range []struct {
		name string
		make func() []byte
		code exchange.Code
	}{
		{"bit of the signature", func() []byte { return flip(good(), -1) }, exchange.CodeSignature},
		{"bit of the body", func() []byte { return flip(good(), 40) }, exchange.CodeSignature},
		{"another's signed request", func() []byte { return signAs(t, owner, askDomain, n.message(t, owner)) }, exchange.CodeSignature},
		{"in another's name", with(func(m *askMessage) { m.Requester = demo.Zhujian }), exchange.CodeSignature},
		{"in another's name and certificate", with(func(m *askMessage) { m.Requester, m.RequesterCert = demo.Zhujian, owner.cert }), exchange.CodeSignature},
		{"another certificate", with(func(m *askMessage) { m.RequesterCert = owner.cert }), exchange.CodeSignature},
		{"signed as something else", func() []byte { return signAs(t, bad, ledger.DomainFrame, n.message(t, bad)) }, exchange.CodeSignature},
		{"to another holder", with(func(m *askMessage) { m.Holder = demo.Gongan }), exchange.CodeAudience},
		{"to another certificate", with(func(m *askMessage) { m.HolderCert = owner.cert }), exchange.CodeAudience},
		{"of another ledger", with(func(m *askMessage) { m.Origin = "other.example/ledger" }), exchange.CodeAudience},
		{"suite", with(func(m *askMessage) { m.Suite = "SM-0" }), exchange.CodeSuite},
		{"expired", with(func(m *askMessage) { m.Issued, m.Expires = m.Issued-120_000, m.Issued-60_000 }), exchange.CodeExpired},
		{"from the future", with(func(m *askMessage) { m.Issued, m.Expires = m.Issued+120_000, m.Issued+180_000 }), exchange.CodeExpired},
		{"good for a year", with(func(m *askMessage) { m.Expires += 365 * 86400_000 }), exchange.CodeExpired},
		{"no id", with(func(m *askMessage) { m.ID = ledger.ID{} }), exchange.CodeField},
		{"tag of another epoch", with(func(m *askMessage) { m.Epoch = "2001-01" }), exchange.CodeField},
		{"no fields", with(func(m *askMessage) { m.Views = nil }), exchange.CodeNoViews},
		{"a real person", with(func(m *askMessage) { m.Subject.ID = realPerson() }), exchange.CodeSubject},
		{"item of a strange form", with(func(m *askMessage) { m.Item = "../../etc/passwd" }), exchange.CodeField},
		{"nothing", func() []byte { return nil }, exchange.CodeSignature},
		{"half", func() []byte { b := good(); return b[:len(b)/2] }, exchange.CodeSignature},
		{"garbage", func() []byte { return bytes.Repeat([]byte{0xa5}, 4000) }, exchange.CodeSignature},
		{"trailing byte", func() []byte { return append(good(), 0) }, exchange.CodeSignature},
		{"nested deep", func() []byte { return bytes.Repeat([]byte{0x81}, 100_000) }, exchange.CodeSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			reasons := n.denied(t, bad, c.make())
			if len(reasons) != 1 || reasons[0].Code != exchange.DenyBadMessage || reasons[0].Detail != string(c.code) {
				t.Errorf("denied for %v, want %s %s", reasons, exchange.DenyBadMessage, c.code)
			}
		})
	}
}

// flip returns msg with one bit changed at an offset, from the end if negative.
func flip(msg []byte, at int) []byte {
	msg = bytes.Clone(msg)
	if at < 0 {
		at += len(msg)
	}
	msg[at] ^= 1
	return msg
}

// realPerson is an identity number with the right check character, in a
// division that does not exist.
func realPerson() string {
	const digits = "99010219900101001"
	return digits + string(exchange.CitizenCheck(digits))
}

// replays: a request is its department's, once.
func replays(t *testing.T, n *network) {
	bad := n.turn(t, demo.Weijian)
	m := n.message(t, bad)
	msg := signAs(t, bad, askDomain, m)
	first, err := bad.client.Ask(t.Context(), demo.Minzheng, msg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := bad.client.Ask(t.Context(), demo.Minzheng, msg)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the same request gets another reply: %v", err)
	}
	m.Views = []exchange.View{value("spouse_name")}
	if _, err := bad.client.Ask(t.Context(), demo.Minzheng, signAs(t, bad, askDomain, m)); exchange.AsError(err).Code != exchange.CodeReplay {
		t.Errorf("the id with another request: %v", err)
	}
	other := n.turn(t, demo.Renshe)
	if reasons := n.denied(t, other, msg); !has(reasons, exchange.DenyBadMessage) {
		t.Errorf("another department's copy is denied for %v", reasons)
	}
	for _, path := range []string{"/peer/v1/ask", "/peer/v1/frame", "/peer/v1/cosign", "/peer/v1/checkpoint"} {
		if status := bad.raw(t, demo.Minzheng, path, "application/cbor", make([]byte, 2<<20)); status != http.StatusRequestEntityTooLarge && status != 0 {
			t.Errorf("2 MiB to %s: status %d", path, status)
		}
		if status := bad.raw(t, demo.Minzheng, path, "application/json", []byte("{}")); status != http.StatusUnsupportedMediaType {
			t.Errorf("JSON to %s: status %d", path, status)
		}
	}
	if status := bad.raw(t, demo.Minzheng, "/api/v1/ledger/checkpoint", "application/cbor", nil); status != http.StatusNotFound {
		t.Errorf("another route: status %d", status)
	}
}

// forgedFrames: no voter proposes what its author has not signed, and what a
// member may not decide stays without effect though it signs it.
func forgedFrames(t *testing.T, n *network) {
	bad := n.turn(t, demo.Weijian)
	e := gm.Emmansun()
	entry := func(author exchange.Dept) ledger.Entry {
		return ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: newID(t), Author: author, Origin: time.Now().UnixMilli(),
			Fact: &ledger.FactChange{Type: ledger.FactMember, Key: string(demo.Minzheng), Action: ledger.Withdraw}}
	}
	encode := func(x ledger.Entry) []byte {
		b, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	frame := func(origin string, dept exchange.Dept, fingerprint gm.Digest, seq uint64, entries ...[]byte) []byte {
		b, err := ledger.NewFrame(e, bad.keys, origin, dept, fingerprint, seq, gm.Digest{}, entries)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	minzhengs := e.Sum(readPEM(t, filepath.Join(n.dir(demo.Minzheng), "sign.pem")))
	own := frame(n.Origin, bad.dept, bad.cert, 1<<40, encode(entry(bad.dept)))
	var forged []string // ids that must not appear
	for name, f := range map[string]func() []byte{
		"in another's name": func() []byte {
			x := entry(demo.Minzheng)
			forged = append(forged, x.ID.String())
			return frame(n.Origin, demo.Minzheng, minzhengs, 1<<40, encode(x))
		},
		"with another's entry": func() []byte {
			x := entry(demo.Minzheng)
			forged = append(forged, x.ID.String())
			return frame(n.Origin, bad.dept, bad.cert, 1<<40, encode(x))
		},
		"as the authority": func() []byte {
			x := entry(exchange.Authority)
			forged = append(forged, x.ID.String())
			return frame(n.Origin, exchange.Authority, minzhengs, 1<<40, encode(x))
		},
		"of another ledger": func() []byte {
			x := entry(bad.dept)
			forged = append(forged, x.ID.String())
			return frame("other.example", bad.dept, bad.cert, 1<<40, encode(x))
		},
		"a second history": func() []byte {
			x := entry(bad.dept)
			forged = append(forged, x.ID.String())
			return frame(n.Origin, bad.dept, bad.cert, 1, encode(x))
		},
		"bit of the signature": func() []byte { return flip(own, len(own)/2) },
		"garbage":              func() []byte { return bytes.Repeat([]byte{0x5a}, 999) },
		"half":                 func() []byte { return own[:len(own)/2] },
		"nothing":              func() []byte { return nil },
	} {
		msg := f()
		for _, to := range []exchange.Dept{demo.Gongan, demo.Minzheng, demo.Zhujian} {
			if err := bad.client.Forward(t.Context(), to, msg); !errors.Is(err, ledger.ErrNotProposed) {
				t.Errorf("%s to %s: %v", name, to, err)
			}
		}
	}
	n.overreach(t, bad, entry(bad.dept))
	n.consent(t, form(demo.Elder(), "ZJ-FRAMES", 1)) // something true behind it all
	if rows := n.rows(t, demo.Gongan, func(r exchange.LedgerRow) bool { return slices.Contains(forged, r.Entry) }); len(rows) > 0 {
		t.Errorf("forged entries stand on the ledger: %+v", rows)
	}
}

// overreach has the member sign, in its right place, changes that are not its
// to make: they become leaves that have no effect.
func (n *network) overreach(t *testing.T, bad member, expel ledger.Entry) {
	t.Helper()
	e := gm.Emmansun()
	rules, consent := expel, expel
	rules.ID, rules.Fact = newID(t), &ledger.FactChange{Type: ledger.FactRules, Key: string(demo.Minzheng), Action: ledger.Set, Content: []byte{0xa0}}
	consent.ID, consent.Fact = newID(t), &ledger.FactChange{Type: ledger.FactAuthority, Key: newID(t).String(), Action: ledger.Set, Provider: demo.Minzheng,
		Grantee: demo.Zhujian, NotAfter: time.Now().Add(time.Hour).Unix(), MaxReads: 9, Commitment: gm.Digest{7}}
	wanted := map[string]bool{}
	var entries [][]byte
	for _, x := range []ledger.Entry{expel, rules, consent} {
		b, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		entries, wanted[x.ID.String()] = append(entries, b), true
	}
	placed := func() []exchange.LedgerRow {
		return n.rows(t, demo.Weijian, func(r exchange.LedgerRow) bool { return wanted[r.Entry] })
	}
	eventually(t, "the frame is committed", func() bool {
		body, hash := n.lastFrame(t, bad.dept)
		msg, err := ledger.NewFrame(e, bad.keys, n.Origin, bad.dept, bad.cert, body.Seq+1, hash, entries)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []exchange.Dept{demo.Gongan, demo.Minzheng, demo.Zhujian} {
			if bad.client.Forward(t.Context(), to, msg) == nil {
				return true
			}
		}
		return len(placed()) > 0
	})
	eventually(t, "the frame is applied", func() bool { return len(placed()) == len(wanted) })
	for _, r := range placed() {
		if r.Result != ledger.Rejected.String() {
			t.Errorf("%s by %s is %s", r.Kind, r.Author, r.Result)
		}
	}
}

// lastFrame returns a department's newest frame, from the ledger's own proofs.
func (n *network) lastFrame(t *testing.T, dept exchange.Dept) (ledger.FrameBody, gm.Digest) {
	t.Helper()
	rows := n.rows(t, dept, func(r exchange.LedgerRow) bool { return r.Author == dept })
	if len(rows) == 0 {
		t.Fatalf("%s has no entry", dept)
	}
	p, err := n.sdk[dept].Proof(t.Context(), rows[0].Index)
	if err != nil {
		t.Fatal(err)
	}
	var rec ledger.FrameRecord
	var body ledger.FrameBody
	if err := errors.Join(canon.Unmarshal(p.Frame, &rec), canon.Unmarshal(rec.Body, &body)); err != nil {
		t.Fatal(err)
	}
	return body, ledger.FrameHash(gm.Emmansun(), rec.Body, rec.Sig)
}

// forgedHeads: no node cosigns a head that is not its own, or believes one that
// too few have cosigned.
func forgedHeads(t *testing.T, n *network) {
	bad := n.turn(t, demo.Weijian)
	e := gm.Emmansun()
	text, err := n.sdk[demo.Minzheng].Checkpoint(t.Context())
	for deadline := time.Now().Add(60 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text, err = n.sdk[demo.Minzheng].Checkpoint(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	note, err := checkpoint.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string]checkpoint.Checkpoint{
		"wrong root":         {Size: note.Size, Root: gm.Digest{1}},
		"wrong root, small":  {Size: 3, Root: gm.Digest{1}},
		"smaller than known": {Size: 1, Root: gm.Digest{1}},
		"empty":              {Size: 0, Root: gm.Digest{}},
	} {
		s, err := bad.client.Cosign(t.Context(), demo.Minzheng, head.Size, head.Root)
		if err == nil && head.Size > 0 {
			t.Errorf("%s: %s cosigns it", name, s.Name)
		}
		if err != nil && exchange.KindOf(err) == exchange.Internal {
			t.Errorf("%s: refused as an internal error: %v", name, err)
		}
	}
	fake := checkpoint.Note{Checkpoint: checkpoint.Checkpoint{Origin: n.Origin, Size: note.Size + 5000, Root: gm.Digest{9}}}
	mine, err := checkpoint.Cosign(bad.keys, e, string(bad.dept), bad.keys.SignPublic(), time.Now(), fake.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	lent := mine
	lent.Name = string(demo.Gongan)
	lent.KeyHash = checkpoint.KeyHash(e, lent.Name, n.Site(demo.Gongan).Key)
	foreign := note
	foreign.Origin = "other.example/ledger"
	old := note
	old.Size, old.Cosignatures = note.Size+5000, note.Cosignatures // others' signatures under a head they did not see
	for name, text := range map[string]string{
		"one cosigner":           string(checkpoint.Note{Checkpoint: fake.Checkpoint, Cosignatures: []checkpoint.Cosignature{mine}}.Encode()),
		"one cosigner, repeated": string(checkpoint.Note{Checkpoint: fake.Checkpoint, Cosignatures: []checkpoint.Cosignature{mine, mine, mine, mine, mine}}.Encode()),
		"in others' names":       string(checkpoint.Note{Checkpoint: fake.Checkpoint, Cosignatures: []checkpoint.Cosignature{mine, lent}}.Encode()),
		"none":                   string(fake.Encode()),
		"others' old signatures": string(old.Encode()),
		"of another ledger":      string(foreign.Encode()),
		"not a note":             strings.Repeat("x", 500),
	} {
		err := bad.client.Publish(t.Context(), demo.Minzheng, []byte(text))
		if err == nil || exchange.KindOf(err) == exchange.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	now, err := n.sdk[demo.Minzheng].Checkpoint(t.Context())
	if err != nil || strings.Contains(now, hex.EncodeToString(fake.Root[:])) {
		t.Errorf("the newest checkpoint: %v", err)
	}
	if held, err := checkpoint.Parse([]byte(now)); err != nil || held.Size >= fake.Size {
		t.Errorf("the node holds a head of size %d, %v", held.Size, err)
	}
	if status, body := n.call(t, demo.Minzheng, "GET", "/readyz", "", nil); status != http.StatusOK {
		t.Errorf("after forged heads the node is not ready: %s", body)
	}
}

package keyring

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
)

// TestAgentRestart: while the agent is away every use fails with ErrUnavailable,
// and when it is back, with keys added meanwhile, the same client goes on.
func TestAgentRestart(t *testing.T) {
	t.Parallel()
	soft, file := create(t)
	path := socketPath(t)
	_, stop := serveAgent(t, soft, quiet(), path)
	k := dialed(t, path)
	tag, sealed := tagOf(t, k, "2026-11", "x"), must[[]byte](t)(k.SealLocal("p", nil, []byte("x")))
	use := func() []error {
		_, errSign := k.Sign("d", nil)
		_, errUnwrap := k.Unwrap(nil)
		_, errTag := k.Tag("2026-11", "x")
		_, errName := k.LocalTag("p", nil)
		_, errSeal := k.SealLocal("p", nil, nil)
		_, errOpen := k.OpenLocal("p", nil, sealed)
		_, errTLS := k.TLSSigner().Sign(nil, []byte("hello"), nil)
		return []error{errSign, errUnwrap, errTag, errName, errSeal, errOpen, errTLS, k.Reload()}
	}
	stop()
	for i, err := range use() {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("use %d while the agent is away: %v", i, err)
		}
	}
	if _, err := Dial(path); !errors.Is(err, ErrUnavailable) {
		t.Errorf("dial while the agent is away: %v", err)
	}
	again := reopen(t, file)
	added := must[gm.PublicKey](t)(again.AddSign(noon()))
	serveAgent(t, again, quiet(), path)
	for i, err := range use() {
		if want := i == 1; (err != nil) != want || want && !errors.Is(err, gm.ErrDecrypt) {
			t.Errorf("use %d when the agent is back: %v", i, err)
		}
	}
	if tagOf(t, k, "2026-11", "x") != tag {
		t.Error("another tag after the restart")
	}
	if _, ok := k.SignerOf(added); !ok {
		t.Error("Reload does not show the key that was added")
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for i, err := range use() {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("use %d after Close: %v", i, err)
		}
	}
}

// TestAgentOfAnotherKeyring: an agent that comes back with other keys is asked
// for a key by what it is, so it cannot sign or tag with one of its own.
func TestAgentOfAnotherKeyring(t *testing.T) {
	t.Parallel()
	mine, path := generate(t), socketPath(t)
	_, stop := serveAgent(t, mine, quiet(), path)
	k := dialed(t, path)
	sealed := must[[]byte](t)(k.SealLocal("p", nil, nil))
	stop()
	serveAgent(t, generate(t), quiet(), path)
	if _, err := k.Sign("d", nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("sign: %v", err)
	}
	if _, err := k.Tag("2026-11", "x"); !errors.Is(err, ErrNoKey) {
		t.Errorf("tag: %v", err)
	}
	if _, err := k.OpenLocal("p", nil, sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("open: %v", err)
	}
}

// TestAgentReadsTheFileAgain: `xinqiao keyring rotate` changes the file below a
// running agent; the next Reload shows it, and a changed passphrase as such.
func TestAgentReadsTheFileAgain(t *testing.T) {
	t.Parallel()
	soft, file := create(t)
	path := socketPath(t)
	serveAgent(t, soft, quiet(), path)
	k := dialed(t, path)
	other := reopen(t, file)
	added := must[gm.PublicKey](t)(other.AddEnc(noon()))
	old := k.EncPublic()
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := k.Use(k.SignPublic(), added); err != nil {
		t.Fatal(err)
	}
	if err := other.Retire(old); err != nil {
		t.Fatal(err)
	}
	if err := k.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, ok := k.DecrypterOf(old); ok {
		t.Error("the agent still holds a key that is retired")
	}
	if err := other.Rekey([]byte("another"), cheap()); err != nil {
		t.Fatal(err)
	}
	if err := k.Reload(); !errors.Is(err, ErrPassphrase) {
		t.Errorf("after a change of the passphrase: %v", err)
	}
	if _, err := k.Sign("d", nil); err != nil {
		t.Errorf("the keys it has: %v", err)
	}
}

func TestAgentUnderLoad(t *testing.T) {
	t.Parallel()
	soft, file := create(t)
	path := socketPath(t)
	serveAgent(t, soft, quiet(), path)
	k, other := dialed(t, path), reopen(t, file)
	var wg sync.WaitGroup
	for i := range 3 * clientConns {
		wg.Go(func() {
			for n := range 10 {
				body := fmt.Append(nil, i, n)
				h, ok := k.SignerOf(k.SignKeys()[0])
				if !ok {
					t.Error("a listed key is gone")
					return
				}
				if sig, err := h.Sign("d", body); err != nil || !gm.Emmansun().Verify(h.Public(), gm.Preimage("d", body), sig) {
					t.Errorf("sign: %v", err)
				}
				sealed, err := k.SealLocal("p", nil, body)
				if err != nil {
					t.Error(err)
				}
				if got, err := k.OpenLocal("p", nil, sealed); err != nil || !bytes.Equal(got, body) {
					t.Errorf("open: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			must[gm.PublicKey](t)(other.AddSign(noon()))
			if err := errors.Join(other.AddLocal(noon()), k.Reload()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if len(k.SignKeys()) != 6 {
		t.Errorf("%d signing keys", len(k.SignKeys()))
	}
}

// raw returns a connection to the agent past its hello.
func raw(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := greet(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed reports whether the other side ends the connection without an answer.
func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestAgentRefusesMalformed sends what no client sends: the connection ends, and
// the agent goes on for others.
func TestAgentRefusesMalformed(t *testing.T) {
	t.Parallel()
	k, path := generate(t), socketPath(t)
	a, _ := serveAgent(t, k, quiet(), path)
	frame := func(v any) []byte {
		body := canon.MustMarshal(v)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, sent := range map[string][]byte{
		"no length":         {0, 0, 0, 0},
		"oversize":          {0xff, 0xff, 0xff, 0xff},
		"just oversize":     binary.BigEndian.AppendUint32(nil, maxFrame+1),
		"no CBOR":           {0, 0, 0, 1, 0xff},
		"another object":    frame(hello{agentName, agentVersion}),
		"no operation":      frame(request{}),
		"unknown operation": frame(request{Op: opMAC + 1}),
		"trailing bytes":    append([]byte{0, 0, 0, byte(len(frame(request{Op: opKeys})) - 3)}, append(frame(request{Op: opKeys})[4:], 0)...),
	} {
		c := raw(t, path)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if !closed(t, c) {
			t.Errorf("%s: it is answered", name)
		}
	}
	for name, h := range map[string]hello{"another name": {"ssh agent", agentVersion}, "another version": {agentName, agentVersion + 1}} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFrame(c, h); err != nil {
			t.Fatal(err)
		}
		var got hello
		if err := readFrame(c, maxHello, &got); err != nil || got != (hello{agentName, agentVersion}) || !closed(t, c) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		_ = c.Close()
	}
	if _, err := dialed(t, path).Sign("d", nil); err != nil {
		t.Errorf("after all that: %v", err)
	}
	if a.counts[0][codeMalformed].Load() == 0 {
		t.Error("malformed frames are not counted")
	}
}

// TestAgentConnectionsAreBounded opens as many silent connections as the agent
// takes; it is still there for those it has, and for new ones once they go.
func TestAgentConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	k, path := generate(t), socketPath(t)
	serveAgent(t, k, quiet(), path)
	held := make([]net.Conn, agentConns)
	for i := range held {
		held[i] = raw(t, path)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if !closed(t, c) {
		t.Error("one connection too many is served")
	}
	if err := writeFrame(held[0], request{Op: opKeys}); err != nil {
		t.Fatal(err)
	}
	var r response
	if err := readFrame(held[0], maxFrame, &r); err != nil || r.Code != codeDone || len(r.Keys) != 5 {
		t.Errorf("a connection it has: %v", err)
	}
	for _, c := range held {
		_ = c.Close()
	}
	for range 1000 {
		if _, err = Dial(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("no connection after others have gone: %v", err)
}

// TestAgentServesItsOwnUserOnly moves the agent's idea of its user, because a
// test has one: then this process is another's.
func TestAgentServesItsOwnUserOnly(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAgent(generate(t), quiet())
	a.uid++
	done := make(chan error, 1)
	go func() { done <- a.Serve(t.Context(), l) }()
	if _, err := Dial(path); !errors.Is(err, ErrUnavailable) {
		t.Errorf("another user's process is served: %v", err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := checkPeer(c, os.Geteuid()+1); !errors.Is(err, ErrPeer) {
		t.Errorf("a client takes another user's agent: %v", err)
	}
	if err := checkPeer(c, os.Geteuid()); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-done // the listener was closed below it
	if a.denied.Load() == 0 {
		t.Error("refused connections are not counted")
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(filepath.Dir(socketPath(t)))
	open, private := filepath.Join(dir, "open"), filepath.Join(dir, "private")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Mkdir(private, 0o700), os.Chmod(open, 0o755), os.Symlink(private, filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(private, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"no path":               {"", os.ErrInvalid},
		"an endless path":       {filepath.Join(private, strings.Repeat("x", maxPath)), os.ErrInvalid},
		"an open directory":     {filepath.Join(open, "s"), ErrPermissions},
		"a link to a directory": {filepath.Join(dir, "link", "s"), ErrPermissions},
		"no parent":             {filepath.Join(dir, "a", "b", "s"), fs.ErrNotExist},
		"a file in its place":   {filepath.Join(private, "file"), ErrNotFile},
	} {
		if l, err := Listen(c.path); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
	path := filepath.Join(dir, "made", "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrServed) {
		t.Errorf("a second agent: %v", err)
	}
	// A dead agent leaves its socket.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Listen(path); err != nil {
		t.Fatalf("after a dead agent: %v", err)
	}
	_ = l.Close()
}

// brokenDevice fails in ways of its own.
type brokenDevice struct{ Device }

func (brokenDevice) MAC(ID, []byte) (gm.Digest, error)  { panic("out of order") }
func (brokenDevice) Decrypt(ID, []byte) ([]byte, error) { return nil, io.ErrUnexpectedEOF }
func (brokenDevice) Sign(ID, Use, []byte) (gm.Signature, error) {
	return gm.Signature{}, errors.New("SDR_HARDFAIL")
}

// TestAgentOverBrokenDevice: whatever happens behind the agent is ErrUnavailable
// in front of it, and the agent lives.
func TestAgentOverBrokenDevice(t *testing.T) {
	t.Parallel()
	soft := generate(t)
	broken := must[*Keyring](t)(New(gm.Emmansun(), brokenDevice{soft.device}))
	path := socketPath(t)
	serveAgent(t, broken, quiet(), path)
	k := dialed(t, path)
	for range 3 {
		_, errSign := k.Sign("d", nil)
		_, errUnwrap := k.Unwrap(nil)
		_, errTag := k.Tag("2026-11", "x")
		for _, err := range []error{errSign, errUnwrap, errTag} {
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		}
	}
	if err := k.Reload(); err != nil {
		t.Errorf("what works: %v", err)
	}
}

// fakeAgent answers every request with r.
func fakeAgent(t *testing.T, r response) Device {
	t.Helper()
	path := filepath.Join(filepath.Dir(filepath.Dir(socketPath(t))), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var q request
				for err := greet(c); err == nil; {
					if err = readFrame(c, maxFrame, &q); err == nil {
						err = writeFrame(c, r)
					}
				}
			}()
		}
	}()
	d, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestClientTrustsNoForm: answers of another form are no signature and no key.
func TestClientTrustsNoForm(t *testing.T) {
	t.Parallel()
	point := generate(t).SignPublic().Bytes()
	off := bytes.Clone(point)
	off[40] ^= 1
	for name, r := range map[string]response{
		"short":               {Body: make([]byte, 31)},
		"long":                {Body: make([]byte, 65)},
		"an unknown failure":  {Code: codeEnd},
		"a key off the curve": {Keys: []wireKey{{Kind: KindSign, Public: off}}},
		"a key without one":   {Keys: []wireKey{{Kind: KindSign}}},
		"a master with one":   {Keys: []wireKey{{Kind: KindTag, Public: point}}},
		"a key before time":   {Keys: []wireKey{{Kind: KindSign, Public: point, Made: -1}}},
		"too many keys":       {Keys: make([]wireKey, maxKeys+1)},
	} {
		d := fakeAgent(t, r)
		_, errSign := d.Sign(ID{}, UseObject, nil)
		_, errMAC := d.MAC(ID{}, nil)
		if !errors.Is(errSign, ErrUnavailable) || !errors.Is(errMAC, ErrUnavailable) {
			t.Errorf("%s: %v, %v", name, errSign, errMAC)
		}
		if _, err := d.Keys(); len(r.Keys) > 0 && err == nil {
			t.Errorf("%s: it is listed", name)
		}
	}
	if _, err := New(gm.Emmansun(), fakeAgent(t, response{})); !errors.Is(err, ErrNoKey) {
		t.Errorf("an agent without keys: %v", err)
	}
}

// TestAgentLogsNothing reads the log of an agent that did everything: counts, and
// no secret, content, tag or purpose.
func TestAgentLogsNothing(t *testing.T) {
	t.Parallel()
	soft, _ := create(t)
	var mu sync.Mutex
	var log bytes.Buffer
	path := socketPath(t)
	handler := slog.NewJSONHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(b)
	}), &slog.HandlerOptions{Level: slog.LevelDebug})
	a, stop := serveAgent(t, soft, slog.New(handler), path)
	k := dialed(t, path)
	const subject, purpose, body = "110101199003070000", "secret purpose", "the marriage record"
	tag := tagOf(t, k, "2026-11", subject)
	sealed := must[[]byte](t)(k.SealLocal(purpose, nil, []byte(body)))
	must[[]byte](t)(k.OpenLocal(purpose, nil, sealed))
	must[gm.Signature](t)(k.Sign("domain", []byte(body)))
	content := must[[]byte](t)(k.Unwrap(must[[]byte](t)(gm.Emmansun().Encrypt(k.EncPublic(), []byte("content key")))))
	_, _ = k.Unwrap([]byte(body))
	_, _ = k.device.Sign(k.view.Load().sign.ID, UseObject, []byte(body))
	a.LogCounts()
	stop()
	got := log.String()
	for _, want := range []string{`"sign done":1`, `"mac done":3`, `"decrypt done":1`, `"decrypt not decrypted":1`, `"sign refused":1`} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %s:\n%s", want, got)
		}
	}
	hidden := secretsOf(t, soft)
	for name, text := range map[string][]byte{"the subject": []byte(subject), "the purpose": []byte(purpose), "the body": []byte(body),
		"the content key": content, "the tag": tag[:], "the passphrase": passphrase()} {
		hidden[name] = text
	}
	for name, secret := range hidden {
		if strings.Contains(got, string(secret)) || strings.Contains(got, hex.EncodeToString(secret)) {
			t.Errorf("the log holds %s", name)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestRequestSigner: an encryption key signs the request for its own certificate
// and nothing else, also through an agent.
func TestRequestSigner(t *testing.T) {
	t.Parallel()
	soft, path := generate(t), socketPath(t)
	serveAgent(t, soft, quiet(), path)
	info := func(pub gm.PublicKey, version int) []byte {
		b, err := asn1.Marshal(struct {
			Version int
			Name    struct{}
			SPKI    struct {
				Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
				Key       asn1.BitString
			}
			Attributes asn1.RawValue
		}{Version: version, SPKI: struct {
			Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
			Key       asn1.BitString
		}{struct{ Algorithm, Curve asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1},
			asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}}, asn1.BitString{Bytes: pub.Bytes(), BitLength: 8 * gm.PublicKeySize}},
			Attributes: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, k := range map[string]*Keyring{"software": soft, "agent": dialed(t, path)} {
		h, _ := k.DecrypterOf(k.EncPublic())
		good := info(k.EncPublic(), 0)
		der, err := h.RequestSigner().Sign(nil, good, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		sig, err := gm.ParseSignature(der)
		if err != nil || !gm.Tjfoc().Verify(k.EncPublic(), good, sig) {
			t.Errorf("%s: %v", name, err)
		}
		for what, msg := range map[string][]byte{"another key's request": info(k.SignPublic(), 0), "another version": info(k.EncPublic(), 1),
			"cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "text": []byte("text"), "nothing": nil} {
			if _, err := h.RequestSigner().Sign(nil, msg, nil); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: it signs %s: %v", name, what, err)
			}
		}
	}
}

// FuzzAgent sends arbitrary bytes as requests to an agent's conversation: it
// ends or answers, and every answer is in its form.
func FuzzAgent(f *testing.F) {
	k, err := Generate(gm.Emmansun())
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []request{{Op: opKeys}, {Op: opSign, ID: k.Keys()[0].ID, Use: UseObject, Body: gm.Preimage("d", nil)},
		{Op: opDecrypt, ID: k.Keys()[1].ID, Body: []byte{0x30}}, {Op: opMAC, ID: k.Keys()[2].ID, Body: macInput(KindTag, []byte("e"), nil)}} {
		f.Add(canon.MustMarshal(q))
	}
	a := NewAgent(k, quiet())
	f.Fuzz(func(t *testing.T, body []byte) {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() {
			defer theirs.Close()
			done <- a.exchange(theirs)
		}()
		var r response
		_, err := ours.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
		if err == nil {
			err = readFrame(ours, maxFrame, &r)
		}
		_ = ours.Close()
		served := <-done
		var q request
		if valid := canon.Unmarshal(body, &q) == nil && q.Op >= opKeys && q.Op <= opMAC; valid != (err == nil && served == nil) || r.Code >= codeEnd {
			t.Errorf("a request that is valid: %v is answered by %v, %v, %v", valid, r.Code, err, served)
		}
	})
}

// FuzzOpen reads arbitrary files, with the plain hash made right as an attacker
// would: a keyring or one of the three errors.
func FuzzOpen(f *testing.F) {
	file, err := os.ReadFile("testdata/v2.xq")
	if err != nil {
		f.Fatal(err)
	}
	_, h, err := parse(gm.Emmansun(), file)
	if err != nil {
		f.Fatal(err)
	}
	l, err := unlock(gm.Emmansun(), passphrase(), h.Cost, h.Salt)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:len(file)-gm.HashSize-1])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) < gm.HashSize || len(file) > maxFile {
			return
		}
		got := &store{engine: gm.Emmansun()}
		err := got.decode(resum(file), func(h header) (*lock, error) {
			if h.Cost != l.cost || h.Salt != l.salt {
				return nil, ErrPassphrase // no price that a file names is paid here
			}
			return l, nil
		})
		switch {
		case err == nil && checkKeys(got.keys) != nil, err != nil && got.keys != nil,
			err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrPassphrase):
			t.Errorf("got %v", err)
		}
	})
}

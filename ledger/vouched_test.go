package ledger

import (
	"bytes"
	"sync/atomic"
	"testing"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// TestVouchedIsExact: only the very bytes and the very certificate are known
// again, once.
func TestVouchedIsExact(t *testing.T) {
	t.Parallel()
	p := paperRealm().parties["minzheng"]
	raw := p.frameOf(t, authorState{}, deniedEntry("minzheng", "zhujian", label("a")))
	f, err := parseFrame(gm.Emmansun(), raw)
	if err != nil {
		t.Fatal(err)
	}
	var v vouched
	v.add(raw, f)
	other := bytes.Clone(raw)
	other[len(other)-1] ^= 1
	if v.frame(other) != nil || v.frame(raw) != f || v.frame(raw) != nil || v.bytes != 0 {
		t.Errorf("frames are not known again by their bytes, once; %d bytes are counted", v.bytes)
	}
	if v.signature(f.hash, gm.Digest{1}) {
		t.Error("good under another certificate")
	}
	v.add(raw, f)
	if !v.signature(f.hash, f.Cert) || v.signature(f.hash, f.Cert) || v.signature(gm.Digest{1}, f.Cert) {
		t.Error("signatures are not known again by frame and certificate, once")
	}
	for i := range 3 * maxVouched {
		g := *f
		g.hash = gm.Emmansun().Sum([]byte{byte(i), byte(i >> 8)})
		v.add(append([]byte{byte(i), byte(i >> 8)}, make([]byte, 16<<10)...), &g)
	}
	if len(v.certs) > maxVouched || v.bytes > maxVouchedBytes {
		t.Errorf("%d frames, %d bytes are remembered", len(v.certs), v.bytes)
	}
}

// TestLeaderVerifiesOnce: the leader's verdict before it proposes is its verdict
// for the watermark; every other node gives its own.
func TestLeaderVerifiesOnce(t *testing.T) {
	t.Parallel()
	asked := map[exchange.Dept]*countedVerdicts{}
	config := func(c *Config) {
		e := &countedVerdicts{Engine: c.Engine}
		asked[c.Self], c.Engine = e, e
	}
	inWorld(t, worldConfig{config: config}, func(t *testing.T, w *world) {
		for _, e := range asked {
			e.n.Store(0)
		}
		if _, err := w.node("minzheng").answer("once"); err != nil {
			t.Fatal(err)
		}
		w.settle()
		for d, e := range asked {
			if n := e.n.Load(); n != 1 {
				t.Errorf("%s verifies the frame %d times", d, n)
			}
		}
	})
}

// countedVerdicts is an engine that counts what it is asked to verify.
type countedVerdicts struct {
	gm.Engine
	n atomic.Int64
}

func (e *countedVerdicts) Verify(key gm.PublicKey, msg []byte, sig gm.Signature) bool {
	e.n.Add(1)
	return e.Engine.Verify(key, msg, sig)
}

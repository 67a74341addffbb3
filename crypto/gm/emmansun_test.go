package gm

import (
	"crypto/rand"
	"sync"
	"testing"
)

// TestEngineForgetsKeys: a stranger who shows an engine many keys fills no memory,
// and every key verifies its own signatures before and after it is forgotten.
func TestEngineForgetsKeys(t *testing.T) {
	t.Parallel()
	e := Emmansun().(*emmansun)
	msg := []byte("a frame")
	first := newKey(t)
	sig, err := e.Sign(first, msg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range maxKeys/4 + 10 {
				key, err := GenerateKey(rand.Reader)
				if err != nil {
					t.Error(err)
					return
				}
				if e.public(key.Public()) == nil || !e.Verify(first.Public(), msg, sig) || e.Verify(key.Public(), msg, sig) {
					t.Error("a key stands for another")
				}
			}
		})
	}
	wg.Wait()
	if n := len(e.keys); n == 0 || n > maxKeys {
		t.Errorf("%d keys are remembered", n)
	}
	for key, p := range e.keys {
		if got, err := PublicKeyOf(p); err != nil || got != key {
			t.Fatalf("%v is remembered as %v: %v", key, got, err)
		}
	}
}

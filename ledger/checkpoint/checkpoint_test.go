package checkpoint

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"xinqiao/crypto/gm"
)

// signer is a department with its key in hand.
type signer struct {
	name string
	key  *gm.PrivateKey
}

func (s signer) Sign(domain string, body []byte) (gm.Signature, error) {
	return gm.Emmansun().Sign(s.key, gm.Preimage(domain, body))
}

func departments(t testing.TB, names ...string) ([]signer, map[string]gm.PublicKey) {
	t.Helper()
	var out []signer
	keys := map[string]gm.PublicKey{}
	for _, name := range names {
		k, err := gm.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, signer{name, k})
		keys[name] = k.Public()
	}
	return out, keys
}

func engines() []gm.Engine { return []gm.Engine{gm.Emmansun(), gm.Tjfoc()} }

var (
	at   = time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC)
	head = Checkpoint{Origin: "xinqiao.example/sm/2026", Size: 1234, Root: gm.Digest{1, 2, 3}}
)

func cosigned(t testing.TB, c Checkpoint, by ...signer) Note {
	t.Helper()
	n := Note{Checkpoint: c}
	for _, s := range by {
		sig, err := Cosign(s, gm.Emmansun(), s.name, s.key.Public(), at, c)
		if err != nil {
			t.Fatal(err)
		}
		n.Cosignatures = append(n.Cosignatures, sig)
	}
	return n
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	who, keys := departments(t, "minzheng", "zhujian", "gongan")
	n := cosigned(t, head, who...)
	got, err := Parse(n.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(n, got); diff != "" {
		t.Errorf("parsed note differs (-want +got):\n%s", diff)
	}
	valid, err := Verify(engines(), got, keys, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"gongan", "minzheng", "zhujian"}, valid); diff != "" {
		t.Error(diff)
	}
}

// Every changed byte of a note either makes it malformed or costs a signature.
func TestEveryFlippedByteIsNoticed(t *testing.T) {
	t.Parallel()
	who, keys := departments(t, "minzheng", "zhujian")
	text := cosigned(t, head, who...).Encode()
	for i := range text {
		for _, mask := range []byte{0x01, 0x20, 0x80} {
			bad := bytes.Clone(text)
			bad[i] ^= mask
			n, err := Parse(bad)
			if err != nil {
				if !errors.Is(err, ErrFormat) {
					t.Errorf("byte %d ^ %#x: %v, want ErrFormat", i, mask, err)
				}
				continue
			}
			if _, err := Verify([]gm.Engine{gm.Emmansun()}, n, keys, 2); !errors.Is(err, ErrQuorum) {
				t.Errorf("byte %d ^ %#x: still a quorum", i, mask)
			}
		}
	}
}

func TestMalformedNotes(t *testing.T) {
	t.Parallel()
	who, _ := departments(t, "minzheng")
	good := string(cosigned(t, head, who...).Encode())
	body := string(head.Body())
	for name, text := range map[string]string{
		"empty":             "",
		"no signature part": body,
		"leading zero":      replace(good, "\n1234\n", "\n01234\n"),
		"signed size":       replace(good, "\n1234\n", "\n+1234\n"),
		"huge size":         replace(good, "\n1234\n", "\n18446744073709551616\n"),
		"extension line":    replace(good, "\n\n", "\nextra\n\n"),
		"carriage return":   replace(good, "\n1234\n", "\r\n1234\n"),
		"no origin":         "\n" + good,
		"hyphen for dash":   replace(good, "— ", "- "),
		"two spaces":        replace(good, "— minzheng ", "— minzheng  "),
		"name in capitals":  replace(good, "— minzheng", "— Minzheng"),
		"not ended":         good[:len(good)-1],
		"empty last line":   good + "\n",
		"no padding":        replace(good, "=\n\n", "\n\n"),
		"oversize":          good + string(bytes.Repeat([]byte("x"), MaxNote)),
	} {
		if text == good {
			t.Errorf("%s: the case changes nothing", name)
		}
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func replace(s, old, new string) string {
	return string(bytes.Replace([]byte(s), []byte(old), []byte(new), 1))
}

func TestWhatDoesNotCount(t *testing.T) {
	t.Parallel()
	who, keys := departments(t, "minzheng", "zhujian", "gongan", "stranger")
	delete(keys, "stranger")
	mz, zj, ga, stranger := who[0], who[1], who[2], who[3]
	other := head
	other.Root[0] ^= 1
	for name, tc := range map[string]struct {
		note  Note
		valid []string
	}{
		"the same department twice": {cosigned(t, head, mz, mz, mz), []string{"minzheng"}},
		"a stranger":                {cosigned(t, head, mz, stranger), []string{"minzheng"}},
		"nobody":                    {Note{Checkpoint: head}, nil},
		"another's key under a name": {
			cosigned(t, head, signer{"minzheng", zj.key}, zj), []string{"zhujian"}},
		"signatures of another head": {
			Note{Checkpoint: head, Cosignatures: cosigned(t, other, mz, zj, ga).Cosignatures}, nil},
		"a changed time": {
			func() Note {
				n := cosigned(t, head, mz, zj)
				n.Cosignatures[0].Time = at.Add(time.Second)
				return n
			}(), []string{"zhujian"}},
		"a bad line before a good one of the same name": {
			func() Note {
				n := cosigned(t, head, mz, mz, zj)
				n.Cosignatures[0].Sig[0] ^= 1
				return n
			}(), []string{"minzheng", "zhujian"}},
	} {
		valid, err := Verify(engines(), tc.note, keys, 3)
		if !errors.Is(err, ErrQuorum) {
			t.Errorf("%s: %v, want ErrQuorum", name, err)
		}
		if diff := cmp.Diff(tc.valid, valid); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Zero values deny.
func TestNothingVerifiesByDefault(t *testing.T) {
	t.Parallel()
	who, keys := departments(t, "minzheng")
	n := cosigned(t, head, who...)
	for name, err := range map[string]error{
		"quorum of zero": second(Verify(engines(), n, keys, 0)),
		"no engine":      second(Verify(nil, n, keys, 1)),
		"no keys":        second(Verify(engines(), n, nil, 1)),
		"zero key":       second(Verify(engines(), n, map[string]gm.PublicKey{"minzheng": {}}, 1)),
	} {
		if !errors.Is(err, ErrQuorum) {
			t.Errorf("%s: %v, want ErrQuorum", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// yes is an engine that is wrong about every signature.
type yes struct{ gm.Engine }

func (yes) Verify(gm.PublicKey, []byte, gm.Signature) bool { return true }

func TestASplitVerdictIsRefused(t *testing.T) {
	t.Parallel()
	who, keys := departments(t, "minzheng", "zhujian")
	n := cosigned(t, head, who...)
	n.Cosignatures[1].Sig[5] ^= 1
	valid, err := Verify([]gm.Engine{yes{gm.Emmansun()}, gm.Tjfoc()}, n, keys, 2)
	if !errors.Is(err, ErrSplit) || !errors.Is(err, ErrQuorum) || len(valid) != 1 {
		t.Errorf("got %v, %v: want one valid, ErrSplit", valid, err)
	}
}

// The quorum is the least that makes two heads share an honest signer.
func TestQuorumsOverlapInAnHonestMember(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 100; n++ {
		q, f := Quorum(n), (n-1)/3
		if q > n {
			t.Errorf("%d members: quorum %d cannot be reached", n, q)
		}
		if 2*q-n <= f {
			t.Errorf("%d members: two quorums of %d may share only liars", n, q)
		}
		if 2*(q-1)-n > f {
			t.Errorf("%d members: quorum %d is more than needed", n, q)
		}
	}
	if Quorum(0) < 1 {
		t.Error("no members reach a quorum")
	}
}

func TestCosignRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	who, _ := departments(t, "minzheng")
	k := who[0]
	for name, try := range map[string]func() (Cosignature, error){
		"name with a line break": func() (Cosignature, error) {
			return Cosign(k, gm.Emmansun(), "a\nb", k.key.Public(), at, head)
		},
		"no origin": func() (Cosignature, error) {
			return Cosign(k, gm.Emmansun(), "minzheng", k.key.Public(), at, Checkpoint{})
		},
		"zero key": func() (Cosignature, error) {
			return Cosign(k, gm.Emmansun(), "minzheng", gm.PublicKey{}, at, head)
		},
	} {
		if _, err := try(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestAnyHeadRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := Checkpoint{
			Origin: rapid.StringMatching(`[a-z0-9./-]{1,40}`).Draw(rt, "origin"),
			Size:   rapid.Uint64().Draw(rt, "size"),
			Root:   gm.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "root")),
		}
		got, err := ParseBody(c.Body())
		if err != nil || got != c {
			rt.Fatalf("ParseBody(%q) = %v, %v", c.Body(), got, err)
		}
	})
}

// FuzzParse holds the parser to one form: what parses encodes to itself.
func FuzzParse(f *testing.F) {
	who, _ := departments(f, "minzheng", "zhujian")
	f.Add(cosigned(f, head, who...).Encode())
	f.Add(fmt.Appendf(nil, "%s\n", head.Body()))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(b)
		if err == nil && !bytes.Equal(n.Encode(), b) {
			t.Errorf("%q has another encoding", b)
		}
	})
}

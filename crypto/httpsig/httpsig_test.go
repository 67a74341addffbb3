package httpsig_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/gm"
	"xinqiao/crypto/httpsig"
)

var noon = time.Date(2026, 11, 26, 4, 0, 0, 0, time.UTC)

const (
	keyID = "counter"
	nonce = "0123456789abcdef0123456789abcdef"
	body  = `{"holder":"minzheng"}`
)

// signer is a key with its public one.
type signer struct {
	httpsig.Key
	*gm.PrivateKey
}

// fixed is the scalar 1..32, so that runs repeat.
func fixed(t testing.TB) signer {
	t.Helper()
	var scalar [32]byte
	for i := range scalar {
		scalar[i] = byte(i + 1)
	}
	key, err := gm.NewPrivateKey(scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return signer{httpsig.NewKey(gm.Emmansun(), key), key}
}

func verifier(key signer) *httpsig.Verifier {
	e := gm.Emmansun()
	return &httpsig.Verifier{Engine: e, Replays: httpsig.NewReplays(e, noon.Add(-time.Hour), 100),
		Host: func(host string) bool { return host == "node.example" || host == "::1" },
		Key:  func(id string) (gm.PublicKey, bool) { return key.Public(), id == keyID }}
}

func params() httpsig.Params {
	return httpsig.Params{KeyID: keyID, Created: noon, Expires: noon.Add(time.Minute), Nonce: nonce}
}

// signed returns a signed request as it stands on the wire, and as parsed again.
func signed(t testing.TB, key httpsig.Key, p httpsig.Params, method, target, content string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://node.example:8443"+target, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if content != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		r.Header.Set("Idempotency-Key", "key-0001")
	}
	if err := httpsig.Sign(gm.Emmansun(), key, p, r, []byte(content)); err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", "")
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(wire string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
}

// verify gives the wire form to v; a request that net/http does not parse never
// comes so far.
func verify(v *httpsig.Verifier, now time.Time, wire string) (httpsig.Verified, error) {
	r, err := parse(wire)
	if err != nil {
		return httpsig.Verified{}, &httpsig.Error{Kind: httpsig.Malformed, Msg: "net/http"}
	}
	return v.Verify(now, httpsig.Received(r, "https"), func() ([]byte, error) { return io.ReadAll(r.Body) })
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	for _, c := range []struct{ method, target, content string }{
		{"POST", "/api/v1/exchanges", body}, {"GET", "/api/v1/ledger/entries?limit=5&cursor=a%2Fb", ""}, {"POST", "/api/v1/x", ""},
	} {
		wire := signed(t, key, params(), c.method, c.target, c.content)
		v := verifier(key)
		got, err := verify(v, noon, wire)
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", c.method, c.target, err, wire)
		}
		if diff := cmp.Diff(httpsig.Verified{KeyID: keyID, Created: noon.Local(), Body: []byte(c.content)}, got); diff != "" {
			t.Error(diff)
		}
		if _, err := verify(v, noon.Add(time.Second), wire); httpsig.KindOf(err) != httpsig.Replayed {
			t.Errorf("a second time: %v", err)
		}
	}
}

// TestRefused changes one thing in a request that is otherwise good. Where the
// change happens before signing the signature holds, and the rest must refuse it.
func TestRefused(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	replace := func(old, new string) func(string) string {
		return func(wire string) string {
			if !strings.Contains(wire, old) {
				t.Fatalf("nothing to change: %q", old)
			}
			return strings.Replace(wire, old, new, 1)
		}
	}
	for name, c := range map[string]struct {
		want   httpsig.Kind
		change func(wire string) string
	}{
		"no signature":              {httpsig.Malformed, replace("Signature: ", "X-Signature: ")},
		"no signature input":        {httpsig.Malformed, replace("Signature-Input: ", "X-Signature-Input: ")},
		"another method":            {httpsig.Signature, replace("POST ", "PUT ")},
		"another query":             {httpsig.Signature, replace("?a=b", "?a=c")},
		"another path":              {httpsig.Signature, replace("/api/v1/exchanges", "/api/v1/authorities")},
		"another host of ours":      {httpsig.Signature, replace("Host: node.example:8443", "Host: [::1]:8443")},
		"another server":            {httpsig.Signature, replace("Host: node.example:8443", "Host: other.example:8443")},
		"another port":              {httpsig.Signature, replace("Host: node.example:8443", "Host: node.example")},
		"another type":              {httpsig.Signature, replace("application/json", "application/jsom")},
		"another body":              {httpsig.Digest, replace(`"minzheng"`, `"minzhenG"`)},
		"another idempotency key":   {httpsig.Signature, replace("key-0001", "key-0002")},
		"no idempotency key":        {httpsig.Coverage, replace("Idempotency-Key", "X-Idempotency-Key")},
		"digest left out":           {httpsig.Coverage, replace("Content-Digest", "X-Content-Digest")},
		"digest header twice":       {httpsig.Malformed, replace("Content-Digest", "Content-Digest: sm3=:AA==:\r\nContent-Digest")},
		"type twice":                {httpsig.Malformed, replace("Content-Type", "Content-Type: text/plain\r\nContent-Type")},
		"key twice":                 {httpsig.Malformed, replace("Idempotency-Key", "Idempotency-Key: key-0000\r\nIdempotency-Key")},
		"signature twice":           {httpsig.Malformed, replace("Signature: ", "Signature: sig1=:AA==:\r\nSignature: ")},
		"a signature after it":      {httpsig.Malformed, replace("\r\n\r\n", "\r\nSignature: sig1=:AA==:\r\n\r\n")},
		"an input after it":         {httpsig.Malformed, replace("\r\n\r\n", "\r\nSignature-Input: sig0=()\r\n\r\n")},
		"signatures joined":         {httpsig.Malformed, replace("Signature: ", "Signature: sig0=:AA==:, ")},
		"inputs joined":             {httpsig.Malformed, replace("Signature-Input: ", "Signature-Input: sig0=(), ")},
		"input twice":               {httpsig.Malformed, replace("Signature-Input: ", "Signature-Input: sig0=()\r\nSignature-Input: ")},
		"labels differ":             {httpsig.Malformed, replace("Signature: sig1", "Signature: sig2")},
		"another key id":            {httpsig.UnknownKey, replace(`keyid="counter"`, `keyid="portal"`)},
		"empty key id":              {httpsig.Malformed, replace(`keyid="counter"`, `keyid=""`)},
		"an alg":                    {httpsig.Malformed, replace(`;keyid=`, `;alg="sm2";keyid=`)},
		"another tag":               {httpsig.Malformed, replace(httpsig.Tag, "xinqiao-v2")},
		"no tag":                    {httpsig.Malformed, replace(`;tag="`+httpsig.Tag+`"`, "")},
		"no nonce":                  {httpsig.Malformed, replace(`;nonce="`+nonce+`"`, "")},
		"no created":                {httpsig.Malformed, replace(fmt.Sprintf(";created=%d", noon.Unix()), "")},
		"created as text":           {httpsig.Malformed, replace(fmt.Sprintf("created=%d", noon.Unix()), fmt.Sprintf("created=%q", "1"))},
		"created twice":             {httpsig.Malformed, replace(";created=", ";created=1;created=")},
		"short nonce":               {httpsig.Malformed, replace(nonce, nonce[:15])},
		"long nonce":                {httpsig.Malformed, replace(nonce, strings.Repeat("a", 65))},
		"a space more":              {httpsig.Malformed, replace(`("@method" `, `("@method"  `)},
		"component parameter":       {httpsig.Malformed, replace(`"@method" `, `"@method";req `)},
		"component twice":           {httpsig.Malformed, replace(`"@method" `, `"@method" "@method" `)},
		"component unknown":         {httpsig.Malformed, replace(`"@method" `, `"@method" "@status" `)},
		"component in upper case":   {httpsig.Malformed, replace(`"@method" `, `"@method" "Date" `)},
		"covers itself":             {httpsig.Malformed, replace(`"@method" `, `"@method" "signature" `)},
		"covers what is not there":  {httpsig.Coverage, replace(`"@method" `, `"@method" "date" `)},
		"method not covered":        {httpsig.Coverage, replace(`"@method" `, "")},
		"target not covered":        {httpsig.Coverage, replace(`"@target-uri" `, "")},
		"authority not covered":     {httpsig.Coverage, replace(`"@authority" `, "")},
		"chunked without a digest":  {httpsig.Coverage, replace("Content-Digest: ", "Transfer-Encoding: chunked\r\nX-Digest: ")},
		"an absolute target":        {httpsig.Malformed, replace("POST /", "POST https://node.example:8443/")},
		"an authority with a user":  {httpsig.Malformed, replace("Host: node", "Host: a@node")},
		"an authority without host": {httpsig.Malformed, replace("Host: node.example:8443", "Host: :8443")},
		"a signature in raw form":   {httpsig.Malformed, replace("Signature: sig1=:ME", "Signature: sig1=:AE")},
	} {
		wire := signed(t, key, params(), "POST", "/api/v1/exchanges?a=b", body)
		v := verifier(key)
		if _, err := verify(v, noon, c.change(wire)); httpsig.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if n := v.Replays.Kept(); n != 0 {
			t.Errorf("%s: a refused request left %d nonces", name, n)
		}
		if _, err := verify(v, noon, wire); err != nil {
			t.Errorf("%s: the request itself: %v", name, err)
		}
	}
	none := "GET / HTTP/1.1\r\nHost: node.example\r\n\r\n"
	if _, err := verify(verifier(key), noon, none); httpsig.KindOf(err) != httpsig.Unsigned {
		t.Errorf("unsigned: %v", err)
	}
}

// TestSignedButRefused has a holder of the key sign what the profile refuses.
func TestSignedButRefused(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	for name, c := range map[string]struct {
		want      httpsig.Kind
		head, dig string
	}{
		"a host that is not ours":    {httpsig.Signature, "Host: other.example", httpsig.ContentDigest(gm.Emmansun(), []byte(body))},
		"two digests":                {httpsig.Digest, "Host: node.example", httpsig.ContentDigest(gm.Emmansun(), []byte(body)) + ", sha-256=:AA==:"},
		"another hash":               {httpsig.Digest, "Host: node.example", strings.Replace(httpsig.ContentDigest(gm.Emmansun(), []byte(body)), "sm3", "md5", 1)},
		"a digest of something else": {httpsig.Digest, "Host: node.example", httpsig.ContentDigest(gm.Emmansun(), nil)},
		"good":                       {0, "Host: NODE.example:443", httpsig.ContentDigest(gm.Emmansun(), []byte(body))},
	} {
		input := fmt.Sprintf(`x=("content-digest" "@target-uri" "date" "content-type" "@authority" "@method");tag="xinqiao-v1";keyid=%q;nonce=%q;expires=%d;created=%d`,
			keyID, nonce, noon.Unix()+300, noon.Unix())
		head := "POST /x HTTP/1.1\r\n" + c.head + "\r\nDate: today\r\nContent-Type: \tapplication/json \r\nContent-Digest: " + c.dig + "\r\nContent-Length: 21\r\n"
		msg, err := httpsig.Base(received(t, head+"\r\n"+body), input)
		if err != nil {
			t.Fatal(name, err)
		}
		der, err := key.Sign([]byte(msg))
		if err != nil {
			t.Fatal(err)
		}
		wire := head + "Signature-Input: " + input + "\r\nSignature: " + httpsig.FormatBytes("x", der) + "\r\n\r\n" + body
		if _, err := verify(verifier(key), noon, wire); httpsig.KindOf(err) != c.want || (c.want == 0) != (err == nil) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	s := time.Second
	for name, c := range map[string]struct {
		created, expires time.Duration // from noon
		now              time.Duration
		want             httpsig.Kind
	}{
		"at once":                {0, 300 * s, 0, 0},
		"a clock that runs slow": {60 * s, 120 * s, 0, 0},
		"from the future":        {61 * s, 120 * s, 0, httpsig.Expired},
		"at its end":             {0, 60 * s, 60 * s, 0},
		"after its end":          {0, 60 * s, 60*s + 1, httpsig.Expired},
		"five minutes old":       {0, 300 * s, 300 * s, 0},
		"older":                  {0, 300 * s, 301 * s, httpsig.Expired},
		"no life at all":         {0, 0, 0, 0},
	} {
		p := params()
		p.Created, p.Expires = noon.Add(c.created), noon.Add(c.expires)
		wire := signed(t, key, p, "GET", "/", "")
		if _, err := verify(verifier(key), noon.Add(c.now), wire); httpsig.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	for name, times := range map[string][2]int64{
		"good for too long": {0, 301}, "ends before it begins": {0, -1}, "far away": {0, 999_999_999_999_999 - noon.Unix()},
		"ends before it begins, in the future": {50, 10},
		"long ago":                             {-noon.Unix(), 300}, "before the epoch": {-999_999_999_999_999 - noon.Unix(), 0},
	} {
		wire := signed(t, key, params(), "GET", "/", "")
		wire = strings.Replace(wire, fmt.Sprintf("created=%d;expires=%d", noon.Unix(), noon.Unix()+60),
			fmt.Sprintf("created=%d;expires=%d", noon.Unix()+times[0], noon.Unix()+times[1]), 1)
		if _, err := verify(verifier(key), noon, wire); httpsig.KindOf(err) != httpsig.Expired {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBodyIsReadLast shows that nobody without the key makes a server read.
func TestBodyIsReadLast(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	other, err := gm.NewPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(signed(t, httpsig.NewKey(gm.Emmansun(), other), params(), "POST", "/", body))
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(key)
	if _, err := v.Verify(noon, httpsig.Received(r, "https"), func() ([]byte, error) { t.Error("read"); return nil, nil }); httpsig.KindOf(err) != httpsig.Signature {
		t.Error(err)
	}
	if r, err = parse(signed(t, key, params(), "GET", "/", "")); err != nil {
		t.Fatal(err)
	}
	// Whoever fills in the Message was wrong about the body.
	if _, err := v.Verify(noon, httpsig.Received(r, "https"), func() ([]byte, error) { return []byte(body), nil }); httpsig.KindOf(err) != httpsig.Coverage {
		t.Errorf("a body that nobody signed: %v", err)
	}
	broken := errors.New("broke off")
	if r, err = parse(signed(t, key, params(), "POST", "/", body)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(noon, httpsig.Received(r, "https"), func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) || v.Replays.Kept() != 0 {
		t.Errorf("%v, %d nonces", err, v.Replays.Kept())
	}
}

// TestTenThousandChanges changes one byte of a signed request at random. What
// net/http reads as the same request is no change: the case of a header's name
// and of the host, the blank after a colon, the protocol's minor version.
func TestTenThousandChanges(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	wire := signed(t, key, params(), "POST", "/api/v1/exchanges?a=b", body)
	view := func(wire string) string {
		r, err := parse(wire)
		if err != nil {
			return "unreadable"
		}
		raw, err := io.ReadAll(r.Body)
		return fmt.Sprintf("%s %s %s %v %s %v", r.Method, strings.ToLower(r.Host), r.RequestURI, r.Header, raw, err)
	}
	original := view(wire)
	rng := rand.New(rand.NewPCG(9421, 3))
	kinds := map[httpsig.Kind]int{}
	for done := 0; done < 10_000; {
		changed := []byte(wire)
		changed[rng.IntN(len(wire))] ^= byte(1 + rng.IntN(255))
		if view(string(changed)) == original {
			continue
		}
		done++
		v := verifier(key)
		_, err := verify(v, noon, string(changed))
		if err == nil {
			t.Fatalf("accepted:\n%q\n%q", wire, changed)
		}
		if v.Replays.Kept() != 0 {
			t.Fatal("a refused request left its nonce")
		}
		kinds[httpsig.KindOf(err)]++
	}
	t.Logf("0 of 10000 accepted: %v", kinds)
	for _, k := range []httpsig.Kind{httpsig.Signature, httpsig.Digest, httpsig.Malformed, httpsig.Coverage} {
		if kinds[k] == 0 {
			t.Errorf("no change was refused as %s: %v", k, kinds)
		}
	}
}

func TestReplaysAreBounded(t *testing.T) {
	t.Parallel()
	r := httpsig.NewReplays(gm.Emmansun(), noon, 3)
	add := func(now time.Duration, key, nonce string, expires time.Duration) httpsig.Kind {
		return httpsig.KindOf(r.Add(noon.Add(now), key, nonce, noon, noon.Add(expires)))
	}
	s := time.Second
	for i, c := range []struct {
		now        time.Duration
		key, nonce string
		expires    time.Duration
		want       httpsig.Kind
	}{
		{0, "a", "1", 10 * s, 0},
		{0, "a", "1", 20 * s, httpsig.Replayed}, // the same nonce in another signature
		{0, "a", "2", 10 * s, 0},
		{0, "a", "3", 20 * s, 0},
		{0, "a", "4", 20 * s, httpsig.Later},
		{0, "b", "4", 20 * s, 0}, // another key has room of its own
		{10 * s, "a", "4", 20 * s, httpsig.Later},
		{10 * s, "a", "1", 20 * s, httpsig.Replayed}, // good to the last moment
		{11 * s, "a", "4", 20 * s, 0},
		{5 * s, "a", "1", 10 * s, httpsig.Expired}, // forgotten, and the clock set back
		{11 * s, "a", "3", 20 * s, httpsig.Replayed},
	} {
		if got := add(c.now, c.key, c.nonce, c.expires); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
	if n := r.Kept(); n != 3 {
		t.Errorf("%d nonces are kept, want 3", n)
	}
	err := r.Add(noon, "c", "1", noon.Add(-time.Second), noon.Add(time.Minute))
	if httpsig.KindOf(err) != httpsig.Later {
		t.Errorf("from before the start: %v", err)
	}
}

// TestOneOfMany gives the same request to a verifier from many sides at once.
func TestOneOfMany(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	v := verifier(key)
	var accepted, replayed atomic.Int32
	var wg sync.WaitGroup
	for i := range 4 {
		p := params()
		p.Nonce = fmt.Sprintf("%016d", i)
		wire := signed(t, key, p, "POST", "/", body)
		for range 8 {
			wg.Go(func() {
				switch _, err := verify(v, noon, wire); httpsig.KindOf(err) {
				case 0:
					accepted.Add(1)
				case httpsig.Replayed:
					replayed.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if accepted.Load() != 4 || replayed.Load() != 28 {
		t.Errorf("%d accepted, %d replayed; want 4 and 28", accepted.Load(), replayed.Load())
	}
}

func TestKeyPrintsRedacted(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	withheld := key.PrivateKey.String()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, key.Key); got != withheld {
			t.Errorf("%s: %s", format, got)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	key := fixed(t)
	for name, change := range map[string]func(*httpsig.Params, *http.Request){
		"short nonce":  func(p *httpsig.Params, _ *http.Request) { p.Nonce = "abc" },
		"key id":       func(p *httpsig.Params, _ *http.Request) { p.KeyID = "a\nb" },
		"no key id":    func(p *httpsig.Params, _ *http.Request) { p.KeyID = "" },
		"long life":    func(p *httpsig.Params, _ *http.Request) { p.Expires = noon.Add(time.Hour) },
		"no type":      func(_ *httpsig.Params, r *http.Request) { r.Header.Del("Content-Type") },
		"two types":    func(_ *httpsig.Params, r *http.Request) { r.Header.Add("Content-Type", "text/plain") },
		"a line break": func(_ *httpsig.Params, r *http.Request) { r.Header.Set("Idempotency-Key", "a\n\"@method\": GET") },
		"not ASCII":    func(_ *httpsig.Params, r *http.Request) { r.Header.Set("Idempotency-Key", "键") },
		"a scheme":     func(_ *httpsig.Params, r *http.Request) { r.URL.Scheme = "ftp" },
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://node.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		p := params()
		change(&p, r)
		if err := httpsig.Sign(gm.Emmansun(), key, p, r, []byte(body)); httpsig.KindOf(err) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if httpsig.Carries(r.Header) {
			t.Errorf("%s: half a signature was left", name)
		}
	}
}

// TestParse holds the parser to the subset.
func TestParse(t *testing.T) {
	t.Parallel()
	for field, good := range map[string]bool{
		`a=()`: true, `*a.b-c_d*1=();b=0`: true, `a=("b" "c");d=-12;e="f"`: true, `a=("\\" "\"");k="\"\\"`: true, `a=();b=123456789012345`: true,
		``: false, `a`: false, `a=`: false, `=()`: false, `A=()`: false, `1=()`: false, ` a=()`: false, `a=() `: false, `a=(`: false, `a=("b`: false,
		`a=("b"  "c")`: false, `a=( "b")`: false, `a=("b" )`: false, `a=("b""c")`: false, `a=("\a")`: false, `a=("\`: false, "a=(\"\x7f\")": false,
		"a=(\"\x01\")": false, `a=("é")`: false, `a=("b";req)`: false, `a=(b)`: false, `a=(), b=()`: false, `a=();`: false, `a=();b`: false, `a=();b=`: false,
		`a=();b=c`: false, `a=();b=1.0`: false, `a=();b=?1`: false, `a=();b=:AA==:`: false, `a=();b=-0`: false, `a=();b=01`: false, `a=();b=-`: false,
		`a=();b=1-`: false, `a=();b=1234567890123456`: false, `a=(); b=1`: false, `a=();B=1`: false, `a="b"`: false,
		`a=(` + strings.Repeat(`"b" `, 32) + `"b")`: false, `a=()` + strings.Repeat(`;b=1`, 17): false, `a=("` + strings.Repeat("b", 4096) + `")`: false,
	} {
		if got, err := httpsig.ParseInput(field); (err == nil) != good || good && got != field || !good && httpsig.KindOf(err) != httpsig.Malformed {
			t.Errorf("%q: %q, %v", field, got, err)
		}
	}
	for field, good := range map[string]bool{
		`a=::`: true, `a=:AA==:`: true, `a=:+/8=:`: true, `a=:AB==:`: false, `a=:AA:`: false, `a=:AA=:`: false, `a=:-_8=:`: false, "a=:AA\n==:": false,
		`a=:AA==`: false, `a=:AA==:;b`: false, `a=:AA==:, b=:AA==:`: false, `:AA==:`: false, `a=AA==`: false, ``: false, `a=:` + strings.Repeat("A", 4096) + `:`: false,
	} {
		if got, ok := httpsig.ParseBytes(field); ok != good || good && got != field {
			t.Errorf("%q: %q, %t", field, got, ok)
		}
	}
}

// TestOpenSSL signs a base with the openssl program, and has it verify ours.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	key := fixed(t)
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), openssl, append([]string{"pkeyutl", "-rawin", "-digest", "sm3", "-pkeyopt",
			"distid:" + gm.DefaultUID}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	private, public := file("key.pem", gm.MarshalPrivatePEM(key.PrivateKey)), file("public.pem", gm.MarshalPublicPEM(key.Public()))
	input := fmt.Sprintf(`sig1=("@method" "@authority" "@target-uri");created=%d;expires=%d;nonce=%q;keyid=%q;tag=%q`,
		noon.Unix(), noon.Unix()+60, nonce, keyID, httpsig.Tag)
	head := "GET /x?y HTTP/1.1\r\nHost: node.example:8443\r\n"
	msg, err := httpsig.Base(received(t, head+"\r\n"), input)
	if err != nil {
		t.Fatal(err)
	}
	in, theirs := file("base", []byte(msg)), filepath.Join(dir, "theirs")
	run("-sign", "-inkey", private, "-in", in, "-out", theirs)
	der, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	wire := head + "Signature-Input: " + input + "\r\nSignature: " + httpsig.FormatBytes("sig1", der) + "\r\n\r\n"
	if _, err := verify(verifier(key), noon, wire); err != nil {
		t.Errorf("openssl's signature: %v", err)
	}
	ours, err := key.Sign([]byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	run("-verify", "-pubin", "-inkey", public, "-in", in, "-sigfile", file("ours", ours))
}

// BenchmarkVerify verifies a question of the usual size, parsed already.
func BenchmarkVerify(b *testing.B) {
	key := fixed(b)
	e := gm.Emmansun()
	v := verifier(key)
	v.Replays = httpsig.NewReplays(e, noon, 1<<30)
	content := []byte(strings.Repeat("x", 500))
	messages := make([]httpsig.Message, b.N)
	for i := range messages {
		p := params()
		p.Nonce = fmt.Sprintf("%016d", i)
		r, err := parse(signed(b, key, p, "POST", "/api/v1/exchanges", string(content)))
		if err != nil {
			b.Fatal(err)
		}
		messages[i] = httpsig.Received(r, "https")
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, m := range messages {
		if _, err := v.Verify(noon, m, func() ([]byte, error) { return content, nil }); err != nil {
			b.Fatal(err)
		}
	}
}

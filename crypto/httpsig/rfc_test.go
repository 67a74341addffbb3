package httpsig_test

import (
	"bufio"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"xinqiao/crypto/httpsig"
)

// received parses what stands on the wire as net/http's server does.
func received(t testing.TB, wire string) httpsig.Message {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		t.Fatal(err)
	}
	return httpsig.Received(r, "https")
}

// testRequest is that of RFC 9421, appendix B.2.
const testRequest = "POST /foo?param=Value&Pet=dog HTTP/1.1\r\nHost: example.com\r\nDate: Tue, 20 Apr 2021 02:07:55 GMT\r\n" +
	"Content-Type: application/json\r\nContent-Digest: " + rfcDigest + "\r\nContent-Length: 18\r\n\r\n{\"hello\": \"world\"}"

const rfcDigest = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"

// TestRFC9421Examples builds the published signature bases and then checks the
// published signatures over them, so that an error in copying a text shows.
// B.2.2 needs @query-param and B.2.4 is a response; this profile has neither.
func TestRFC9421Examples(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		input, base, signature string
		verify                 func(testing.TB, []byte, []byte) bool
	}{
		"2.5": {`sig1=("@method" "@authority" "@path" "content-digest" "content-length" "content-type");created=1618884473;keyid="test-key-rsa-pss"`,
			`"@method": POST
"@authority": example.com
"@path": /foo
"content-digest": ` + rfcDigest + `
"content-length": 18
"content-type": application/json
"@signature-params": ("@method" "@authority" "@path" "content-digest" "content-length" "content-type");created=1618884473;keyid="test-key-rsa-pss"`,
			"HIbjHC5rS0BYaa9v4QfD4193TORw7u9edguPh0AW3dMq9WImrlFrCGUDih47vAxi4L2YRZ3XMJc1uOKk/J0ZmZ+wcta4nKIgBkKq0rM9hs3CQyxXGxHLMCy8uqK488o+" +
				"9jrptQ+xFPHK7a9sRL1IXNaagCNN3ZxJsYapFj+JXbmaI5rtAdSfSvzPuBCh+ARHBmWuNo1UzVVdHXrl8ePL4cccqlazIJdC4QEjrF+Sn4IxBQzTZsL9y9TP5FsZYzHv" +
				"DqbInkTNigBcE9cKOYNFCn4D/WM7F6TNuZO9EgtzepLWcjTymlHzK7aXq6Am6sfOrpIC49yXjj3ae6HRalVc/g==", pss},
		"B.2.1": {`sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
			`"@signature-params": ();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
			"d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrW" +
				"H5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WS" +
				"b/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==", pss},
		"B.2.3": {`sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
			`"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@query": ?param=Value&Pet=dog
"@authority": example.com
"content-type": application/json
"content-digest": ` + rfcDigest + `
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
			"bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DF" +
				"ll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8" +
				"Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==", pss},
		"B.2.5": {`sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
			`"date": Tue, 20 Apr 2021 02:07:55 GMT
"@authority": example.com
"content-type": application/json
"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`,
			"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=", mac},
		"B.2.6": {`sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
			`"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
			"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==", edwards},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := httpsig.Base(received(t, testRequest), c.input)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.base, got); diff != "" {
				t.Errorf("signature base (-RFC +here):\n%s", diff)
			}
			sig := decoded(t, c.signature)
			if !c.verify(t, []byte(got), sig) {
				t.Error("the RFC's signature is not over the base that was built")
			}
			if c.verify(t, []byte(got+" "), sig) {
				t.Error("the check accepts another base")
			}
		})
	}
}

// TestRFC9421Components builds the values of sections 2.1 and 2.2.
func TestRFC9421Components(t *testing.T) {
	t.Parallel()
	m := received(t, "GET /path?param=value&foo=bar&baz=bat%2Dman HTTP/1.1\r\nHost: www.Example.com:443\r\nDate: Tue, 20 Apr 2021 02:07:56 GMT\r\n"+
		"X-OWS-Header:   Leading and trailing whitespace.   \r\nX-Obs-Fold-Header: Obsolete\r\n    line folding.\r\n"+
		"Cache-Control: max-age=60\r\nCache-Control:    must-revalidate\r\nExample-Dict:  a=1,    b=2;x=1;y=2,   c=(a   b   c)\r\nX-Empty-Header:\r\n\r\n")
	for name, want := range map[string]string{
		"date": "Tue, 20 Apr 2021 02:07:56 GMT", "x-ows-header": "Leading and trailing whitespace.", "x-obs-fold-header": "Obsolete line folding.",
		"cache-control": "max-age=60, must-revalidate", "example-dict": "a=1,    b=2;x=1;y=2,   c=(a   b   c)", "x-empty-header": "",
		"@method": "GET", "@authority": "www.example.com", "@path": "/path", "@query": "?param=value&foo=bar&baz=bat%2Dman",
		"@target-uri": "https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman",
	} {
		got, err := httpsig.Base(m, `sig1=("`+name+`")`)
		if want := `"` + name + `": ` + want + "\n" + `"@signature-params": ("` + name + `")`; err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for wire, want := range map[string]string{
		"GET /path? HTTP/1.1\r\nHost: www.example.com\r\n\r\n": "?", // the RFC's section 2.2.7 for a query that is empty
		"GET /path HTTP/1.1\r\nHost: www.example.com\r\n\r\n":  "?", // and absent
	} {
		if got, err := httpsig.Base(received(t, wire), `sig1=("@query")`); err != nil || !strings.HasPrefix(got, `"@query": `+want+"\n") {
			t.Errorf("%q: %q, %v", wire, got, err)
		}
	}
}

func decoded(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pss verifies with test-key-rsa-pss (B.1.2).
func pss(t testing.TB, msg, sig []byte) bool {
	block, _ := pem.Decode([]byte(`-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
`))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(msg)
	return rsa.VerifyPSS(key.(*rsa.PublicKey), crypto.SHA512, sum[:], sig, &rsa.PSSOptions{SaltLength: 64}) == nil
}

// mac verifies with test-shared-secret (B.1.5).
func mac(t testing.TB, msg, sig []byte) bool {
	h := hmac.New(sha256.New, decoded(t, "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="))
	h.Write(msg)
	return hmac.Equal(h.Sum(nil), sig)
}

// edwards verifies with test-key-ed25519 (B.1.4).
func edwards(t testing.TB, msg, sig []byte) bool {
	return ed25519.Verify(decoded(t, "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="), msg, sig)
}

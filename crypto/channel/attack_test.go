package channel_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tjfoc/gmsm/gmtls"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
)

// Bytes as an attacker writes them.

func record(typ byte, payload []byte) []byte { return versioned(typ, 0x0101, payload) }

func versioned(typ byte, version uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{typ}, version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

func message(typ byte, body []byte) []byte {
	n := len(body)
	return append([]byte{typ, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func handshake(typ byte, body []byte) []byte { return record(22, message(typ, body)) }

func clientHello(version uint16, session []byte, suites []uint16, tail ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, version)
	b = append(b, make([]byte, 32)...)
	b = append(append(b, byte(len(session))), session...)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(suites)))
	for _, s := range suites {
		b = binary.BigEndian.AppendUint16(b, s)
	}
	return append(append(b, 1, 0), tail...)
}

func goodHello() []byte { return handshake(1, clientHello(0x0101, nil, []uint16{0xe013})) }

func serverHello(version uint16, session []byte, suite uint16, tail ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, version)
	b = append(b, make([]byte, 32)...)
	b = append(append(b, byte(len(session))), session...)
	b = binary.BigEndian.AppendUint16(b, suite)
	return append(append(b, 0), tail...)
}

func certificates(certs ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, c := range certs {
			b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(c) })
		}
	})
	return b.BytesOrPanic()
}

func prefixed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// keyExchange is a ClientKeyExchange with any point in it.
func keyExchange(x, y *big.Int, hash, secret []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(x)
		b.AddASN1BigInt(y)
		b.AddASN1OctetString(hash)
		b.AddASN1OctetString(secret)
	})
	return prefixed(b.BytesOrPanic())
}

func rsaCertificate(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "minzheng"}, DNSNames: []string{cert.Name("minzheng")},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// packetsAgainstListener are attacks that need no key. member is somebody's public
// certificates, which whoever has talked to a member knows.
// target is the listener's department.
func packetsAgainstListener(t testing.TB, member, target party) map[string][][]byte {
	t.Helper()
	secret, err := gm.Emmansun().Encrypt(target.enc.Public(), make([]byte, 48))
	if err != nil {
		t.Fatal(err)
	}
	hello := goodHello()
	certs := handshake(11, certificates(member.signCert, member.encCert))
	zero32, zero48 := make([]byte, 32), make([]byte, 48)
	one := big.NewInt(1)
	huge := new(big.Int).Lsh(one, 300)
	return map[string][][]byte{
		"first packet with suite 0xe011": {handshake(1, clientHello(0x0101, nil, []uint16{0xe011}))},
		"suite 0xe011 before ours":       {handshake(1, clientHello(0x0101, nil, []uint16{0xe011, 0xe013}))},
		"suite 0xe011 behind ours":       {handshake(1, clientHello(0x0101, nil, []uint16{0xe013, 0xe011}))},
		"client version 0x0200": {handshake(1, clientHello(0x0200, nil, []uint16{0xe013})),
			versioned(22, 0x0200, certs[5:]), versioned(22, 0x0200, message(16, prefixed(secret)))},
		"client version 0x0303":           {handshake(1, clientHello(0x0303, nil, []uint16{0xe013}))},
		"session id":                      {handshake(1, clientHello(0x0101, zero32, []uint16{0xe013}))},
		"session ticket":                  {handshake(1, clientHello(0x0101, nil, []uint16{0xe013}, 0, 8, 0, 35, 0, 4, 1, 2, 3, 4))},
		"no suites":                       {handshake(1, clientHello(0x0101, nil, nil))},
		"empty hello":                     {handshake(1, nil)},
		"empty record":                    {record(22, nil)},
		"truncated hello":                 {hello[:20]},
		"garbage":                         {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		"SSLv2":                           {{0x80, 0x2e, 1, 0, 2, 0, 0, 0}},
		"TLS record version":              {versioned(22, 0x0301, hello[5:])},
		"oversize record":                 {{22, 1, 1, 0xff, 0xff}, make([]byte, 0xffff)},
		"oversize message":                {record(22, []byte{1, 0xff, 0xff, 0xff})},
		"data first":                      {record(23, []byte("hello"))},
		"change cipher spec first":        {record(20, []byte{1})},
		"alert first":                     {record(21, []byte{1, 0})},
		"finished first":                  {handshake(20, make([]byte, 12))},
		"hello request":                   {handshake(0, nil)},
		"two hellos":                      {hello, hello},
		"no certificates":                 {hello, handshake(11, certificates())},
		"one certificate":                 {hello, handshake(11, certificates(member.signCert))},
		"three certificates":              {hello, handshake(11, certificates(member.signCert, member.encCert, member.encCert))},
		"empty certificate":               {hello, handshake(11, certificates(nil, nil))},
		"certificate list longer than it": {hello, handshake(11, []byte{0xff, 0xff, 0xff, 0, 0, 1, 0})},
		"garbage certificate":             {hello, handshake(11, certificates(zero48, zero48))},
		"certificates skipped":            {hello, handshake(16, keyExchange(one, one, zero32, zero48))},
		"key exchange of one byte":        {hello, certs, handshake(16, []byte{0})},
		"key exchange of no byte":         {hello, certs, handshake(16, nil)},
		"key exchange with short hash":    {hello, certs, handshake(16, keyExchange(one, one, zero32[:8], zero48))},
		"key exchange with long secret":   {hello, certs, handshake(16, keyExchange(one, one, zero32, zero48[:16]))},
		"key exchange with huge number":   {hello, certs, handshake(16, keyExchange(huge, one, zero32, zero48))},
		"key exchange with negative":      {hello, certs, handshake(16, keyExchange(big.NewInt(-1), one, zero32, zero48))},
		"key exchange, high length byte":  {hello, certs, handshake(16, append([]byte{1}, keyExchange(one, one, zero32, zero48)[1:]...))},
		"key exchange off the curve":      {hello, certs, handshake(16, keyExchange(one, one, zero32, zero48))},
		"forged proof of the key":         {hello, certs, handshake(16, prefixed(secret)), handshake(15, prefixed(gm.Signature{31: 1, 63: 1}.ASN1()))},
		"proof of the key skipped": {hello, certs, handshake(16, keyExchange(one, one, zero32, zero48)), record(20, []byte{1}),
			record(22, make([]byte, 80))},
	}
}

// send plays packets and returns what the other side answers until it hangs up.
// Some packets leave the other side waiting; closing our half ends that.
func send(t testing.TB, addr string, packets [][]byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, p := range packets {
		c.Write(p) // it may have hung up already
	}
	c.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if errors.Is(err, net.ErrClosed) || isTimeout(err) {
		t.Fatalf("the peer does not hang up: %v", err)
	}
	return answer
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestListenerSurvivesPackets(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	target := x.party(t, "minzheng")
	l := listen(t, x.endpoint(t, target))
	member := x.party(t, "zhujian")
	foundConn := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if c.(*channel.Conn).Peer().Dept != "gongan" {
				foundConn <- c
				return
			}
			go io.Copy(c, c)
		}
	}()
	good := x.endpoint(t, x.party(t, "gongan"))
	for name, packets := range packetsAgainstListener(t, member, target) {
		answer := send(t, l.Addr().String(), packets)
		if !bytes.Equal(packets[0], goodHello()) && len(answer) > 0 && answer[0] == 22 {
			t.Errorf("%s: the hello was answered with %x", name, answer)
		}
		select {
		case c := <-foundConn:
			t.Fatalf("%s: accepted as %+v", name, c.(*channel.Conn).Peer())
		default:
		}
	}
	ping(t, good, l.Addr().String(), "minzheng")
}

// TestKeyExchangeIsNoOracle is trap 13: a point off the curve must look like any
// other wrong ciphertext, or the decryption key leaks bit by bit.
func TestKeyExchangeIsNoOracle(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	p := x.party(t, "minzheng")
	l := listen(t, x.endpoint(t, p))
	go echo(l)
	member := x.party(t, "zhujian")
	point := newKey(t).Public().Bytes()
	px, py := new(big.Int).SetBytes(point[1:33]), new(big.Int).SetBytes(point[33:])
	good, err := gm.Emmansun().Encrypt(p.enc.Public(), make([]byte, 48))
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string][]byte{}
	for name, body := range map[string][]byte{
		"off the curve": keyExchange(px, new(big.Int).Xor(py, big.NewInt(1)), make([]byte, 32), make([]byte, 48)),
		"wrong hash":    keyExchange(px, py, make([]byte, 32), make([]byte, 48)),
		"zero point":    keyExchange(new(big.Int), new(big.Int), make([]byte, 32), make([]byte, 48)),
	} {
		packets := [][]byte{goodHello(), handshake(11, certificates(member.signCert, member.encCert)), handshake(16, body)}
		answers[name] = lastRecord(t, send(t, l.Addr().String(), packets))
	}
	for name, got := range answers {
		if !bytes.Equal(got, record(21, []byte{2, 40})) {
			t.Errorf("%s: answered with %x", name, got)
		}
	}
	// Negative control: a genuine ciphertext gets further, to the missing proof.
	packets := [][]byte{goodHello(), handshake(11, certificates(member.signCert, member.encCert)), handshake(16, prefixed(good)),
		handshake(15, prefixed(gm.Signature{31: 1, 63: 1}.ASN1()))}
	if got := lastRecord(t, send(t, l.Addr().String(), packets)); bytes.Equal(got, record(21, []byte{2, 40})) {
		t.Errorf("a forged proof was answered with %x, as a wrong ciphertext is: the test sees nothing", got)
	}
}

func lastRecord(t testing.TB, stream []byte) []byte {
	t.Helper()
	var last []byte
	for len(stream) >= 5 {
		n := 5 + int(binary.BigEndian.Uint16(stream[3:]))
		if n > len(stream) {
			break
		}
		last, stream = stream[:n], stream[n:]
	}
	return last
}

// serverPlays are first flights of hostile servers. All but the named fault is as
// gmtls wants it.
func serverPlays(t testing.TB, p party) map[string][][]byte {
	hello := handshake(2, serverHello(0x0101, nil, 0xe013))
	certs := handshake(11, certificates(p.signCert, p.encCert))
	rsaCert := rsaCertificate(t)
	forged := handshake(12, prefixed(gm.Signature{31: 1, 63: 1}.ASN1()))
	request := handshake(13, []byte{1, 64, 0, 0})
	done := handshake(14, nil)
	return map[string][][]byte{
		"RSA certificates":             {hello, handshake(11, certificates(rsaCert, rsaCert)), forged, request, done},
		"RSA encryption certificate":   {hello, handshake(11, certificates(p.signCert, rsaCert)), forged, request, done},
		"no ServerKeyExchange":         {hello, certs, request, done},
		"no ServerKeyExchange at all":  {hello, certs, done},
		"forged ServerKeyExchange":     {hello, certs, forged, request, done},
		"no request for a certificate": {hello, certs, forged, done},
		"empty ServerKeyExchange":      {hello, certs, handshake(12, nil), request, done},
		"ServerKeyExchange trailing":   {hello, certs, handshake(12, append(prefixed(gm.Signature{31: 1, 63: 1}.ASN1()), 0)), request, done},
		"encryption certificate first": {hello, handshake(11, certificates(p.encCert, p.signCert)), forged, request, done},
		"two encryption certificates":  {hello, handshake(11, certificates(p.encCert, p.encCert)), forged, request, done},
		"one certificate":              {hello, handshake(11, certificates(p.signCert)), forged, request, done},
		"no certificate":               {hello, handshake(11, certificates()), forged, request, done},
		"no hello":                     {certs, forged, request, done},
		"suite 0xe011":                 {handshake(2, serverHello(0x0101, nil, 0xe011)), certs, forged, request, done},
		"version 0x0303":               {handshake(2, serverHello(0x0303, nil, 0xe013)), certs, forged, request, done},
		"session":                      {handshake(2, serverHello(0x0101, make([]byte, 32), 0xe013)), certs, forged, request, done},
		"extension":                    {handshake(2, serverHello(0x0101, nil, 0xe013, 0, 4, 0, 35, 0, 0)), certs, forged, request, done},
		"renegotiation":                {handshake(0, nil)},
		"early change cipher spec":     {hello, record(20, []byte{1})},
		"garbage":                      {[]byte("SSH-2.0-OpenSSH_9.2\r\n")},
		"malformed request":            {hello, certs, forged, handshake(13, []byte{0, 0, 9, 1}), done},
	}
}

// play listens, and answers everybody with packets.
func play(t testing.TB, packets [][]byte) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				io.ReadFull(c, make([]byte, 5)) // the hello is on its way
				for _, p := range packets {
					c.Write(p)
				}
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestDialerSurvivesServers(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	server := x.party(t, "minzheng")
	e := x.endpoint(t, x.party(t, "zhujian"))
	for name, packets := range serverPlays(t, server) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := e.Dial(t.Context(), play(t, packets), "minzheng")
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, channel.ErrProtocol) && !errors.Is(err, channel.ErrIdentity) && !errors.Is(err, cert.ErrProfile) {
				t.Errorf("dial: %v", err)
			}
		})
	}
}

// TestEncryptionCertificateIsNoIdentity is trap 14: an encryption key may lie in
// escrow, so it must not open a connection. gmtls itself accepts it.
func TestEncryptionCertificateIsNoIdentity(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := listen(t, x.endpoint(t, x.party(t, "minzheng")))
	go echo(l)
	p := x.party(t, "zhujian")
	dial := func(key *gm.PrivateKey, certs ...[]byte) error {
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(10 * time.Second))
		own := &gmtls.Certificate{Certificate: certs, PrivateKey: gm.NewSigner(gm.Emmansun(), key)}
		c := gmtls.Client(raw, &gmtls.Config{
			GMSupport: gmtls.NewGMSupport(), InsecureSkipVerify: true, CipherSuites: []uint16{0xe013},
			GetClientCertificate: func(*gmtls.CertificateRequestInfo) (*gmtls.Certificate, error) { return own, nil },
		})
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := dial(p.sign, p.signCert, p.encCert); err != nil {
		t.Fatalf("negative control: the same client with its signing certificate: %v", err)
	}
	other := x.party(t, "zhujian")
	for name, err := range map[string]error{
		"encryption first":        dial(p.enc, p.encCert, p.signCert),
		"encryption twice":        dial(p.enc, p.encCert, p.encCert),
		"encryption alone":        dial(p.enc, p.encCert),
		"signing twice":           dial(p.sign, p.signCert, p.signCert),
		"another's key":           dial(other.sign, p.signCert, p.encCert),
		"two departments":         dial(p.sign, p.signCert, x.party(t, "gongan").encCert),
		"signed by the wrong key": dial(p.enc, p.signCert, p.encCert),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSilentPeersMakeRoom fills every place with peers that say nothing, or stop
// halfway.
func TestSilentPeersMakeRoom(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	cfg := x.config(x.party(t, "minzheng"))
	cfg.HandshakeTimeout = 10 * time.Second
	l := listen(t, newEndpoint(t, cfg))
	go echo(l)
	member := x.party(t, "zhujian")
	half := [][]byte{nil, []byte{22, 1}, goodHello(), append(goodHello(), handshake(11, certificates(member.signCert, member.encCert))...)}
	var silent []net.Conn
	for i := range 70 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(half[i%len(half)]); err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	cfg = x.config(member)
	cfg.HandshakeTimeout = time.Minute
	ping(t, newEndpoint(t, cfg), l.Addr().String(), "minzheng")
	// They did not all time out together: only those too many were cut off.
	open := 0
	for _, c := range silent {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			open++
		}
	}
	if open < 56 {
		t.Errorf("%d of 70 silent peers are still there", open)
	}
}

// TestGoodPeersAmongManyAtOnce has more good peers than places.
func TestGoodPeersAmongManyAtOnce(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	cfg := x.config(x.party(t, "minzheng"))
	cfg.MaxHandshakes = 3
	cfg.HandshakeTimeout = time.Hour // nobody is impatient, however slow the machine is
	l := listen(t, newEndpoint(t, cfg))
	go echo(l)
	cfg = x.config(x.party(t, "zhujian"))
	cfg.HandshakeTimeout = time.Minute
	e := newEndpoint(t, cfg)
	var all sync.WaitGroup
	for range 24 {
		all.Go(func() {
			c, err := e.Dial(t.Context(), l.Addr().String(), "minzheng")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			exchangeBytes(t, c, "hello")
		})
	}
	all.Wait()
}

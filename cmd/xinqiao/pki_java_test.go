package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// TestWebCertificateWithJava has Java's HttpClient trust the web CA, and nothing
// else said to it, as a department's own systems would.
func TestWebCertificateWithJava(t *testing.T) {
	t.Parallel()
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("java is not installed")
	}
	keytool, err := exec.LookPath("keytool")
	if err != nil {
		t.Skip("java is not installed with its keytool")
	}
	path := pkiDir(t)
	mustPKI(t, "issue", "--web", "--ca", path("ca"), "--host", "127.0.0.1", "--host", "localhost", "--out", path("m"))
	pair, err := tls.LoadX509KeyPair(path("m/web.pem"), path("m/web.key"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "桥") }))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	trust := path("trust.p12")
	if out, err := exec.CommandContext(t.Context(), keytool, "-importcert", "-noprompt", "-alias", "web-ca", "-file", path("ca/web-ca.pem"),
		"-keystore", trust, "-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	check := func(host string, options ...string) (string, error) {
		args := append([]string{"-Dstdout.encoding=UTF-8"}, options...)
		out, err := exec.CommandContext(t.Context(), java, append(args, "testdata/Check.java", "https://"+net.JoinHostPort(host, port)+"/")...).CombinedOutput()
		return string(out), err
	}
	trusting := []string{"-Djavax.net.ssl.trustStore=" + trust, "-Djavax.net.ssl.trustStorePassword=changeit"}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if out, err := check(host, trusting...); err != nil || !strings.HasSuffix(out, "200 桥") && !strings.HasSuffix(out, "200 ?") {
			t.Errorf("%s: %v\n%s", host, err, out)
		}
	}
	if out, err := check("127.0.0.1"); err == nil || !strings.Contains(out, "SSLHandshakeException") {
		t.Errorf("without the web CA: %v\n%s", err, out)
	}
}

package handlers

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// loadTest writes a pair for localhost into a folder and loads it, to be looked at in every handshake.
func loadTest(t *testing.T, log *logBuffer) (c *Certificate, dir string) {
	t.Helper()
	dir = t.TempDir()
	certFile, keyFile, err := WriteSelfSigned(dir, []string{"localhost", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err = LoadCertificate(certFile, keyFile, zerolog.New(log)); err != nil {
		t.Fatal(err)
	}
	c.every = 0
	return c, dir
}

// serial is the number of the certificate that the next handshake is given.
func serial(t *testing.T, c *Certificate) string {
	t.Helper()
	pair, err := c.TLS().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.String()
}

func TestANewCertificateIsServedAndABadOneIsNot(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	c, dir := loadTest(t, log)
	first := serial(t, c)
	certFile := filepath.Join(dir, "cert.pem")
	old, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}

	// The key first, as somebody copies one file and then the other: between them, the pair does not fit.
	newCert, newKey, err := SelfSigned([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key.pem", newKey)
	for range 3 {
		if got := serial(t, c); got != first {
			t.Fatalf("a pair that does not fit is served: %s", got)
		}
	}
	if n := strings.Count(log.String(), "the old one stays"); n != 1 {
		t.Errorf("the bad pair is logged %d times, want once: %s", n, log)
	}
	write("cert.pem", newCert)
	second := serial(t, c)
	if second == first || !strings.Contains(log.String(), "serving a new certificate") {
		t.Errorf("the new pair is not served: %s", log)
	}
	for what, content := range map[string][]byte{"rubbish": []byte("rubbish"), "empty": nil, "the old certificate": old} {
		write("cert.pem", content)
		if got := serial(t, c); got != second {
			t.Errorf("%s: serving %s", what, got)
		}
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, c); got != second {
		t.Errorf("file gone: serving %s", got)
	}
}

func TestFilesAreNotReadInEveryHandshake(t *testing.T) {
	t.Parallel()
	c, dir := loadTest(t, &logBuffer{})
	c.every = lookEvery
	first := serial(t, c)
	if _, _, err := WriteSelfSigned(dir, []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	c.look(c.looked.Add(lookEvery - time.Nanosecond))
	if serial(t, c) != first {
		t.Error("the files were read before it was time")
	}
	c.look(c.looked.Add(lookEvery))
	if serial(t, c) == first {
		t.Error("the files were not read when it was time")
	}
}

func TestASelfSignedCertificateNamesItsHosts(t *testing.T) {
	t.Parallel()
	c, dir := loadTest(t, &logBuffer{})
	info, err := os.Stat(filepath.Join(dir, "key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key.pem: %v, %v; only its owner may read it", info.Mode(), err)
	}
	leaf := c.pair.Load().Leaf
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for host, ok := range map[string]bool{"localhost": true, "127.0.0.1": true, "example.com": false} {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots})
		if (err == nil) != ok {
			t.Errorf("%s: %v", host, err)
		}
	}
	if leaf.IsCA {
		t.Error("whoever trusts it would trust all that it signs")
	}
}

func TestACertificateThatCannotBeLoadedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, err := WriteSelfSigned(dir, []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][2]string{
		"missing": {certFile + ".no", keyFile}, "swapped": {keyFile, certFile},
	} {
		if _, err := LoadCertificate(files[0], files[1], zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "hint:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

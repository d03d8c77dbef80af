package handlers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// lookEvery is how often, at most, handshakes look whether the files have changed.
const lookEvery = 2 * time.Second

// Certificate is a pair of files that is read again when it changes. A new pair that cannot be served is logged, and the
// old one stays.
type Certificate struct {
	certFile, keyFile string
	log               zerolog.Logger
	every             time.Duration
	pair              atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // held by the one handshake that looks; guards what follows
	looked time.Time
	seen   [2][]byte // the files' content when last looked at, good or not
}

// LoadCertificate reads the files, PEM both, the certificate followed by its intermediates.
func LoadCertificate(certFile, keyFile string, log zerolog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, every: lookEvery, looked: time.Now()}
	content, err := c.read()
	if err != nil {
		return nil, err
	}
	pair, err := c.parse(content)
	if err != nil {
		return nil, err
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		log.Warn().Str("file", certFile).Time("ended", pair.Leaf.NotAfter).Msg("the certificate has ended; senders will refuse it; hint: renew it, it is read again by itself")
	}
	c.seen = content
	c.pair.Store(pair)
	return c, nil
}

// SelfSignedCertificate makes a certificate for local use that lives in memory; see SelfSigned.
func SelfSignedCertificate(hosts []string, log zerolog.Logger) (*Certificate, error) {
	cert, key, err := SelfSigned(hosts)
	if err != nil {
		return nil, err
	}
	c := &Certificate{log: log, looked: time.Now()}
	pair, err := c.parse([2][]byte{cert, key})
	if err != nil {
		return nil, err
	}
	c.pair.Store(pair)
	return c, nil
}

// NotAfter is when the certificate that is served now ends.
func (c *Certificate) NotAfter() time.Time { return c.pair.Load().Leaf.NotAfter }

// TLS returns the settings of a server with this certificate: TLS 1.2 or newer, HTTP/2 when the client speaks it.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.look(time.Now())
			return c.pair.Load(), nil
		},
	}
}

// look reads the files again when it is time, and nobody else does.
func (c *Certificate) look(now time.Time) {
	if c.certFile == "" || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if now.Sub(c.looked) < c.every {
		return
	}
	c.looked = now
	content, err := c.read()
	if err == nil && bytes.Equal(content[0], c.seen[0]) && bytes.Equal(content[1], c.seen[1]) {
		return
	}
	c.seen = content
	pair, err2 := c.parse(content)
	if err = errors.Join(err, err2); err == nil && now.After(pair.Leaf.NotAfter) {
		err = fmt.Errorf("%s: it ended at %s", c.certFile, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	if err != nil {
		c.log.Error().Err(err).Str("file", c.certFile).Time("serving_until", c.NotAfter()).Msg("the new certificate cannot be served, the old one stays")
		return
	}
	c.pair.Store(pair)
	c.log.Info().Str("file", c.certFile).Time("until", pair.Leaf.NotAfter).Msg("serving a new certificate")
}

func (c *Certificate) read() (content [2][]byte, err error) {
	for i, file := range []string{c.certFile, c.keyFile} {
		if content[i], err = os.ReadFile(file); err != nil {
			return content, fmt.Errorf("read certificate: %w\nhint: both files must be there and readable by this user", err)
		}
	}
	return content, nil
}

func (c *Certificate) parse(content [2][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w\nhint: both are PEM, and the first certificate in the file is the key's", c.certFile, c.keyFile, err)
	}
	return &pair, nil
}

// SelfSigned makes a certificate for local use, good for a year, that names these hosts and addresses. Whoever is to
// trust it needs the certificate itself.
func SelfSigned(hosts []string) (certPEM, keyPEM []byte, err error) {
	if len(hosts) == 0 {
		return nil, nil, errors.New("self-signed certificate: it needs a host")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hosts[0], Organization: []string{"Rollcall, local use"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("self-signed certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}

// WriteSelfSigned puts a self-signed pair into the folder, over what is there, and returns its files: cert.pem, and
// key.pem that only this user may read.
func WriteSelfSigned(dir string, hosts []string) (certFile, keyFile string, err error) {
	cert, key, err := SelfSigned(hosts)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(replaceFile(keyFile, key, 0o600), replaceFile(certFile, cert, 0o644)); err != nil {
		return "", "", fmt.Errorf("write self-signed certificate: %w", err)
	}
	return certFile, keyFile, nil
}

// replaceFile puts the content there at once, whole, with this mode whatever the mode of the old file was.
func replaceFile(name string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

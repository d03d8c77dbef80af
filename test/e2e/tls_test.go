package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/rollcallhq/rollcall/test/rig"
)

func TestSendersGetHTTP2AndNothingBelowTLS12(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{})
	p := site.Serve(t, "receiver")
	rig.Until(t, "a delivery is taken", func() bool {
		a := site.Post(t, p.URL(), newcomer("event_1"))
		if a.Proto != "HTTP/2.0" {
			t.Fatalf("the answer came over %s, want HTTP/2.0", a.Proto)
		}
		return a.Status == http.StatusOK
	})
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, err := shake(t, p, &tls.Config{RootCAs: site.Roots(t), MinVersion: version, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("a handshake of %s gives %v, want success %t", tls.VersionName(version), err, want)
		}
	}
	if a := get(t, "http://"+p.Address()+"/webhooks/workos"); a != http.StatusBadRequest {
		t.Errorf("plain HTTP is answered %d, want 400", a)
	}
}

func TestACertificateIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{})
	p := site.Serve(t, "receiver")
	shown := func() string {
		serial, err := shake(t, p, &tls.Config{RootCAs: site.Roots(t), MinVersion: tls.VersionTLS12})
		if err != nil {
			return err.Error()
		}
		return serial
	}
	first := serial(t, site)
	if got := shown(); got != first {
		t.Fatalf("the process shows the certificate %s, want %s", got, first)
	}

	site.Recertify(t)
	second := serial(t, site)
	rig.Until(t, "the new certificate is shown", func() bool { return shown() == second })

	good, err := os.ReadFile(site.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, site.CertFile, good[:len(good)/2])
	rig.Until(t, "a word on the broken certificate", func() bool {
		_, _ = shake(t, p, &tls.Config{InsecureSkipVerify: true})
		return p.Log().Find("message", "the new certificate cannot be served, the old one stays") != nil
	})
	rewrite(t, site.CertFile, good)
	if got := shown(); got != second {
		t.Errorf("with a broken file the process shows the certificate %s, want still %s", got, second)
	}
	rig.Until(t, "a delivery is taken", func() bool {
		client := site.NewClient(t)
		response, err := client.Do(site.Request(t, p.URL(), newcomer("event_1")))
		if err != nil {
			t.Fatal(err)
		}
		return errors.Join(response.Body.Close()) == nil && response.StatusCode == http.StatusOK
	})
}

// serial is the serial number of the site's certificate as it is in its file.
func serial(t *testing.T, site *rig.Site) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(site.CertFile, site.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", pair.Leaf.SerialNumber)
}

func rewrite(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake returns the serial number of the certificate that a handshake shows.
func shake(t *testing.T, p *rig.Process, c *tls.Config) (string, error) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", p.Address())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return fmt.Sprintf("%x", conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber), nil
}

func get(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

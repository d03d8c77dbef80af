package verify_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/verify"
)

func FuzzParseHeader(f *testing.F) {
	f.Add("t=1785492000000, v1=00", "1785492000", "v1,AAAA", "msg_1")
	f.Add("t=,v1=,=", "+1", "v1a, v1,", "a.b")
	f.Add("", "99999999999999999", " ", "")
	f.Fuzz(func(t *testing.T, workos, stamp, sig, id string) {
		h := http.Header{
			"Workos-Signature": {workos}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {sig}, "Webhook-Id": {id},
			"Svix-Timestamp": {stamp}, "Svix-Signature": {sig}, "Svix-Id": {id}, "X-Signature": {sig}, "X-Timestamp": {stamp},
		}
		for _, name := range verify.Presets() {
			v := verifier(t, scheme(t, name))
			if _, err := v.Verify(h, body, []*verify.Key{key(t, v, "1")}, now); err == nil {
				t.Fatalf("%s: a guessed signature passed: %q", name, h)
			} else if verify.Reason(err) == "other" {
				t.Fatalf("%s: Verify() = %v, which has no reason", name, err)
			}
		}
	})
}

// A scheme that New accepts verifies what it signs, and nothing else.
func FuzzScheme(f *testing.F) {
	f.Add("sha256", "X-Signature", ",", "=", "v1", "", "hex", "{timestamp}.{body}", "sig:t", "ms", "")
	f.Add("sha512", "sig", " ", ",", "v1", "sha=", "base64", "{id}.{timestamp}.{body}", "header:ts", "s", "header:id")
	f.Add("sha384", "a", "", "", "", "v0=", "hex", "v0:{timestamp}:{body}", "header:ts", "s", "")
	f.Fuzz(func(t *testing.T, hash, header, separator, keyValue, accept, prefix, encoding, signed, from, unit, id string) {
		s := verify.Scheme{
			Name: "fuzzed", Hash: hash, Secret: verify.Secret{Encoding: "utf8", MinBytes: 16},
			Signature: verify.Signature{Header: header, Separator: separator, Trim: true, KeyValue: keyValue, Prefix: prefix, Encoding: encoding},
			Signed:    signed, Timestamp: verify.Timestamp{From: from, Unit: unit, Tolerance: time.Minute, Future: time.Minute},
			ID: verify.ID{From: id},
		}
		if accept != "" {
			s.Signature.Accept = []string{accept}
		}
		v, err := verify.New(s)
		if err != nil {
			return
		}
		k := []*verify.Key{key(t, v, "1")}
		h := sign(t, v, k[0], now)
		if _, err := v.Verify(h, body, k, now); err != nil {
			t.Fatalf("%+v does not verify what it signs: %v\n%q", s, err, h)
		}
		if _, err := v.Verify(h, append(body[:len(body):len(body)], 'x'), k, now); err == nil {
			t.Fatalf("%+v verifies another body", s)
		}
		if _, err := v.Verify(h, body, []*verify.Key{key(t, v, "22")}, now); err == nil {
			t.Fatalf("%+v verifies another key", s)
		}
	})
}

package verify

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
)

// maxHash is the size of the longest hash, SHA-512's, in bytes.
const maxHash = 64

// The errors of NewKey.
var (
	ErrEmptySecret = errors.New("the secret is empty")
	ErrShortSecret = errors.New("the secret is too short")
	ErrSecretForm  = errors.New("the secret is not in the scheme's encoding")
)

// Key is a secret made ready for one verifier. It prints as "[redacted]" in every way there is.
type Key struct {
	version string
	states  sync.Pool // of *macState
}

// NewKey prepares a secret as the sender's console shows it: the scheme says which prefix to strip and how to decode it.
// An empty secret, and one that is shorter than the scheme's MinBytes when decoded, is refused: with an empty key
// everybody can sign.
func (v *Verifier) NewKey(version string, secret []byte) (*Key, error) {
	raw, err := v.scheme.Secret.decode(strings.TrimSpace(string(secret)))
	if err != nil {
		return nil, err
	}
	newHash := hashes[v.scheme.Hash]
	k := &Key{version: version}
	k.states.New = func() any { return &macState{mac: hmac.New(newHash, raw)} }
	return k, nil
}

// Version names the key, for logs and ledgers.
func (k *Key) Version() string { return k.version }

func (s Secret) decode(text string) ([]byte, error) {
	if text == "" || text == s.StripPrefix {
		return nil, ErrEmptySecret
	}
	text = strings.TrimPrefix(text, s.StripPrefix)
	raw, err := []byte(text), error(nil)
	switch s.Encoding {
	case "base64":
		raw, err = base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			raw, err = base64.RawStdEncoding.Strict().DecodeString(text)
		}
	case "hex":
		raw, err = hex.DecodeString(text)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w (%s)", ErrSecretForm, s.Encoding)
	case len(raw) == 0:
		return nil, ErrEmptySecret
	case len(raw) < s.MinBytes:
		return nil, fmt.Errorf("%w: %d bytes, the scheme wants at least %d", ErrShortSecret, len(raw), s.MinBytes)
	}
	return raw, nil
}

// Format makes every fmt verb print "[redacted]".
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON returns "[redacted]".
func (k *Key) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// MarshalText returns "[redacted]".
func (k *Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "[redacted]"

// macState is an HMAC ready to be used again, with room for its result, so that verifying allocates nothing.
type macState struct {
	mac    hash.Hash
	text   []byte
	result [maxHash]byte
}

// sum returns the MAC of the segments; it is overwritten by the next call.
func (s *macState) sum(segments []segment, c *claim, body []byte) []byte {
	s.mac.Reset()
	for _, part := range segments {
		switch part.kind {
		case segBody:
			s.mac.Write(body)
		case segTimestamp:
			s.write(c.timestamp)
		case segID:
			s.write(c.id)
		case segLiteral:
			s.write(part.text)
		}
	}
	return s.mac.Sum(s.result[:0])
}

func (s *macState) write(text string) {
	s.text = append(s.text[:0], text...)
	s.mac.Write(s.text)
}

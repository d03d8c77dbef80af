package secrets

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a value that must not be seen. It prints as "[redacted]" with every verb of fmt, in JSON, as text and in
// logs; only Reveal gives it away.
type Secret struct {
	// A function, so that printers that walk through fields by reflection, past the methods below, find an address.
	reveal func() []byte
}

func newSecret(value []byte) Secret {
	value = append([]byte(nil), value...)
	return Secret{reveal: func() []byte { return value }}
}

// Reveal returns a copy of the value.
func (s Secret) Reveal() []byte { return append([]byte(nil), s.value()...) }

func (s Secret) value() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Equal compares two secrets in a time that does not tell where they differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare(s.value(), other.value()) == 1
}

// Format makes every fmt verb print "[redacted]".
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// MarshalJSON returns "[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

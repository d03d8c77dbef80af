package verify

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// read takes what the headers claim, strictly: a header that is there twice, a time that is not plain digits, or more
// signatures than MaxSignatures are malformed. Entries of names that are not accepted are passed over, as is a signature
// that does not decode, while another one does.
func (v *Verifier) read(h http.Header, c *claim) error {
	if err := v.readSignatures(h, c); err != nil {
		return err
	}
	if err := v.readTimestamp(h, c); err != nil {
		return err
	}
	return v.readID(h, c)
}

func (v *Verifier) readSignatures(h http.Header, c *claim) error {
	s := &v.scheme.Signature
	value, err := one(h, v.names.signature)
	if err != nil {
		return err
	}
	entries := 0
	for rest, more := value, true; more; entries++ {
		if entries == MaxSignatures {
			return fmt.Errorf("%s: %w: more than %d entries", s.Header, ErrMalformed, MaxSignatures)
		}
		entry := rest
		if more = s.Separator != ""; more {
			entry, rest, more = strings.Cut(rest, s.Separator)
		}
		if s.Trim {
			entry = strings.Trim(entry, " ")
		}
		name, sig := "", entry
		if s.KeyValue != "" {
			var ok bool
			if name, sig, ok = strings.Cut(entry, s.KeyValue); !ok || name == "" {
				return fmt.Errorf("%s: %w: an entry is no pair", s.Header, ErrMalformed)
			}
		}
		switch {
		case v.names.stamp != "" && name == v.names.stamp:
			if c.timestamp != "" || sig == "" {
				return fmt.Errorf("%s: %w: the time is there twice, or empty", s.Header, ErrMalformed)
			}
			c.timestamp = sig
		case s.KeyValue == "" || slices.Contains(s.Accept, name):
			v.claimSignature(c, sig)
		}
	}
	if c.count == 0 {
		return fmt.Errorf("%s: %w: it holds no signature", s.Header, ErrMalformed)
	}
	return nil
}

// claimSignature keeps a signature that has the right form and the whole hash's length.
func (v *Verifier) claimSignature(c *claim, text string) {
	text, ok := strings.CutPrefix(text, v.scheme.Signature.Prefix)
	if !ok {
		return
	}
	if n, ok := v.decode(c.signatures[c.count][:], text); ok && n == v.hashSize {
		c.count++
	}
}

func (v *Verifier) readTimestamp(h http.Header, c *claim) error {
	t := &v.scheme.Timestamp
	if t.From == "" {
		return nil
	}
	if v.names.timestamp != "" {
		value, err := one(h, v.names.timestamp)
		if err != nil {
			return err
		}
		c.timestamp = value
	}
	if c.timestamp == "" {
		return fmt.Errorf("%s: %w: it holds no time", v.scheme.Signature.Header, ErrMalformed)
	}
	at, ok := t.parse(c.timestamp)
	if !ok {
		return fmt.Errorf("time of the signature: %w: not 1 to 16 digits", ErrMalformed)
	}
	c.at = at
	return nil
}

func (v *Verifier) readID(h http.Header, c *claim) error {
	if v.names.id == "" {
		return nil
	}
	value, err := one(h, v.names.id)
	if err != nil {
		return err
	}
	if !validID(value) {
		return fmt.Errorf("%s: %w: not 1 to 255 of A-Z a-z 0-9 _ -", v.names.id, ErrMalformed)
	}
	c.id = value
	return nil
}

// write sets the headers that read would read.
func (v *Verifier) write(h http.Header, c *claim, macs [][]byte) {
	s := v.scheme.Signature
	var entries []string
	if v.names.stamp != "" {
		entries = append(entries, v.names.stamp+s.KeyValue+c.timestamp)
	}
	for _, mac := range macs {
		text := hex.EncodeToString(mac)
		if s.Encoding == "base64" {
			text = base64.StdEncoding.EncodeToString(mac)
		}
		entry := s.Prefix + text
		if s.KeyValue != "" {
			entry = s.Accept[0] + s.KeyValue + entry
		}
		entries = append(entries, entry)
	}
	separator := s.Separator
	if s.Trim && separator != " " {
		separator += " "
	}
	h.Set(v.names.signature, strings.Join(entries, separator))
	if v.names.timestamp != "" {
		h.Set(v.names.timestamp, c.timestamp)
	}
	if v.names.id != "" {
		h.Set(v.names.id, c.id)
	}
}

func (v *Verifier) decode(dst []byte, text string) (int, bool) {
	if v.scheme.Signature.Encoding == "base64" {
		return decodeBase64(dst, text)
	}
	return decodeHex(dst, text)
}

// decodeHex decodes lower or upper case; it returns false when the text is no hex or longer than dst.
func decodeHex(dst []byte, text string) (int, bool) {
	if len(text)%2 != 0 || len(text)/2 > len(dst) {
		return 0, false
	}
	for i := 0; i < len(text); i += 2 {
		high, low := nibble(text[i]), nibble(text[i+1])
		if high > 15 || low > 15 {
			return 0, false
		}
		dst[i/2] = high<<4 | low
	}
	return len(text) / 2, true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 0xff
	}
}

var strictBase64 = base64.StdEncoding.Strict()

// decodeBase64 decodes the standard alphabet, padded and canonical, without line breaks.
func decodeBase64(dst []byte, text string) (int, bool) {
	if len(text)%4 != 0 || len(text) > base64.StdEncoding.EncodedLen(len(dst)) || strings.ContainsAny(text, "\r\n") {
		return 0, false
	}
	var wide [maxHash + 2]byte // the decoder writes whole groups
	var ascii [(maxHash + 2) / 3 * 4]byte
	n, err := strictBase64.Decode(wide[:], ascii[:copy(ascii[:], text)])
	if err != nil || n > len(dst) {
		return 0, false
	}
	return copy(dst, wide[:n]), true
}

// Package verify says who sent a request and when: it knows bytes, keys and a time, and nothing of directories.
//
// A [Scheme] describes how a sender signs, as data; [New] refuses one that could not protect. A [Verifier] checks
// requests against any number of active keys, over the raw bytes, in constant time, and bounds the work that an
// unauthenticated request can cause: one HMAC a key, whatever the header says.
package verify

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The errors of Verify. ErrStale and ErrFuture are returned only after the signature matched, so that they speak of a
// real delivery of the sender; the other three mean that anybody may have sent it. None of them tells what would have
// been right.
var (
	ErrMissing   = errors.New("a header that the scheme needs is not there")
	ErrMalformed = errors.New("a header does not have the scheme's form")
	ErrMismatch  = errors.New("no signature matches")
	ErrStale     = errors.New("the signature's time is too far in the past")
	ErrFuture    = errors.New("the signature's time is too far in the future")
)

// Reason returns the error's name for a metric's label: "missing", "malformed", "mismatch", "stale", "future", or
// "other" for an error that is not of this package.
func Reason(err error) string {
	for _, r := range []struct {
		err  error
		name string
	}{
		{ErrMissing, "missing"}, {ErrMalformed, "malformed"}, {ErrMismatch, "mismatch"}, {ErrStale, "stale"}, {ErrFuture, "future"},
	} {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "other"
}

// Result is what a valid signature proves.
type Result struct {
	KeyVersion string    // of the key that matched
	KeyIndex   int       // its place among the keys given
	Timestamp  time.Time // of the attempt, UTC; zero if the scheme has none
	ID         string    // the signed id header; empty if the scheme has none
}

// Verifier checks requests of one scheme. It may be used by many goroutines at once.
type Verifier struct {
	scheme   Scheme
	signed   []segment
	hashSize int
	names    names
}

// names are the parts of the scheme that reading a request needs, worked out once: headers in canonical form.
type names struct {
	signature string
	timestamp string // a header; empty when the time is an entry or not there
	stamp     string // an entry; empty when the time is a header or not there
	id        string
}

// Scheme returns the description that the verifier was made from.
func (v *Verifier) Scheme() Scheme { return v.scheme }

// Precheck tells what Verify would say of the headers alone: ErrMissing or ErrMalformed, or nil when they claim a
// signature of the scheme's form, which proves nothing. With it a body that cannot be valid need not be read. It
// allocates nothing, except for the error's text.
func (v *Verifier) Precheck(h http.Header) error {
	var c claim
	return v.read(h, &c)
}

// Verify checks that one of the keys signed this body and these headers, and that the signature's time is within the
// tolerances of now; exactly the tolerance still is. With ErrStale and ErrFuture the result is valid too.
func (v *Verifier) Verify(h http.Header, body []byte, keys []*Key, now time.Time) (Result, error) {
	var c claim
	if err := v.read(h, &c); err != nil {
		return Result{}, err
	}
	for i, key := range keys {
		if key.matches(v, &c, body) {
			result := Result{KeyVersion: key.version, KeyIndex: i, Timestamp: c.at, ID: c.id}
			return result, v.fresh(c.at, now)
		}
	}
	return Result{}, ErrMismatch
}

func (v *Verifier) fresh(at, now time.Time) error {
	if v.scheme.Timestamp.From == "" {
		return nil
	}
	switch { // Sub saturates, so that no time is too far to be refused
	case now.Sub(at) > v.scheme.Timestamp.Tolerance:
		return ErrStale
	case at.Sub(now) > v.scheme.Timestamp.Future:
		return ErrFuture
	default:
		return nil
	}
}

// claim is what the headers of a request say, still unproven.
type claim struct {
	timestamp string // as sent: it is signed as it is written
	at        time.Time
	id        string

	signatures [MaxSignatures][maxHash]byte
	count      int
}

// matches computes the key's MAC once and compares it with every signature claimed.
func (k *Key) matches(v *Verifier, c *claim, body []byte) bool {
	s := k.states.Get().(*macState)
	defer k.states.Put(s)
	mac := s.sum(v.signed, c, body)
	found := false
	for i := range c.count {
		if hmac.Equal(mac, c.signatures[i][:v.hashSize]) {
			found = true
		}
	}
	return found
}

// Sign sets the headers that make the request valid under the key: the inverse of Verify. The id is used by schemes
// that sign one.
func (v *Verifier) Sign(h http.Header, body []byte, key *Key, id string, at time.Time) error {
	return v.SignAll(h, body, []*Key{key}, id, at)
}

// SignAll signs with several keys, as a sender does that is replacing one. A scheme whose header holds one signature
// takes one key.
func (v *Verifier) SignAll(h http.Header, body []byte, keys []*Key, id string, at time.Time) error {
	if len(keys) == 0 {
		return errors.New("sign: no key")
	}
	if len(keys) > 1 && v.scheme.Signature.Separator == "" {
		return fmt.Errorf("sign: scheme %q has room for one signature, not %d", v.scheme.Name, len(keys))
	}
	c := claim{timestamp: v.scheme.Timestamp.format(at), id: id}
	if v.scheme.ID.From != "" && !validID(id) {
		return errors.New("sign: the id must be 1 to 255 of A-Z a-z 0-9 _ -")
	}
	var macs [][]byte
	for _, k := range keys {
		s := k.states.Get().(*macState)
		macs = append(macs, append([]byte(nil), s.sum(v.signed, &c, body)...))
		k.states.Put(s)
	}
	v.write(h, &c, macs)
	return nil
}

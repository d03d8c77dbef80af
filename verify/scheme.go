package verify

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scheme describes how a sender signs, as data. The presets are schemes; a configuration may start from one.
type Scheme struct {
	Name      string    `koanf:"name"`
	Hash      string    `koanf:"hash"` // "sha256", "sha384", "sha512"; never read from a request
	Secret    Secret    `koanf:"secret"`
	Signature Signature `koanf:"signature"`
	Signed    string    `koanf:"signed"` // template of the signed bytes: {body} once, {timestamp}, {id}, and literal text
	Timestamp Timestamp `koanf:"timestamp"`
	ID        ID        `koanf:"id"`
}

// Secret says how the secret is written.
type Secret struct {
	Encoding    string `koanf:"encoding"`     // "utf8": the bytes as they are; "base64", with or without padding; "hex"
	StripPrefix string `koanf:"strip_prefix"` // such as "whsec_"; optional in the secret
	MinBytes    int    `koanf:"min_bytes"`    // of the decoded key; less is refused
}

// Signature says where the signatures are and how they are written.
type Signature struct {
	Header    string   `koanf:"header"`    // exactly one value
	Separator string   `koanf:"separator"` // between entries; empty: the header is one entry
	Trim      bool     `koanf:"trim"`      // spaces around entries
	KeyValue  string   `koanf:"key_value"` // between an entry's name and its value; empty: entries have no name
	Accept    []string `koanf:"accept"`    // names whose values are signatures; others are passed over
	Prefix    string   `koanf:"prefix"`    // of each signature, as in "sha256="; needed when set
	Encoding  string   `koanf:"encoding"`  // "hex", in either case; "base64", padded and canonical
}

// Timestamp says when the attempt was signed.
type Timestamp struct {
	From      string        `koanf:"from"` // "header:NAME", or "sig:NAME" for an entry of the signature header
	Unit      string        `koanf:"unit"` // "s" or "ms" since 1970
	Tolerance time.Duration `koanf:"tolerance"`
	Future    time.Duration `koanf:"future"`
	None      bool          `koanf:"none"` // the sender signs no time: replays are stopped by id alone
}

// ID says which header carries a signed id.
type ID struct {
	From string `koanf:"from"` // "header:NAME", or empty
}

// MaxSignatures bounds the entries that a signature header may have.
const MaxSignatures = 16

var hashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}

var presets = map[string]Scheme{
	// https://workos.com/docs/events/data-syncing/webhooks: the secret is used as it is, prefix and all.
	"workos": {
		Name: "workos", Hash: "sha256",
		Secret:    Secret{Encoding: "utf8", MinBytes: 16},
		Signature: Signature{Header: "WorkOS-Signature", Separator: ",", Trim: true, KeyValue: "=", Accept: []string{"v1"}, Encoding: "hex"},
		Signed:    "{timestamp}.{body}",
		Timestamp: Timestamp{From: "sig:t", Unit: "ms", Tolerance: 180 * time.Second, Future: 180 * time.Second},
	},
	"standard-webhooks": standard("standard-webhooks", "webhook"),
	"svix":              standard("svix", "svix"),
	"generic": {
		Name: "generic", Hash: "sha256",
		Secret:    Secret{Encoding: "utf8", MinBytes: 16},
		Signature: Signature{Header: "X-Signature", Encoding: "hex"},
		Signed:    "{timestamp}.{body}",
		Timestamp: Timestamp{From: "header:X-Timestamp", Unit: "s", Tolerance: 5 * time.Minute, Future: 5 * time.Minute},
	},
}

// standard is Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md,
// which Svix sends under other header names.
func standard(name, header string) Scheme {
	return Scheme{
		Name: name, Hash: "sha256",
		Secret:    Secret{Encoding: "base64", StripPrefix: "whsec_", MinBytes: 16},
		Signature: Signature{Header: header + "-signature", Separator: " ", KeyValue: ",", Accept: []string{"v1"}, Encoding: "base64"},
		Signed:    "{id}.{timestamp}.{body}",
		Timestamp: Timestamp{From: "header:" + header + "-timestamp", Unit: "s", Tolerance: 5 * time.Minute, Future: 5 * time.Minute},
		ID:        ID{From: "header:" + header + "-id"},
	}
}

// Preset returns the scheme of that name: "workos", "standard-webhooks", "svix", "generic".
func Preset(name string) (Scheme, bool) {
	s, ok := presets[name]
	s.Signature.Accept = slices.Clone(s.Signature.Accept)
	return s, ok
}

// Presets returns the names of all presets, sorted.
func Presets() []string {
	names := make([]string, 0, len(presets))
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// New checks that the scheme can protect, and makes a verifier of it. Its errors name the setting.
func New(s Scheme) (*Verifier, error) {
	signed, err := parseTemplate(s.Signed)
	if err == nil {
		err = errors.Join(s.checkSecret(), s.checkSignature(), s.checkTimestamp(), s.checkID(), s.checkSigned(signed))
	}
	if err != nil {
		return nil, fmt.Errorf("scheme %q: %w", s.Name, err)
	}
	return &Verifier{scheme: s, signed: signed, hashSize: hashes[s.Hash]().Size(), names: s.names()}, nil
}

func (s Scheme) names() names {
	n := names{signature: http.CanonicalHeaderKey(s.Signature.Header)}
	switch kind, name, _ := strings.Cut(s.Timestamp.From, ":"); kind {
	case "sig":
		n.stamp = name
	case "header":
		n.timestamp = http.CanonicalHeaderKey(name)
	}
	if _, name, ok := strings.Cut(s.ID.From, ":"); ok {
		n.id = http.CanonicalHeaderKey(name)
	}
	return n
}

func (s Scheme) checkSecret() error {
	if _, ok := hashes[s.Hash]; !ok {
		return fmt.Errorf("hash: %q is not one of sha256, sha384, sha512", s.Hash)
	}
	if !slices.Contains([]string{"utf8", "base64", "hex"}, s.Secret.Encoding) {
		return fmt.Errorf("secret.encoding: %q is not one of utf8, base64, hex", s.Secret.Encoding)
	}
	if s.Secret.MinBytes < 8 {
		return fmt.Errorf("secret.min_bytes: %d is no protection; use 16 or more", s.Secret.MinBytes)
	}
	return nil
}

func (s Scheme) checkSignature() error {
	sig := s.Signature
	switch {
	case !validHeader(sig.Header):
		return fmt.Errorf("signature.header: %q is not the name of a header", sig.Header)
	case sig.Encoding != "hex" && sig.Encoding != "base64":
		return fmt.Errorf("signature.encoding: %q is not one of hex, base64", sig.Encoding)
	case sig.KeyValue != "" && len(sig.Accept) == 0:
		return errors.New("signature.accept: names the entries that are signatures; it is empty")
	case sig.KeyValue == "" && len(sig.Accept) > 0:
		return errors.New("signature.accept: entries have no names without signature.key_value")
	case sig.KeyValue != "" && sig.KeyValue == sig.Separator:
		return errors.New("signature.key_value: is the same as signature.separator")
	case !slices.Contains([]string{"", " ", ",", ";", "|"}, sig.Separator):
		return fmt.Errorf("signature.separator: %q is not one of space , ; |", sig.Separator)
	case !slices.Contains([]string{"", "=", ",", ":"}, sig.KeyValue):
		return fmt.Errorf("signature.key_value: %q is none of = , and :, which may stand there", sig.KeyValue)
	case slices.ContainsFunc(sig.Accept, func(name string) bool { return !validID(name) }):
		return errors.New("signature.accept: a name may hold A-Z a-z 0-9 - _ only")
	case strings.ContainsFunc(sig.Prefix, func(r rune) bool { return !idRune(r) && r != '=' && r != ':' }):
		return fmt.Errorf("signature.prefix: %q may hold A-Z a-z 0-9 _ - = : only", sig.Prefix)
	}
	return s.checkHeaders()
}

// checkHeaders makes sure that no header has two meanings.
func (s Scheme) checkHeaders() error {
	n := s.names()
	if n.timestamp == n.signature || n.id == n.signature || n.id != "" && n.id == n.timestamp {
		return fmt.Errorf("signature.header, timestamp.from and id.from: %q is named twice", s.Signature.Header)
	}
	return nil
}

func (s Scheme) checkTimestamp() error {
	t := s.Timestamp
	if t.From == "" {
		if !t.None {
			return errors.New("timestamp.from: is empty; without a signed time every delivery can be replayed for ever (timestamp.none: true accepts that)")
		}
		return nil
	}
	kind, name, _ := strings.Cut(t.From, ":")
	switch {
	case t.None:
		return errors.New("timestamp.none: contradicts timestamp.from")
	case kind == "sig" && (!validID(name) || s.Signature.KeyValue == "" || s.Signature.Separator == "" || slices.Contains(s.Signature.Accept, name)):
		return fmt.Errorf("timestamp.from: %q is not an entry beside the signatures", t.From)
	case kind == "header" && !validHeader(name), kind != "sig" && kind != "header":
		return fmt.Errorf("timestamp.from: %q is neither header:NAME nor sig:NAME", t.From)
	case t.Unit != "s" && t.Unit != "ms":
		return fmt.Errorf("timestamp.unit: %q is neither s nor ms", t.Unit)
	case t.Tolerance <= 0 || t.Tolerance > time.Hour:
		return fmt.Errorf("timestamp.tolerance: %s is not above 0 and at most 1h", t.Tolerance)
	case t.Future < 0 || t.Future > time.Hour:
		return fmt.Errorf("timestamp.future: %s is not between 0 and 1h", t.Future)
	}
	return nil
}

func (s Scheme) checkID() error {
	if s.ID.From == "" {
		return nil
	}
	if name, ok := strings.CutPrefix(s.ID.From, "header:"); !ok || !validHeader(name) {
		return fmt.Errorf("id.from: %q is not header:NAME", s.ID.From)
	}
	return nil
}

// checkSigned makes sure that all that is believed is signed, and that two different requests never sign the same bytes.
func (s Scheme) checkSigned(signed []segment) error {
	count := map[segmentKind]int{}
	for _, part := range signed {
		count[part.kind]++
	}
	switch {
	case count[segBody] != 1:
		return fmt.Errorf("signed: %q must hold {body} once", s.Signed)
	case count[segTimestamp] > 1 || count[segID] > 1:
		return fmt.Errorf("signed: %q repeats a part", s.Signed)
	case (count[segTimestamp] == 1) != (s.Timestamp.From != ""):
		return fmt.Errorf("signed: %q and timestamp.from disagree on whether the time is signed; an unsigned time proves nothing", s.Signed)
	case (count[segID] == 1) != (s.ID.From != ""):
		return fmt.Errorf("signed: %q and id.from disagree on whether the id is signed", s.Signed)
	}
	for i := 1; i < len(signed); i++ {
		if signed[i].kind != segLiteral && signed[i-1].kind != segLiteral {
			return fmt.Errorf("signed: %q needs something between two parts, or they can be shifted against each other", s.Signed)
		}
		if i+1 < len(signed) && signed[i].kind == segLiteral && !strings.ContainsFunc(signed[i].text, func(r rune) bool { return !idRune(r) }) {
			return fmt.Errorf("signed: %q separates two parts by text that may be part of them", s.Signed)
		}
	}
	return nil
}

type segmentKind int

const (
	segLiteral segmentKind = iota
	segBody
	segTimestamp
	segID
)

type segment struct {
	kind segmentKind
	text string
}

func parseTemplate(template string) ([]segment, error) {
	kinds := map[string]segmentKind{"body": segBody, "timestamp": segTimestamp, "id": segID}
	var out []segment
	for rest := template; rest != ""; {
		literal, after, open := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, fmt.Errorf("signed: %q has a } without {", template)
		}
		if literal != "" {
			out = append(out, segment{segLiteral, literal})
		}
		if !open {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		kind, known := kinds[name]
		if !closed || !known {
			return nil, fmt.Errorf("signed: %q may hold {body}, {timestamp} and {id} only", template)
		}
		out, rest = append(out, segment{kind, ""}), tail
	}
	return out, nil
}

// validHeader reports whether the name is a token of RFC 9110.
func validHeader(name string) bool {
	return name != "" && len(name) <= 100 && !strings.ContainsFunc(name, func(r rune) bool {
		return !idRune(r) && !strings.ContainsRune("!#$%&'*+.^`|~", r)
	})
}

func validID(id string) bool {
	return id != "" && len(id) <= 255 && !strings.ContainsFunc(id, func(r rune) bool { return !idRune(r) })
}

func idRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
}

func (t Timestamp) format(at time.Time) string {
	switch {
	case t.From == "":
		return ""
	case t.Unit == "ms":
		return strconv.FormatInt(at.UnixMilli(), 10)
	default:
		return strconv.FormatInt(at.Unix(), 10)
	}
}

// parse reads 1 to 16 digits and nothing else: what is signed is the text, so that no second text may mean the same time.
func (t Timestamp) parse(text string) (time.Time, bool) {
	if text == "" || len(text) > 16 || len(text) > 1 && text[0] == '0' {
		return time.Time{}, false
	}
	var n int64
	for _, r := range text {
		if r < '0' || r > '9' {
			return time.Time{}, false
		}
		n = n*10 + int64(r-'0')
	}
	if t.Unit == "ms" {
		return time.UnixMilli(n).UTC(), true
	}
	return time.Unix(n, 0).UTC(), true
}

// one returns the header's only value.
func one(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", fmt.Errorf("%s: %w", name, ErrMissing)
	case len(values) > 1:
		return "", fmt.Errorf("%s: %w: %d values", name, ErrMalformed, len(values))
	default:
		return values[0], nil
	}
}

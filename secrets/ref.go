package secrets

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// Ref says where a secret is:
//
//	vault:app/database#dsn       field dsn of the secret app/database in the KV engine at the configured mount
//	vault:team/kv//app/db#dsn    the same in the engine at the mount team/kv: a mount is set off by two slashes
//	file:/run/secrets/dsn        the content of a file, without its last line break
//	env:DSN                      an environment variable
//
// What is no such reference may be a secret that was put in its place, so it prints as "[redacted]".
type Ref string

// ErrRef is the error of a Ref that says nothing. Its text never repeats the reference.
var ErrRef = errors.New("not a reference to a secret")

// place is a Ref, taken apart.
type place struct {
	kind  string // "vault", "file" or "env"
	mount string // of a Vault reference; empty means the configured one
	path  string // in Vault or of a file
	field string
	name  string // of an environment variable
}

var (
	vaultSegments = regexp.MustCompile(`^[A-Za-z0-9_.@:-]+(/[A-Za-z0-9_.@:-]+)*$`)
	vaultField    = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	envName       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate says whether the reference has one of the forms; its error is ErrRef with the reason.
func (r Ref) Validate() error {
	_, err := r.parse()
	return err
}

// Kind returns "vault", "file" or "env", or "" for what is no reference.
func (r Ref) Kind() string {
	p, err := r.parse()
	if err != nil {
		return ""
	}
	return p.kind
}

func (r Ref) parse() (place, error) {
	kind, rest, found := strings.Cut(string(r), ":")
	switch {
	case r == "":
		return place{}, fmt.Errorf("%w: it is empty\nhint: %s", ErrRef, refForms)
	case found && kind == "vault":
		return parseVault(rest)
	case found && kind == "file":
		if !filepath.IsAbs(rest) || filepath.Clean(rest) != rest || strings.ContainsRune(rest, 0) {
			return place{}, fmt.Errorf("%w: after file: comes an absolute path without . and .. in it", ErrRef)
		}
		return place{kind: kind, path: rest}, nil
	case found && kind == "env":
		if !envName.MatchString(rest) {
			return place{}, fmt.Errorf("%w: after env: comes the name of a variable (letters, digits, _)", ErrRef)
		}
		return place{kind: kind, name: rest}, nil
	default:
		return place{}, fmt.Errorf("%w: it begins with none of vault:, file:, env:\nhint: %s", ErrRef, refForms)
	}
}

const refForms = "use vault:PATH#FIELD, file:/PATH or env:NAME; the secret itself does not belong here"

func parseVault(rest string) (place, error) {
	path, field, found := strings.Cut(rest, "#")
	if !found || !vaultField.MatchString(field) {
		return place{}, fmt.Errorf("%w: vault:PATH must end with #FIELD (letters, digits, _ . -)", ErrRef)
	}
	p := place{kind: "vault", path: path, field: field}
	if mount, inner, two := strings.Cut(path, "//"); two {
		p.mount, p.path = mount, inner
		if !plainPath(mount) {
			return place{}, fmt.Errorf("%w: what is before // is not the mount of a KV engine", ErrRef)
		}
	}
	if !plainPath(p.path) {
		return place{}, fmt.Errorf("%w: the path must be names of letters, digits and _ . @ : - with single slashes between", ErrRef)
	}
	return p, nil
}

// plainPath leaves out what means something else in a URL or a policy: wildcards, dots alone, escapes.
func plainPath(path string) bool {
	if !vaultSegments.MatchString(path) {
		return false
	}
	for _, segment := range strings.Split(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// String returns the reference, or "[redacted]" if it is none.
func (r Ref) String() string {
	if r != "" && r.Validate() != nil {
		return redacted
	}
	return string(r)
}

// Format prints what String returns.
func (r Ref) Format(f fmt.State, verb rune) {
	if verb == 'p' || verb == 'd' {
		verb = 's'
	}
	_, _ = io.WriteString(f, fmt.Sprintf(fmt.FormatString(f, verb), r.String()))
}

// MarshalText returns what String returns.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

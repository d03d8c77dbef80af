// Package secrets keeps the keys at hand: read from Vault, files or the environment in the background, and there without
// a wait when a request needs them.
//
// A [Keyring] holds a snapshot of each secret: its current version, and superseded ones for a grace, so that a rotation
// refuses nobody. What cannot be read again stays as it was for some time, because a store that is down has not changed
// its mind; what was deleted or destroyed is gone with the next refresh, because that is what somebody wanted.
package secrets

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// The defaults of a Config.
const (
	DefaultRefresh  = 30 * time.Second
	DefaultMaxStale = 24 * time.Hour
	DefaultMount    = "kv"
)

// MaxVersions is how many versions of a secret are held at most.
const MaxVersions = 3

// What callers may want to tell apart. The text that comes with them says more, and never the secret. The last three are
// about Vault.
var (
	ErrUnknown     = errors.New("no secret of this name is configured")
	ErrNotLoaded   = errors.New("not loaded yet")
	ErrStale       = errors.New("not read for longer than max_stale")
	ErrNoCurrent   = errors.New("no version is valid any more")
	ErrDeleted     = errors.New("the current version is deleted or destroyed")
	ErrEmpty       = errors.New("the secret is empty")
	ErrMissing     = errors.New("not there")
	ErrDenied      = errors.New("permission denied")
	ErrSealed      = errors.New("it is sealed")
	ErrThrottled   = errors.New("its rate limit is reached")
	ErrUnreachable = errors.New("it does not answer")
)

// Config says which secrets there are and where. Its zero values are useful but for Refs.
type Config struct {
	Refs  map[string]Ref // name → where it is
	Vault Vault

	Refresh  time.Duration // how often each secret is read again, give or take a tenth; 0 means 30 s
	Grace    time.Duration // how long a superseded version stays valid; 0 means not at all
	MaxStale time.Duration // how long a secret is used that cannot be read again; 0 means 24 h
	MinBytes int           // a shorter value is refused; an empty one always is

	Log        zerolog.Logger
	Registerer prometheus.Registerer // nil keeps the metrics to itself
	Now        func() time.Time      // nil means time.Now
}

// Version is one value of a secret.
type Version struct {
	ID      string // Vault's number, "file-" and a time, or "env"; for logs and ledgers
	Secret  Secret
	Created time.Time // when it was written, by Vault's clock or a file's; zero where nobody knows, as of the environment
	Expires time.Time // it is not valid from then on; zero means that no end is known
}

// Snapshot is what was known of a secret at one time. It is never changed.
type Snapshot struct {
	Versions []Version // newest first, values differ; at least one
	Fetched  time.Time // when the place where it is kept last answered fully
}

func (c Config) withDefaults() Config {
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	if c.MaxStale == 0 {
		c.MaxStale = DefaultMaxStale
	}
	if c.Vault.Mount == "" {
		c.Vault.Mount = DefaultMount
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.MinBytes = max(c.MinBytes, 1)
	return c
}

// validate checks all but the references.
func (c Config) validate() error {
	switch {
	case c.Refresh < 0:
		return fmt.Errorf("secrets: refresh is %s; it must be above 0", c.Refresh)
	case c.Grace < 0:
		return fmt.Errorf("secrets: grace is %s; it must not be negative", c.Grace)
	case c.MaxStale < c.Refresh:
		return fmt.Errorf("secrets: max_stale (%s) is less than refresh (%s); every missed refresh would stop the sources", c.MaxStale, c.Refresh)
	case !plainPath(c.Vault.Mount):
		return errors.New("secrets: vault.mount is not the mount of a KV engine")
	}
	return nil
}

// usesVault says whether any of the references is to Vault.
func (c Config) usesVault() bool {
	for _, ref := range c.Refs {
		if ref.Kind() == "vault" {
			return true
		}
	}
	return false
}

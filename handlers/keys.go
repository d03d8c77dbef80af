package handlers

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

// Keyring is the part of secrets.Keyring that receiving needs. Current does no I/O.
type Keyring interface {
	Current(name string) (*secrets.Snapshot, error)
}

// Keys returns what Source.Keys wants: the named secret's versions as keys of the verifier, newest first. They are made
// once for each snapshot. A version that the verifier refuses (empty, too short, not in the scheme's encoding) is left
// out and logged once; when none is left, that is the error.
func Keys(ring Keyring, name string, v *verify.Verifier, log zerolog.Logger) func() ([]*verify.Key, error) {
	k := &preparedKeys{ring: ring, name: name, verifier: v, log: log, refused: map[string]bool{}}
	return k.keys
}

type preparedKeys struct {
	ring     Keyring
	name     string
	verifier *verify.Verifier
	log      zerolog.Logger
	latest   atomic.Pointer[prepared] // replaced, never edited

	mu      sync.Mutex      // held while keys are made; guards refused
	refused map[string]bool // versions that were logged
}

// prepared is a snapshot's keys, or why it has none.
type prepared struct {
	snapshot *secrets.Snapshot
	keys     []*verify.Key
	until    time.Time // when the first of them ends; zero if none does
	err      error
}

func (p *prepared) holds(snapshot *secrets.Snapshot, now time.Time) bool {
	return p != nil && p.snapshot == snapshot && (p.until.IsZero() || now.Before(p.until))
}

func (k *preparedKeys) keys() ([]*verify.Key, error) {
	snapshot, err := k.ring.Current(k.name)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if p := k.latest.Load(); p.holds(snapshot, now) {
		return p.keys, p.err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.latest.Load()
	if !p.holds(snapshot, now) {
		p = k.prepare(snapshot, now)
		k.latest.Store(p)
	}
	return p.keys, p.err
}

func (k *preparedKeys) prepare(snapshot *secrets.Snapshot, now time.Time) *prepared {
	p := &prepared{snapshot: snapshot}
	var causes []error
	for _, version := range snapshot.Versions {
		if ends := version.Expires; !ends.IsZero() {
			if !now.Before(ends) {
				continue
			}
			if p.until.IsZero() || ends.Before(p.until) {
				p.until = ends
			}
		}
		key, err := k.verifier.NewKey(version.ID, version.Secret.Reveal())
		if err != nil {
			causes = append(causes, fmt.Errorf("version %s: %w", version.ID, err))
			k.refuse(version.ID, err)
			continue
		}
		p.keys = append(p.keys, key)
	}
	if len(p.keys) == 0 {
		p.err = fmt.Errorf("secret %s: no version is usable: %w", k.name, errors.Join(causes...))
	}
	return p
}

func (k *preparedKeys) refuse(version string, err error) {
	if k.refused[version] {
		return
	}
	k.refused[version] = true
	k.log.Error().Str("source", k.name).Str("key_version", version).Err(err).
		Msg("a version of the secret cannot be used; hint: store it as the sender's console shows it")
}

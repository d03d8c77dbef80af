package secrets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fetch reads one secret now: a DSN, a password. Its current version must be there; older ones come with it as in a
// keyring. With a reference to Vault it logs in, and gives the token back.
func Fetch(ctx context.Context, c Config, ref Ref) (*Snapshot, error) {
	c.Refs = map[string]Ref{"": ref}
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	var u user
	if c.usesVault() {
		v, err := newVault(c)
		if err != nil {
			return nil, err
		}
		u = once{v}
	}
	return fetch(ctx, c, ref, u)
}

func fetch(ctx context.Context, c Config, ref Ref, u user) (*Snapshot, error) {
	o, err := c.origin(ref, u)
	if err != nil {
		return nil, err
	}
	a := o.read(ctx)
	if a.err != nil {
		return nil, a.err
	}
	return &Snapshot{Versions: a.versions, Fetched: c.Now()}, nil
}

// Check does once, in the foreground, what a keyring does: it asks Vault how it is, logs in and reads every secret. Its
// error has a line for each thing that is wrong, with a hint what to do.
func Check(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return err
	}
	if !c.usesVault() {
		return c.checkEach(ctx, nil)
	}
	v, t, err := c.enter(ctx)
	if err != nil {
		return errors.Join(err, c.checkEach(ctx, nil))
	}
	defer v.revoke(ctx, t)
	return c.checkEach(ctx, holder{v, t})
}

// enter logs in to a Vault that is well.
func (c Config) enter(ctx context.Context) (*vault, *token, error) {
	v, err := newVault(c)
	if err != nil {
		return nil, nil, err
	}
	if err := v.sealedOrDown(ctx); err != nil {
		return nil, nil, err
	}
	t, err := v.method.login(ctx, v.client)
	return v, t, err
}

// checkEach reads every secret; without a user of Vault, those that are elsewhere.
func (c Config) checkEach(ctx context.Context, u user) error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(c.Refs)) {
		if u == nil && c.Refs[name].Kind() == "vault" {
			continue
		}
		if _, err := fetch(ctx, c, c.Refs[name], u); err != nil {
			wrong = append(wrong, fmt.Errorf("secret %s: %w", name, err))
		}
	}
	return errors.Join(wrong...)
}

// Policy returns the least that the token must be allowed, in Vault's language: to read the secrets of the
// configuration, their list of versions, and to renew and give back itself. References that are none are left out.
func Policy(c Config) string {
	c = c.withDefaults()
	paths := map[string]bool{}
	for _, ref := range c.Refs {
		if p, err := ref.parse(); err == nil && p.kind == "vault" {
			o := c.kvOrigin(p, nil)
			paths[o.dataPath()], paths[o.metadataPath()] = true, true
		}
	}
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		fmt.Fprintf(&b, "path %q { capabilities = [\"read\"] }\n", path)
	}
	for _, path := range []string{"auth/token/renew-self", "auth/token/revoke-self"} {
		fmt.Fprintf(&b, "path %q { capabilities = [\"update\"] }\n", path)
	}
	return b.String()
}

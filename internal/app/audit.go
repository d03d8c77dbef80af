package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/audit"
	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/store/sqlite"
	"github.com/rollcallhq/rollcall/secrets"
)

// Asked is a provider's API, and the key to it.
type Asked struct {
	Provider string
	URL      string // empty is the provider's own
	Key      secrets.Ref
}

// NewAudit opens what an audit compares: the provider's listing, and the application's database, in which nothing can be written. Of the
// configuration it needs application.dsn, inventory, tenant and protected. Whoever called it calls done.
func NewAudit(ctx context.Context, c config.Config, asked Asked, version string) (a audit.Audit, done func() error, err error) {
	if a.Listing, err = listing(ctx, c, asked, version); err != nil {
		return a, nil, err
	}
	db, err := openReadOnly(ctx, c)
	if err != nil {
		return a, nil, err
	}
	a.Application = inventory.Application{
		DB: db.SQL, Kind: db.Kind, Accounts: c.Application.Inventory.Accounts, Memberships: c.Application.Inventory.Memberships, Protected: c.Application.Protected,
	}
	if c.Application.Tenant.SQL != "" {
		b, err := binder.New(binder.Config{Database: db, Tenant: c.Application.Tenant.SQL, StatementTimeout: c.Application.StatementTimeout, Log: zerolog.Nop()})
		if err != nil {
			return a, nil, errors.Join(fmt.Errorf("%w: application: %w", config.ErrInvalid, err), db.SQL.Close())
		}
		a.Application.Tenant = b.Tenant
	}
	return a, db.SQL.Close, nil
}

// openReadOnly opens the application's database so that nothing can be written.
func openReadOnly(ctx context.Context, c config.Config) (*binder.Database, error) {
	if c.Application.DSN == "" {
		return nil, fmt.Errorf("%w: application.dsn: is empty\nhint: --dsn env:NAME of PostgreSQL's URL, of a user that may only read; or sqlite:PATH", config.ErrInvalid)
	}
	dsn, err := reveal(ctx, c, "application.dsn", c.Application.DSN)
	if err != nil {
		return nil, err
	}
	db := &binder.Database{Kind: binder.Postgres, Compile: postgres.Compile, Marks: postgres.Marks()}
	if path, file := strings.CutPrefix(dsn, "sqlite:"); file {
		db.Kind = binder.SQLite
		db.SQL, err = sqlite.OpenReadOnly(ctx, path, c.Application.StatementTimeout)
	} else {
		db.SQL, err = postgres.OpenReadOnly(dsn)
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// listing is the provider's API, which has not been asked yet.
func listing(ctx context.Context, c config.Config, asked Asked, version string) (provider.Listing, error) {
	newProvider, known := providers[asked.Provider]
	if !known {
		return nil, fmt.Errorf("%w: provider %q is not known\nhint: there is %s", config.ErrInvalid, asked.Provider, strings.Join(slices.Sorted(maps.Keys(providers)), ", "))
	}
	p := newProvider()
	if p.API == nil {
		return nil, fmt.Errorf("%w: provider %s has no API that lists users\nhint: an audit needs one", config.ErrInvalid, asked.Provider)
	}
	if err := asked.Key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: the API key: %w", config.ErrInvalid, err)
	}
	key, err := reveal(ctx, c, "the API key", config.Sensitive(asked.Key))
	if err != nil {
		return nil, err
	}
	api, err := p.API(provider.APIConfig{URL: asked.URL, Key: func() (string, error) { return key, nil }, UserAgent: "rollcall/" + version, Log: zerolog.Nop()})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	return api, nil
}

package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/rehearsal"
)

// Rehearse plays what happens to people against the application's database at the DSN, with the bindings of the
// configuration, and undoes all of it: these situations only, when any are named. Its own records are in a file of a temporary
// folder.
func Rehearse(ctx context.Context, c config.Config, dsn, organization string, only ...string) (cases []rehearsal.Case, err error) {
	dir, err := os.MkdirTemp("", "rollcall-rehearsal-")
	if err != nil {
		return nil, fmt.Errorf("rehearse: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := ApplicationAt(ctx, c, dsn, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.SQL.Close()) }()
	c.Environment, c.Application.Mode = "rehearsal", config.Enforce
	c.Store = config.Default().Store
	c.Store.Path = filepath.Join(dir, "rehearsal.db")
	s, err := OpenStore(ctx, c, "rehearsal")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := prepare(ctx, s, true); err != nil {
		return nil, err
	}
	conf := rehearsal.Config{
		Store: s, Database: db, Organization: organization, Only: only,
		Binder: func(db *binder.Database) (*binder.Binder, error) {
			quiet := c
			quiet.Application.Bindings = append(withoutPosts(c.Application.Bindings), signIn(c)...)
			return NewBinder(quiet, s, db, zerolog.Nop(), nil)
		},
		Active: listed(c, db.Kind), Tenants: c.Application.Tenant.SQL != "", Problems: PrepareInventory(ctx, c, db),
	}
	for _, r := range c.Application.Roles {
		if n := min(len(r.Groups), 2); n > len(conf.RoleGroups) && len(r.Directories) == 0 {
			conf.Role, conf.RoleGroups = r.Role, r.Groups[:n]
		}
	}
	for _, b := range signIn(c) {
		conf.SignIn = append(conf.SignIn, b.Name)
	}
	return rehearsal.Run(ctx, conf)
}

// withoutPosts leaves out what cannot be undone.
func withoutPosts(all []config.Binding) (out []config.Binding) {
	for _, b := range all {
		if b.Post == "" {
			out = append(out, b)
		}
	}
	return out
}

// signIn returns the statements by which people use the application, each as a binding on no kind of change.
func signIn(c config.Config) (out []config.Binding) {
	for i, text := range c.Application.Rehearsal.SignIn {
		out = append(out, config.Binding{Name: fmt.Sprintf("application.rehearsal.sign_in[%d]", i), SQL: []string{text}})
	}
	return out
}

// listed returns what asks the application's inventory for the ids of its active users; nil when there is no statement.
func listed(c config.Config, kind string) func(ctx context.Context, db *sql.DB) (map[string]bool, error) {
	if c.Application.Inventory.Accounts == "" {
		return nil
	}
	return func(ctx context.Context, db *sql.DB) (map[string]bool, error) {
		active := ids{}
		err := inventory.Application{DB: db, Kind: kind, Accounts: c.Application.Inventory.Accounts}.Read(ctx, active)
		return active, err
	}
}

// ids are those of the accounts that an inventory lists.
type ids map[string]bool

func (i ids) Account(a inventory.Account)   { i[a.ID] = true }
func (ids) Protected(string)                {}
func (ids) Membership(inventory.Membership) {}

package main

import (
	"context"
	"errors"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// withApplication runs a command on the database and on the application's.
func (c *cli) withApplication(ctx context.Context, do func(store.Store, inventory.Application) error) error {
	return c.withConfiguredStore(ctx, func(l config.Loaded, s store.Store) (err error) {
		a, done, err := app.Inventory(ctx, l.Config)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		return do(s, a)
	})
}

package binder

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Act runs the statements of a binding for an account as it is now, whatever kinds of changes the binding is on, and returns
// how many rows they touched: for a rehearsal, in which people do something. No mark is written, and the store does not learn
// of it. ErrNotFound: there is no such account.
func (b *Binder) Act(ctx context.Context, name string, account directory.ID, link store.Link) (rows int64, err error) {
	row, err := b.account(ctx, account)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(b.bindings, func(x *binding) bool { return x.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("binding %q: %w", name, store.ErrNotFound)
	}
	s, ctx, err := b.begin(ctx, false)
	if err != nil {
		return 0, err
	}
	defer s.undo()
	v := values{change: told(row, directory.AccountUpdated, b.Now()), link: link, owners: b.Owners}
	for n, st := range b.bindings[i].statements {
		touched, err := s.exec(ctx, st, v)
		if err != nil {
			return 0, fmt.Errorf("%s, statement %d: %w", name, n+1, err)
		}
		rows += touched
	}
	return rows, s.commit(ctx)
}

package store

import (
	"context"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Expand does the next chunk of an expansion, at most limit members of it, in a transaction of its own. It returns what that
// saved; there is nothing in it when the expansion was finished already.
func Expand(ctx context.Context, s Store, p PendingExpansion, limit int) (saved Batch, err error) {
	err = s.Update(ctx, []directory.Scope{p.Scope}, func(ctx context.Context, tx Tx) error {
		c, err := tx.LoadExpansion(ctx, p.ID, limit)
		if err != nil {
			return err
		}
		if p.Group == "" {
			c.State.EvaluateAccounts(p.Expansion, c.Members)
		} else {
			c.State.EvaluateMembers(p.Expansion, c.Members)
		}
		saved = Batch{Delta: c.State.TakeDelta(), Progress: c.progress()}
		return tx.Save(ctx, saved)
	})
	if err != nil {
		return Batch{}, err
	}
	return saved, nil
}

// progress is how far the expansion is after the chunk.
func (c Chunk) progress() ExpansionProgress {
	p := ExpansionProgress{ID: c.ID, Cursor: c.Cursor, Members: len(c.Members), Finished: c.Last}
	if len(c.Members) > 0 {
		p.Cursor = c.Members[len(c.Members)-1]
	}
	return p
}

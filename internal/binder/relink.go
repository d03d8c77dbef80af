package binder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

const linksAtOnce = 100

// lookAgain looks up links whose time has come, and tells what the application was not told of those that were found.
func (b *Binder) lookAgain(ctx context.Context) (wrong error) {
	for ctx.Err() == nil {
		due, err := b.Store.LinksDue(ctx, b.Now(), linksAtOnce)
		if err != nil || len(due) == 0 {
			return errors.Join(wrong, err)
		}
		moved := 0
		found := map[directory.Scope][]store.Link{}
		for _, link := range due {
			if link.State == store.Linked {
				found[link.Scope] = append(found[link.Scope], link)
				continue
			}
			looked, failed := b.lookAt(ctx, link.ID)
			if failed != nil && !trouble(failed) {
				failed = errors.Join(failed, b.Store.SaveLink(ctx, nil, b.later(link)))
				moved++
			}
			if looked {
				moved++
			}
			err = errors.Join(err, failed)
		}
		for scope, links := range found {
			failed := b.tell(ctx, scope, links)
			err = errors.Join(err, failed)
			moved += len(links)
		}
		wrong = errors.Join(wrong, err)
		if err != nil && trouble(err) || moved == 0 {
			return wrong
		}
	}
	return wrong
}

// lookAt looks one link up again, under the lock of its account. It reports whether it did: somebody else may work on it.
func (b *Binder) lookAt(parent context.Context, account directory.ID) (bool, error) {
	row, err := b.account(parent, account)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	s, ctx, err := b.begin(parent, false)
	if err != nil {
		return false, err
	}
	defer s.undo()
	a := b.newAttempt(s, false)
	l, err := a.dueLink(ctx, account)
	if err != nil || l == nil {
		return false, err
	}
	link, err := a.resolve(ctx, values{change: told(row, directory.AccountUpdated, b.Now()), owners: b.Owners}, "")
	if err != nil {
		return false, fmt.Errorf("look account %s up again: %w", account.ID, err)
	}
	link.ID = account
	if l.link, err = a.keep(ctx, l, link); err != nil {
		if errors.Is(err, errAgain) {
			err = nil
		}
		return false, err
	}
	if err := a.saveLooked(ctx, l); err != nil {
		return false, err
	}
	if err := a.finish(parent, ctx); err != nil {
		return false, err
	}
	if a.tell {
		poke(b.found)
	}
	return true, nil
}

// dueLink locks an account's lane and returns it, with its link, or nil when there is nothing to look up any more.
func (a *attempt) dueLink(ctx context.Context, account directory.ID) (*lane, error) {
	key := store.Lane{Scope: account.Scope, Account: account.ID}
	mine, err := a.session.claim(ctx, store.Bound, []store.Lane{key})
	if err != nil || len(mine) == 0 {
		return nil, err
	}
	l := a.lane(key)
	if err := a.loadLinks(ctx, mine); err != nil {
		return nil, err
	}
	if !l.known || l.link.State == store.Linked {
		return nil, nil
	}
	return l, nil
}

// tell says again, by new changes, how the accounts of a directory are that were linked after changes of theirs had been
// settled without it. It is done before the links are noted as told: at worst it is said twice.
func (b *Binder) tell(ctx context.Context, scope directory.Scope, links []store.Link) error {
	modes, err := b.Store.Modes(ctx)
	if err != nil {
		return err
	}
	for _, m := range modes {
		if m.Scope == scope && m.Mode != store.Observe {
			err = b.Store.Update(ctx, []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
				return b.saveNet(ctx, tx, links)
			})
		}
	}
	if err != nil {
		return fmt.Errorf("tell %d accounts of %s again: %w", len(links), scope.Directory, err)
	}
	for _, link := range links {
		if err := b.noteTold(ctx, link); err != nil {
			return err
		}
	}
	poke(b.woken[0])
	poke(b.woken[1])
	return nil
}

func (b *Binder) saveNet(ctx context.Context, tx store.Tx, links []store.Link) error {
	var batch store.Batch
	for _, link := range links {
		row, err := b.account(ctx, link.ID)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		ever, err := b.everGiven(ctx, link.ID)
		if err != nil {
			return err
		}
		batch.Delta.Changes = append(batch.Delta.Changes, netState(row, ever, b.Now())...)
	}
	return tx.Save(ctx, batch)
}

// noteTold ends what was to be done for a link, unless it is another one meanwhile.
func (b *Binder) noteTold(ctx context.Context, link store.Link) error {
	key := store.Lane{Scope: link.Scope, Account: link.ID.ID}
	now, err := b.Store.LinksOf(ctx, nil, []store.Lane{key})
	if err != nil || now[key].State != store.Linked || now[key].AppID != link.AppID || now[key].Tenant != link.Tenant {
		return err
	}
	link.Next = time.Time{}
	return b.Store.SaveLink(ctx, nil, link)
}

// everGiven returns the grants and roles that any change ever gave an account, whatever came of it: the last of each.
func (b *Binder) everGiven(ctx context.Context, account directory.ID) (given []directory.Change, err error) {
	f := store.ChangeFilter{Source: account.Source, Directory: account.Directory, Account: account.ID, Limit: 1000}
	place := map[[2]string]int{}
	for {
		changes, err := b.Store.Changes(ctx, f)
		if err != nil || len(changes) == 0 {
			return given, err
		}
		for _, c := range changes {
			f.After = c.Seq
			if c.Kind != directory.GrantAdded && c.Kind != directory.RoleAdded {
				continue
			}
			thing := [2]string{c.Group, c.Role}
			i, known := place[thing]
			if !known {
				place[thing] = len(given)
				given = append(given, c.Change)
				continue
			}
			given[i] = c.Change
		}
	}
}

// netState are the changes that tell all there is to tell of an account: what it is not given any more first, of all that it
// was ever given.
func netState(row store.AccountRow, ever []directory.Change, now time.Time) []directory.Change {
	of := func(kind directory.ChangeKind) directory.Change {
		c := told(row, kind, now.UTC().Truncate(time.Microsecond)).Change
		c.Event = "link:" + row.ID.ID + ":" + c.Occurred.Format(time.RFC3339Nano)
		return c
	}
	changes := []directory.Change{of(directory.AccountDeactivated)}
	if row.EffectivelyActive {
		changes[0] = of(directory.AccountActivated)
	}
	for _, c := range ever {
		kind, has := directory.GrantRevoked, slices.ContainsFunc(row.Groups, func(g store.GroupRow) bool { return g.ID == c.Group })
		if c.Role != "" {
			kind, has = directory.RoleRevoked, slices.Contains(row.Roles, c.Role)
		}
		if has && row.EffectivelyActive {
			continue
		}
		lost := of(kind)
		lost.Group, lost.Role, lost.Before, lost.After = c.Group, c.Role, lost.After, nil
		lost.Before.GroupName = face(c).GroupName
		changes = append(changes, lost)
	}
	if !row.EffectivelyActive {
		return changes
	}
	for _, group := range row.Groups {
		c := of(directory.GrantAdded)
		c.Group, c.After.GroupName = group.ID, group.Name
		changes = append(changes, c)
	}
	for _, role := range row.Roles {
		c := of(directory.RoleAdded)
		c.Role = role
		changes = append(changes, c)
	}
	return changes
}

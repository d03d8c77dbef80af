package binder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// The ways in which a link was found.
const (
	byID      = "id"
	byEmail   = "email"
	byBinding = "binding" // a binding made the row
	missed    = "missed"  // it was not found, and changes were settled without it: they are told again when it is

	rollcall = "rollcall" // who found it
)

// find looks up which row of the application's a lane is about, unless that is known or nothing depends on it.
func (a *attempt) find(ctx context.Context, l *lane) error {
	if a.Database == nil || len(l.changes) == 0 || l.link.State == store.Linked {
		return nil
	}
	account := a.Link != nil && l.key.Account != ""
	if !a.runs(l) && (!account || !l.begins()) {
		return nil
	}
	l.asked = account
	err := a.guard(ctx, "link", func() error {
		v := values{change: l.changes[len(l.changes)-1].ChangeRow, owners: a.Owners}
		if !account {
			return a.findTenant(ctx, l, v)
		}
		link, err := a.resolve(ctx, v, "")
		if err != nil {
			return err
		}
		l.link, err = a.keep(ctx, l, link)
		return err
	})
	if errors.Is(err, errAgain) && a.apart {
		l.changes = nil
		return nil
	}
	if i := next(l.changes, a.now); err != nil && a.apart && !a.fatal(err) && !errors.Is(err, errLost) && i >= 0 {
		a.fail(l, i, fmt.Errorf("look up the application's account: %w", err))
		l.changes = nil // the others come in transactions of their own
		return nil
	}
	return err
}

// begins reports whether one of the changes makes the account known.
func (l *lane) begins() bool {
	for _, c := range l.changes {
		if gives(c.Kind) {
			return true
		}
	}
	return false
}

func (a *attempt) findTenant(ctx context.Context, l *lane, v values) error {
	tenants, err := a.tenantsOf(ctx, v)
	if err != nil {
		return err
	}
	if len(tenants) > 1 {
		return fmt.Errorf("tenant.sql: the organization has several tenants: %s", strings.Join(tenants, ", "))
	}
	l.link.Tenant = strings.Join(tenants, "")
	return nil
}

// findMade looks a link up again after a binding has run that may have made the row.
func (a *attempt) findMade(ctx context.Context, l *lane, v values) error {
	if a.Link == nil || l.key.Account == "" || l.link.State == store.Linked {
		return nil
	}
	link, err := a.resolve(ctx, v, l.link.Tenant)
	if err != nil {
		return err
	}
	if link.State == store.Linked && !l.missed { // otherwise somebody else made the row, just now
		link.How = byBinding
	}
	if link, err = a.keep(ctx, l, link); err != nil {
		return err
	}
	l.link = link
	if link.State.Held() {
		return errHeld
	}
	return nil
}

// keep makes a link that was found the account's, when no other account of the directory has that row: then it is Taken.
// What is not linked is saved when the lane is done.
func (a *attempt) keep(ctx context.Context, l *lane, link store.Link) (store.Link, error) {
	if l.known && !a.dry {
		if decided, err := a.decided(ctx, a.store, link.ID); err != nil || decided.State == store.Linked {
			return decided, err
		}
	}
	l.looked = true
	if l.link.State != store.Linked && l.link.How == missed {
		l.missed = true
	}
	if link.State != store.Linked {
		link.Tries = l.link.Tries
		return link, nil
	}
	if l.missed {
		link.Next = a.now
	}
	err := a.shared(ctx, link)
	if err != nil {
		return link, err
	}
	switch {
	case a.dry, a.store == nil && a.wrote:
		// What the transaction sees may be its own, and not stay.
		if err = a.taken(ctx, link); err == nil && !a.dry {
			a.links = append(a.links, link)
		}
	default:
		err = a.Store.SaveLink(ctx, a.store, link)
	}
	if errors.Is(err, store.ErrTaken) {
		return takenLink(link, err), nil
	}
	a.tell = a.tell || !link.Next.IsZero()
	l.looked = err != nil
	return link, err
}

// alone keeps others from giving the person anything until the transaction ends; shared, from taking anything away, and is for
// whoever gives: what they do, and a link that they make, is not seen before.
func (a *attempt) alone(ctx context.Context, link store.Link) error {
	return a.lock(ctx, "pg_try_advisory_xact_lock", link)
}

func (a *attempt) shared(ctx context.Context, link store.Link) error {
	return a.lock(ctx, "pg_try_advisory_xact_lock_shared", link)
}

func (a *attempt) lock(ctx context.Context, try string, link store.Link) error {
	if a.dry || a.Database.Kind == SQLite { // whose transaction is the lock of all
		return nil
	}
	mine, err := tryLocks(ctx, a.session, try, person, []store.Lane{{Account: link.AppID, Group: link.Tenant}})
	if err == nil && len(mine) == 0 {
		err = errAgain
	}
	return err
}

// person is no track: the locks of those whom links name.
const person store.Track = "person"

// taken is ErrTaken when another account of the directory is linked with the row, or is to be once this transaction is
// committed.
func (a *attempt) taken(ctx context.Context, link store.Link) error {
	other, err := a.Store.Holder(ctx, a.store, link)
	for _, l := range a.links {
		if l.State == store.Linked && l.Scope == link.Scope && l.Tenant == link.Tenant && l.AppID == link.AppID && l.ID != link.ID {
			other = l.ID.ID
		}
	}
	if err == nil && other != "" {
		err = fmt.Errorf("link account %s with %s: it is account %s: %w", link.ID.ID, link.AppID, other, store.ErrTaken)
	}
	return err
}

func takenLink(link store.Link, err error) store.Link {
	link.State, link.Detail, link.How = store.Taken, err.Error(), ""
	return link
}

// saveLinks saves what was found, after the commit, in one transaction of the store's. One to a row that another account got
// meanwhile is saved as Taken.
func (a *attempt) saveLinks(ctx context.Context) error {
	return a.Store.SaveLinks(ctx, a.links, func(link store.Link, err error) store.Link { return a.later(takenLink(link, err)) })
}

// decided returns the account's link as it is now: an operator may have decided while it was looked up, and that stays.
func (b *Binder) decided(ctx context.Context, s store.Session, account directory.ID) (store.Link, error) {
	key := store.Lane{Scope: account.Scope, Account: account.ID}
	links, err := b.Store.LinksOf(ctx, s, []store.Lane{key})
	return links[key], err
}

// saveLooked saves a link that was looked up and not found, with the time to look again. When nothing was settled without it,
// and it is not held, there is nothing to keep.
func (a *attempt) saveLooked(ctx context.Context, l *lane) error {
	if !l.looked || a.dry || l.link.State == store.Linked || !l.known && !l.missed && !l.link.State.Held() {
		return nil
	}
	if decided, err := a.decided(ctx, a.store, l.link.ID); err != nil || decided.State == store.Linked {
		return err
	}
	if l.missed {
		l.link.How = missed
	}
	if l.link.State.Held() && !l.known {
		a.Log.Error().Str("source", l.key.Source).Str("directory", l.key.Directory).Str("account", l.key.Account).Str("state", string(l.link.State)).
			Str("why", l.link.Detail).Msg("it is not known which of the application's accounts this is: its changes wait; see `rollcall links`")
	}
	l.link = a.later(l.link)
	if a.store == nil {
		a.links = append(a.links, l.link)
		return nil
	}
	return a.Store.SaveLink(ctx, a.store, l.link)
}

// later counts a look and says when to look again.
func (b *Binder) later(link store.Link) store.Link {
	link.Next = b.Now().Add(backoff(b.LinkRetry, linkLongest, link.Tries))
	link.Tries++
	return link
}

// unlessInherited returns the link of an account that is not active to a row that was found by its address, unless an active account
// of the directory has that address now: then it is not known whose the row is.
func (a *attempt) unlessInherited(ctx context.Context, link store.Link) (store.Link, error) {
	active := true
	rows, err := a.Store.Accounts(ctx, store.AccountFilter{Source: link.Source, Directory: link.Directory, Email: link.Email, Active: &active})
	for _, row := range rows {
		if row.ID != link.ID {
			link.State, link.Detail = store.Ambiguous, fmt.Sprintf("link.by_email gives %s, and %s, who is active, has the same address", link.AppID, row.ID.ID)
			link.AppID, link.How = "", ""
			break
		}
	}
	return link, err
}

// resolve asks the application which row an account is. A tenant that is known already is not asked for.
func (a *attempt) resolve(ctx context.Context, v values, tenant string) (store.Link, error) {
	c := v.change
	link := store.Link{ID: directory.ID{Scope: c.Scope, ID: c.Account}, State: store.Unlinked, Tenant: tenant, By: rollcall, Email: face(c.Change).Email}
	if tenant == "" && a.tenant != nil {
		tenants, err := a.tenantsOf(ctx, v)
		switch {
		case err != nil:
			return link, err
		case len(tenants) == 0:
			link.State, link.Detail = store.Unmapped, fmt.Sprintf("tenant.sql gives no row for organization %q", face(c.Change).Organization)
			return link, nil
		case len(tenants) > 1:
			link.State, link.Detail = store.Ambiguous, "tenant.sql gives several tenants: "+strings.Join(tenants, ", ")
			return link, nil
		}
		link.Tenant = tenants[0]
	}
	v.link = store.Link{Tenant: link.Tenant}
	for _, way := range []struct {
		how, name string
		statement *statement
	}{{byID, "link.sql", a.link}, {byEmail, "link.by_email", a.byEmail}} {
		if way.statement == nil || way.how == byEmail && link.Email == "" {
			continue
		}
		ids, err := a.look(ctx, way.name, *way.statement, v)
		switch {
		case err != nil:
			return link, err
		case len(ids) > 1:
			link.State, link.Detail = store.Ambiguous, way.name+" gives several rows: "+strings.Join(ids, ", ")
			return link, nil
		case len(ids) == 1:
			link.State, link.AppID, link.How = store.Linked, ids[0], way.how
			if way.how == byEmail && !face(c.Change).Active {
				return a.unlessInherited(ctx, link)
			}
			return link, nil
		}
	}
	return link, nil
}

// tenantsOf returns the tenants of the change's organization, by what tenant.sql gave in this transaction before, if it did.
func (a *attempt) tenantsOf(ctx context.Context, v values) ([]string, error) {
	if a.tenant == nil {
		return nil, nil
	}
	key := fmt.Sprint(v.args(a.tenant.names)...)
	if known, ok := a.tenants[key]; ok {
		return known, nil
	}
	found, err := a.look(ctx, "tenant.sql", *a.tenant, v)
	if err == nil && !a.wrote {
		a.tenants[key] = found
	}
	return found, err
}

// Tenant asks for the application's tenant of an organization. It is not known where there is none, or more than one.
func (b *Binder) Tenant(ctx context.Context, organization string) (tenant string, known bool, err error) {
	about := values{change: store.ChangeRow{Change: directory.Change{After: &directory.Face{Organization: organization}}}}
	err = b.read(ctx, func(ctx context.Context, a *attempt) error {
		found, err := a.tenantsOf(ctx, about)
		if known = len(found) == 1; known {
			tenant = found[0]
		}
		return err
	})
	return tenant, known, err
}

// severalRows is how many rows of a lookup are read: one is an answer, and more are named.
const severalRows = 5

// look returns what a lookup gives. How it fares is part of the status.
func (a *attempt) look(ctx context.Context, name string, st statement, v values) ([]string, error) {
	found, _, err := a.session.texts(ctx, st, v, severalRows, severalRows)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		if a.apart && !a.dry && !trouble(err) {
			a.health.failed(name, err, a.Log)
		}
		return nil, err
	}
	a.health.worked(name)
	return found, nil
}

// Lookup asks the application which row an account is, as it is known now, and stores nothing. ErrNotFound: there is no such
// account.
func (b *Binder) Lookup(ctx context.Context, account directory.ID) (store.Link, error) {
	if b.Link == nil {
		return store.Link{}, errors.New("no link is configured\nhint: application.link says which row of the application's users an account is")
	}
	row, err := b.account(ctx, account)
	if err != nil {
		return store.Link{}, err
	}
	var link store.Link
	err = b.read(ctx, func(ctx context.Context, a *attempt) error {
		link, err = a.resolve(ctx, values{change: told(row, directory.AccountUpdated, b.Now()), owners: b.Owners}, "")
		if err == nil && link.State == store.Linked {
			if err = a.taken(ctx, link); errors.Is(err, store.ErrTaken) {
				link, err = takenLink(link, err), nil
			}
		}
		return err
	})
	link.Active = row.EffectivelyActive
	return link, err
}

// read runs fn in a transaction that is undone.
func (b *Binder) read(ctx context.Context, fn func(ctx context.Context, a *attempt) error) error {
	s, ctx, err := b.begin(ctx, true)
	if err != nil {
		return err
	}
	defer s.undo()
	a := b.newAttempt(s, true)
	a.dry, a.store = true, nil
	return fn(ctx, a)
}

// account returns an account as it is now, or ErrNotFound.
func (b *Binder) account(ctx context.Context, id directory.ID) (store.AccountRow, error) {
	rows, err := b.Store.Accounts(ctx, store.AccountFilter{Source: id.Source, Directory: id.Directory, Key: id.ID, Limit: 1})
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("account %s of %s: %w", id.ID, id.Directory, store.ErrNotFound)
	}
	if err != nil {
		return store.AccountRow{}, err
	}
	return rows[0], nil
}

// told is a change that tells an account as it is now.
func told(row store.AccountRow, kind directory.ChangeKind, now time.Time) store.ChangeRow {
	return store.ChangeRow{Change: directory.Change{Scope: row.Scope, Kind: kind, Account: row.ID.ID, Occurred: now, After: &directory.Face{
		User: row.User, IDPID: row.IDPID, Organization: row.Organization, State: row.State, Active: row.EffectivelyActive, Profile: row.Profile,
	}}}
}

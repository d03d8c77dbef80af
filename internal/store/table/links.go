package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

const (
	linkColumns = `source, directory, account_key, state, app_id, tenant, how, detail, changed_at, changed_by, tries, next_at`
	linkRows    = `source text, directory text, account_key text, state text, app_id text, tenant text, how text, detail text, changed_at timestamptz, changed_by text, tries int, next_at timestamptz`
	sameAccount = `.source = l.source AND %[1]s.directory = l.directory AND %[1]s.account_key = l.account_key`
)

var scanLink = fields(func(l *store.Link) []any {
	return []any{
		&l.Source, &l.Directory, &l.ID.ID, &l.State, &l.AppID, &l.Tenant, &l.How, &l.Detail, moment{&l.Changed}, &l.By, &l.Tries, moment{&l.Next},
		&l.Email, &l.Active,
	}
})

// linkFaces are the columns of scanLink: of links l, their accounts a, and v, those of them that are active.
var linkFaces = Prefix("l", linkColumns) + `, coalesce(a.email, ''), v.account_key IS NOT NULL`

// ofAccount joins a table or view by the account of the link l.
func (b Binding) ofAccount(alias, name string) string {
	return ` LEFT JOIN ` + b.in(name) + ` ` + alias + ` ON ` + alias + fmt.Sprintf(sameAccount, alias)
}

func (b Binding) faces() string {
	return b.ofAccount("a", "accounts") + b.ofAccount("v", "active_accounts")
}

// heldState says that a link is held.
const heldState = `state IN ('ambiguous', 'unmapped', 'taken')`

// Links implements store.Binding: by source, directory and account.
func (b Binding) Links(ctx context.Context, f store.LinkFilter) ([]store.Link, error) {
	q := Reader{Dialect: b.Dialect}.from(linkFaces, "links l"+b.faces())
	q.equal("l.source", f.Source)
	q.equal("l.directory", f.Directory)
	q.equal("l.state", string(f.State))
	if f.Held {
		q.and("l." + heldState)
	}
	if f.Who != "" {
		q.and("(l.account_key = %s OR l.app_id = %s OR a.idp_id = %s OR a.user_id = %s OR lower(a.email) = lower(%s))", f.Who)
	}
	text, args := q.end("l.source, l.directory, l.account_key", f.Limit)
	return ask(ctx, b.Read, "links", scanLink, text, args...)
}

// LinksOf implements store.Binding.
func (b Binding) LinksOf(ctx context.Context, s store.Session, lanes []store.Lane) (map[store.Lane]store.Link, error) {
	out := map[store.Lane]store.Link{}
	if len(lanes) == 0 {
		return out, nil
	}
	found, err := ask(ctx, b.reader(s), "links", scanLink, `SELECT `+linkFaces+` FROM (SELECT `+Prefix("r", linkColumns)+` FROM `+b.Dialect.Rows(1, laneRows)+
		b.Dialect.Each(linkColumns, "links", "", `r.source = k.source AND r.directory = k.directory AND r.account_key = k.account_key`)+`) l`+b.faces(), laneArg(lanes))
	for _, l := range found {
		out[store.Lane{Scope: l.Scope, Account: l.ID.ID}] = l
	}
	return out, err
}

// SaveLink implements store.Binding as one statement. Two at once for one row must not both run it; what keeps them apart is
// the database's own.
func (b Binding) SaveLink(ctx context.Context, s store.Session, l store.Link) error {
	if l.Changed.IsZero() {
		l.Changed = time.Now()
	}
	// A row at a time by its index: as a join it would be the whole table, every time.
	taken := `SELECT o.account_key FROM ` + b.in("links") + ` o WHERE o.state = 'linked' AND o.source = k.source AND o.directory = k.directory AND o.tenant = k.tenant
		AND o.app_id = k.app_id AND o.account_key <> k.account_key AND k.state = 'linked'`
	arg := rows([]store.Link{l}, func(l store.Link) map[string]any {
		return map[string]any{
			"source": l.Source, "directory": l.Directory, "account_key": l.ID.ID, "state": l.State, "app_id": l.AppID, "tenant": l.Tenant, "how": l.How,
			"detail": directory.Text(l.Detail, maxError), "changed_at": b.at(l.Changed), "changed_by": l.By, "tries": l.Tries, "next_at": b.at(l.Next),
		}
	})
	n, err := affected(b.writer(s).ExecContext(ctx, `INSERT INTO `+b.in("links")+` (`+linkColumns+`) SELECT `+Prefix("k", linkColumns)+` FROM `+b.Dialect.Rows(1, linkRows)+`
		WHERE (`+taken+` LIMIT 1) IS NULL ON CONFLICT (source, directory, account_key) DO UPDATE SET state = excluded.state, app_id = excluded.app_id, tenant = excluded.tenant,
		how = excluded.how, detail = excluded.detail, changed_at = excluded.changed_at, changed_by = excluded.changed_by, tries = excluded.tries, next_at = excluded.next_at
		WHERE links.state <> 'linked' OR (excluded.state = 'linked' AND (links.how <> 'operator' OR excluded.how = 'operator' OR links.app_id = excluded.app_id))`, arg))
	if err != nil {
		return fmt.Errorf("save the link of account %s: %w", l.ID.ID, err)
	}
	if n > 0 || l.State != store.Linked {
		return nil
	}
	other, err := ask(ctx, b.writer(s), "the link that was first", fields(func(key *string) []any { return []any{key} }),
		`SELECT t.account_key FROM `+b.Dialect.Rows(1, linkRows)+` JOIN `+b.in("links")+` t ON t.source = k.source AND t.directory = k.directory AND t.tenant = k.tenant
		AND t.app_id = k.app_id AND t.state = 'linked'`, arg)
	if err != nil {
		return err
	}
	if len(other) == 0 || other[0] == l.ID.ID {
		return fmt.Errorf("link account %s with %s: %w", l.ID.ID, l.AppID, store.ErrConflict)
	}
	return fmt.Errorf("link account %s with %s: it is account %s: %w", l.ID.ID, l.AppID, other[0], store.ErrTaken)
}

// SaveLinks implements store.Binding where SaveLink needs nothing more.
func (b Binding) SaveLinks(ctx context.Context, links []store.Link, taken func(store.Link, error) store.Link) error {
	return b.SaveEach(ctx, links, taken, b.SaveLink)
}

// SaveEach saves links in one transaction by save, rows in the order of their names, so that two who do so never wait for each
// other.
func (b Binding) SaveEach(ctx context.Context, links []store.Link, taken func(store.Link, error) store.Link, save func(context.Context, store.Session, store.Link) error) error {
	if len(links) == 0 {
		return nil
	}
	links = slices.SortedFunc(slices.Values(links), func(a, b store.Link) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Directory, b.Directory), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.AppID, b.AppID))
	})
	tx, err := b.Write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("save %d links: %w", len(links), err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, l := range links {
		err := save(ctx, tx, l)
		if errors.Is(err, store.ErrTaken) {
			err = save(ctx, tx, taken(l, err))
		}
		if err != nil {
			return err
		}
	}
	return wrap(fmt.Sprintf("save %d links", len(links)), tx.Commit())
}

// Holder implements store.Binding.
func (b Binding) Holder(ctx context.Context, s store.Session, l store.Link) (string, error) {
	keys, err := ask(ctx, b.reader(s), "who has a row", fields(func(key *string) []any { return []any{key} }),
		`SELECT account_key FROM `+b.in("links")+` WHERE source = `+b.mark(1)+` AND directory = `+b.mark(2)+` AND tenant = `+b.mark(3)+` AND app_id = `+b.mark(4)+
			` AND state = 'linked' AND account_key <> `+b.mark(5)+` LIMIT 1`, l.Source, l.Directory, l.Tenant, l.AppID, l.ID.ID)
	if err != nil || len(keys) == 0 {
		return "", err
	}
	return keys[0], nil
}

// DropLink implements store.Binding.
func (b Binding) DropLink(ctx context.Context, account directory.ID) error {
	n, err := affected(b.Write.ExecContext(ctx, `UPDATE `+b.in("links")+` SET state = 'none', app_id = '', tenant = '', how = 'missed', detail = '', tries = 0, next_at = `+b.Dialect.Now+`
		WHERE source = `+b.mark(1)+` AND directory = `+b.mark(2)+` AND account_key = `+b.mark(3), account.Source, account.Directory, account.ID))
	return wrap("drop the link of account "+account.ID, there(n, err))
}

// Hurry implements store.Binding.
func (b Binding) Hurry(ctx context.Context, account directory.ID) error {
	_, err := b.Write.ExecContext(ctx, `UPDATE `+b.in("changes")+` SET bound_next = NULL, posted_next = NULL
		WHERE source = `+b.mark(1)+` AND directory = `+b.mark(2)+` AND account_key = `+b.mark(3)+` AND (bound_at IS NULL OR posted_at IS NULL)`,
		account.Source, account.Directory, account.ID)
	return wrap("hurry what waits of account "+account.ID, err)
}

// there makes nothing touched ErrNotFound.
func there(n int, err error) error {
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}

// LinksDue implements store.Binding.
func (b Binding) LinksDue(ctx context.Context, now time.Time, limit int) ([]store.Link, error) {
	q := Reader{Dialect: b.Dialect}.from(linkFaces, "links l"+b.faces())
	q.and("l.next_at <= %s", b.Dialect.Time(now))
	text, args := q.end("l.next_at, l.source, l.directory, l.account_key", limit)
	return ask(ctx, b.Read, "links to look up again", scanLink, text, args...)
}

// Siblings implements store.Binding: by source, directory and account. An account whose directory has ended is not active.
func (b Binding) Siblings(ctx context.Context, s store.Session, l store.Link) ([]store.Sibling, error) {
	return ask(ctx, b.reader(s), "other accounts of "+l.AppID, fields(func(o *store.Sibling) []any {
		return []any{&o.Source, &o.Directory, &o.ID.ID, &o.Mode, document{&o.Roles}}
	}), `SELECT l.source, l.directory, l.account_key, coalesce(m.mode, ''), a.roles FROM `+b.in("links")+` l`+b.faces()+`
		LEFT JOIN `+b.in("modes")+` m ON m.source = l.source AND m.directory = l.directory
		WHERE l.state = 'linked' AND l.app_id = `+b.mark(1)+` AND l.tenant = `+b.mark(2)+` AND v.account_key IS NOT NULL
			AND NOT (l.source = `+b.mark(3)+` AND l.directory = `+b.mark(4)+` AND l.account_key = `+b.mark(5)+`)
		ORDER BY l.source, l.directory, l.account_key`, l.AppID, l.Tenant, l.Source, l.Directory, l.ID.ID)
}

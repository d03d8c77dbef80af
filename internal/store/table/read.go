package table

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Reader implements store.Reader but for Check.
type Reader struct {
	DB      *sql.DB
	Dialect Dialect
}

// query is a SELECT that grows conditions.
type query struct {
	d     Dialect
	text  strings.Builder
	args  []any
	where bool
}

func (r Reader) from(columns, table string) *query {
	q := &query{d: r.Dialect}
	fmt.Fprintf(&q.text, "SELECT %s FROM %s%s", columns, r.Dialect.Schema, table)
	return q
}

// and adds a condition, in which %s stands for the argument, if there is one.
func (q *query) and(condition string, arg ...any) {
	word := " AND "
	if !q.where {
		word, q.where = " WHERE ", true
	}
	q.args = append(q.args, arg...)
	q.text.WriteString(word + strings.ReplaceAll(condition, "%s", q.d.Mark(len(q.args))))
}

// equal adds a condition for a text that is not empty.
func (q *query) equal(column, value string) {
	if value != "" {
		q.and(column+" = %s", value)
	}
}

func (q *query) end(order string, limit int) (string, []any) {
	if limit == 0 {
		limit = 50
	}
	q.args = append(q.args, limit)
	return q.text.String() + " ORDER BY " + order + " LIMIT " + q.d.Mark(len(q.args)), q.args
}

func list[T any](ctx context.Context, r Reader, what string, text string, args []any, scan func(Scanner) (T, error)) ([]T, error) {
	rows, err := r.DB.QueryContext(ctx, text, args...)
	out, err := All(rows, err, scan)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return out, nil
}

func (q *query) between(column string, since, until time.Time) {
	if !since.IsZero() {
		q.and(column+" >= %s", q.d.Time(since))
	}
	if !until.IsZero() {
		q.and(column+" < %s", q.d.Time(until))
	}
}

// Events implements store.Reader.
func (r Reader) Events(ctx context.Context, f store.EventFilter) ([]store.Entry, error) {
	q := r.from(EventColumns, "events")
	q.equal("source", f.Source)
	q.equal("directory", f.Directory)
	q.equal("type", f.Type)
	q.equal("subject", f.Subject)
	q.equal("outcome", string(f.Outcome))
	q.between("received", f.Since, f.Until)
	text, args := q.end("received DESC, source, id", f.Limit)
	return list(ctx, r, "the ledger", text, args, ScanEntry)
}

// Event implements store.Reader.
func (r Reader) Event(ctx context.Context, source, id string) (store.Entry, error) {
	q := r.from(EventColumns, "events")
	q.equal("source", source)
	q.and("id = %s", id)
	text, args := q.end("source", 1)
	return first(ctx, r, "event "+id, text, args, ScanEntry)
}

func first[T any](ctx context.Context, r Reader, what string, text string, args []any, scan func(Scanner) (T, error)) (T, error) {
	found, err := list(ctx, r, what, text, args, scan)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: %w", what, store.ErrNotFound)
	}
	if err != nil {
		var none T
		return none, err
	}
	return found[0], nil
}

// DeadEvents implements store.Reader.
func (r Reader) DeadEvents(ctx context.Context, f store.EventFilter) ([]store.Dead, error) {
	q := r.from(strings.Replace(DeadColumns, " body,", " NULL,", 1), "dead_events")
	q.equal("source", f.Source)
	q.equal("directory", f.Directory)
	q.equal("type", f.Type)
	q.equal("class", f.Class)
	q.between("received", f.Since, f.Until)
	text, args := q.end("received DESC, source, id", f.Limit)
	return list(ctx, r, "dead events", text, args, ScanDead)
}

// DeadEvent implements store.Reader.
func (r Reader) DeadEvent(ctx context.Context, source, id string) (store.Dead, error) {
	q := r.from(DeadColumns, "dead_events")
	q.equal("source", source)
	q.and("id = %s", id)
	text, args := q.end("source", 1)
	return first(ctx, r, "dead event "+id, text, args, ScanDead)
}

// Due implements store.Store.
func (r Reader) Due(ctx context.Context, now time.Time, limit int) ([]store.Dead, error) {
	q := r.from(DeadColumns, "dead_events")
	q.and("due_at <= %s", r.Dialect.Time(now))
	text, args := q.end("due_at, source, id", limit)
	return list(ctx, r, "deferred events", text, args, ScanDead)
}

// Expansions implements store.Store.
func (r Reader) Expansions(ctx context.Context, limit int) ([]store.PendingExpansion, error) {
	q := r.from(ExpansionColumns, "expansions")
	q.text.WriteString(" WHERE id IN (SELECT min(id) FROM " + r.Dialect.Schema + "expansions WHERE finished_at IS NULL GROUP BY source, directory)")
	text, args := q.end("id", limit)
	return list(ctx, r, "expansions", text, args, ScanExpansion)
}

// Accounts implements store.Reader.
func (r Reader) Accounts(ctx context.Context, f store.AccountFilter) ([]store.AccountRow, error) {
	q := r.from(Prefix("a", AccountColumns)+", a.changed_at, v.account_key IS NOT NULL",
		"accounts a LEFT JOIN "+r.Dialect.Schema+"active_accounts v ON v.source = a.source AND v.directory = a.directory AND v.account_key = a.account_key")
	q.equal("a.source", f.Source)
	q.equal("a.directory", f.Directory)
	q.equal("a.account_key", f.Key)
	if f.Email != "" {
		q.and("lower(a.email) = lower(%s)", f.Email)
	}
	if f.Who != "" {
		q.and("(a.account_key = %s OR a.idp_id = %s OR a.user_id = %s OR lower(a.email) = lower(%s))", f.Who)
	}
	if f.Active != nil {
		q.and("(v.account_key IS NOT NULL) = %s", *f.Active)
	}
	text, args := q.end("a.source, a.directory, a.account_key", f.Limit)
	accounts, err := list(ctx, r, "accounts", text, args, func(row Scanner) (a store.AccountRow, err error) {
		err = row.Scan(append(accountDest(&a.Account), moment{&a.Changed}, &a.EffectivelyActive)...)
		return a, err
	})
	for i := range accounts {
		if err == nil {
			accounts[i].Groups, err = r.groups(ctx, accounts[i].ID)
		}
	}
	return accounts, err
}

func (r Reader) groups(ctx context.Context, account directory.ID) ([]store.GroupRow, error) {
	q := r.from("group_id, group_name", "effective_grants")
	q.and("source = %s", account.Source)
	q.and("directory = %s", account.Directory)
	q.and("account_key = %s", account.ID)
	text, args := q.end("group_id", 10_000)
	return list(ctx, r, "grants", text, args, func(row Scanner) (g store.GroupRow, err error) {
		err = row.Scan(&g.ID, &g.Name)
		return g, err
	})
}

// Changes implements store.Reader.
func (r Reader) Changes(ctx context.Context, f store.ChangeFilter) ([]store.ChangeRow, error) {
	q := r.from("seq, at, "+ChangeColumns, "changes")
	q.equal("source", f.Source)
	q.equal("directory", f.Directory)
	q.equal("account_key", f.Account)
	q.equal("event", f.Event)
	q.and("seq > %s", f.After)
	order := "seq"
	if f.Newest {
		order = "seq DESC"
	}
	text, args := q.end(order, f.Limit)
	changes, err := list(ctx, r, "changes", text, args, ScanChange)
	if f.Newest {
		slices.Reverse(changes)
	}
	return changes, err
}

// Dump implements store.Reader.
func (r Reader) Dump(ctx context.Context) (d directory.Delta, err error) {
	return d, errors.Join(
		dump(ctx, r, &d.Directories, DirectoryColumns, "directories", "source, directory", ScanDirectory),
		dump(ctx, r, &d.Users, UserColumns, "users", "source, directory, user_id", ScanUser),
		dump(ctx, r, &d.Groups, GroupColumns, "groups", "source, directory, group_id", ScanGroup),
		dump(ctx, r, &d.Edges, EdgeColumns, "memberships", "source, directory, group_id, user_id", ScanEdge),
		dump(ctx, r, &d.Accounts, AccountColumns, "accounts", "source, directory, account_key", ScanAccount),
		dump(ctx, r, &d.Granted, GrantColumns, "grants", "source, directory, account_key, group_id", ScanGrant),
	)
}

func dump[T any](ctx context.Context, r Reader, into *[]T, columns, table, order string, scan func(Scanner) (T, error)) (err error) {
	*into, err = list(ctx, r, table, "SELECT "+columns+" FROM "+r.Dialect.Schema+table+" ORDER BY "+order, nil, scan)
	return err
}

// Held implements store.Reader.
func (r Reader) Held(ctx context.Context) ([]directory.Register, error) {
	ended, err := list(ctx, r, "held directories",
		"SELECT "+DirectoryColumns+" FROM "+r.Dialect.Schema+"directories WHERE removed AND NOT ended ORDER BY source, directory", nil, ScanDirectory)
	return slices.DeleteFunc(ended, func(d directory.Register) bool { return !d.Held() }), err
}

// Summary implements store.Reader.
func (r Reader) Summary(ctx context.Context) (store.Summary, error) {
	s := store.Summary{Events: map[store.Outcome]int64{}}
	schema := r.Dialect.Schema
	count := func(into *int64, from string) error {
		return r.DB.QueryRowContext(ctx, "SELECT count(*) FROM "+schema+from).Scan(into)
	}
	type outcome struct {
		name store.Outcome
		n    int64
	}
	outcomes, err := list(ctx, r, "outcomes", "SELECT outcome, count(*) FROM "+schema+"events GROUP BY outcome", nil, func(row Scanner) (o outcome, err error) {
		err = row.Scan(&o.name, &o.n)
		return o, err
	})
	for _, o := range outcomes {
		s.Events[o.name] = o.n
	}
	held, heldErr := r.Held(ctx)
	for _, d := range held {
		s.HeldDirectories = append(s.HeldDirectories, d.Scope)
	}
	return s, errors.Join(err, heldErr,
		r.DB.QueryRowContext(ctx, "SELECT max(folded) FROM "+schema+"events").Scan(moment{&s.LastFolded}),
		r.DB.QueryRowContext(ctx, "SELECT value FROM "+schema+"meta WHERE name = 'environment'").Scan(&s.Environment),
		count(&s.Dead, "dead_events WHERE due_at IS NULL"), count(&s.Deferred, "dead_events WHERE due_at IS NOT NULL"),
		count(&s.Accounts, "accounts"), count(&s.ActiveAccounts, "active_accounts"), count(&s.Grants, "effective_grants"),
		count(&s.Changes, "changes"), count(&s.Expansions, "expansions WHERE finished_at IS NULL"),
	)
}

package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

// upsert writes rows given as one array a column; key is how many of the columns are the primary key. Rows come sorted,
// so that two writers lock them in the same order.
func (t *tx) upsert(name, columns string, key int, types string, arrays ...any) {
	names := strings.Split(columns, ", ")
	casts := strings.Fields(types)
	marks := make([]string, len(casts))
	for i, c := range casts {
		marks[i] = dialect.Mark(i+1) + "::" + c + "[]"
	}
	update := " DO NOTHING"
	if key < len(names) {
		sets := make([]string, 0, len(names))
		for _, n := range names[key:] {
			sets = append(sets, n+" = excluded."+n)
		}
		update = " DO UPDATE SET " + strings.Join(sets, ", ")
	}
	t.saves.Queue(`INSERT INTO rollcall.`+name+` (`+columns+`) SELECT * FROM unnest(`+strings.Join(marks, ", ")+`)
		ON CONFLICT (`+strings.Join(names[:key], ", ")+`)`+update, arrays...)
}

// Save implements store.Tx. It queues; errors come from Update.
func (t *tx) Save(_ context.Context, b store.Batch) error {
	now := time.Now()
	t.saveLedger(b.Ledger, now)
	t.saveDead(b.Dead, now)
	t.saveRegisters(b.Delta)
	t.saveAccounts(b.Delta, now)
	t.saveChanges(b.Delta, now)
	t.saveProgress(b.Progress)
	return nil
}

func (t *tx) saveLedger(entries []store.Entry, now time.Time) {
	var fresh []store.Entry
	for _, e := range entries {
		if e.Reopen {
			t.saves.Queue(`DELETE FROM rollcall.events WHERE source = $1 AND id = $2 AND outcome IN ('ignored', 'parked')`, e.Source, e.ID)
			t.saves.Queue(`DELETE FROM rollcall.dead_events WHERE source = $1 AND id = $2`, e.Source, e.ID)
		}
		if e.Folded.IsZero() {
			e.Folded = now
		}
		fresh = append(fresh, e)
	}
	if len(fresh) == 0 {
		return
	}
	text := func(f func(e store.Entry) string) []string { return column(fresh, f) }
	at := func(f func(e store.Entry) time.Time) []*time.Time {
		return column(fresh, func(e store.Entry) *time.Time { return moment(f(e)) })
	}
	t.saves.Queue(`INSERT INTO rollcall.events (`+table.EventColumns+`) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
		$6::text[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[],
		$15::text[], $16::text[], $17::text[])`,
		text(func(e store.Entry) string { return e.Source }), text(func(e store.Entry) string { return e.ID }),
		text(func(e store.Entry) string { return e.Type }), text(func(e store.Entry) string { return e.Subject }),
		text(func(e store.Entry) string { return e.Directory }), text(func(e store.Entry) string { return e.Organization }),
		at(func(e store.Entry) time.Time { return e.Occurred }), at(func(e store.Entry) time.Time { return e.Received }),
		at(func(e store.Entry) time.Time { return e.Folded }), text(func(e store.Entry) string { return e.Origin }),
		text(func(e store.Entry) string { return string(e.Outcome) }), text(func(e store.Entry) string { return e.Reason }),
		text(func(e store.Entry) string { return e.KeyVersion }), at(func(e store.Entry) time.Time { return e.SignedAt }),
		text(func(e store.Entry) string { return e.BodySHA256 }), text(func(e store.Entry) string { return e.Binary }),
		text(func(e store.Entry) string { return e.Config }))
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (t *tx) saveDead(dead []store.Dead, now time.Time) {
	for _, d := range dead {
		if d.Parked.IsZero() {
			d.Parked = now
		}
		body := d.Body
		if body == nil {
			body = []byte{}
		}
		// One may be left of an entry that the ledger's retention took: the ledger alone says whether an event is new.
		t.saves.Queue(`DELETE FROM rollcall.dead_events WHERE source = $1 AND id = $2`, d.Source, d.ID)
		t.saves.Queue(`INSERT INTO rollcall.dead_events (`+table.DeadColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
			d.Source, d.ID, d.Type, d.Directory, d.Class, d.Error, body, d.Origin, d.Received, d.KeyVersion, moment(d.SignedAt), d.Parked, moment(d.Due), d.Attempts)
	}
}

func (t *tx) saveRegisters(d directory.Delta) {
	if rows := d.Directories; len(rows) > 0 {
		text := func(f func(r directory.Register) string) []string { return column(rows, f) }
		t.upsert("directories", table.DirectoryColumns, 2, "text text text text text text text bool text text text bool text",
			text(func(r directory.Register) string { return r.Source }), text(func(r directory.Register) string { return r.Directory }),
			text(func(r directory.Register) string { return r.Organization }), text(func(r directory.Register) string { return r.Name }),
			text(func(r directory.Register) string { return r.Type }), text(func(r directory.Register) string { return r.State }),
			text(func(r directory.Register) string { return string(r.Version) }), column(rows, func(r directory.Register) bool { return r.Removed }),
			text(func(r directory.Register) string { return string(r.Floor) }), text(func(r directory.Register) string { return string(r.Decision) }),
			text(func(r directory.Register) string { return string(r.DecisionVersion) }), column(rows, func(r directory.Register) bool { return r.Ended }),
			text(func(r directory.Register) string { return string(r.EndFloor) }))
	}
	if rows := d.Users; len(rows) > 0 {
		text := func(f func(u directory.User) string) []string { return column(rows, f) }
		t.upsert("users", table.UserColumns, 3, "text text text text text bool text text text text text jsonb text text timestamptz text",
			text(func(u directory.User) string { return u.Source }), text(func(u directory.User) string { return u.Directory }),
			text(func(u directory.User) string { return u.ID.ID }), text(func(u directory.User) string { return u.Organization }),
			text(func(u directory.User) string { return string(u.Version) }), column(rows, func(u directory.User) bool { return u.Active }),
			text(func(u directory.User) string { return u.State }), text(func(u directory.User) string { return u.Email }),
			text(func(u directory.User) string { return u.FirstName }), text(func(u directory.User) string { return u.LastName }),
			text(func(u directory.User) string { return u.Name }), column(rows, func(u directory.User) *string { return document(table.Attributes(u.Profile)) }),
			text(func(u directory.User) string { return u.Identity }), text(func(u directory.User) string { return u.IDPID }),
			column(rows, func(u directory.User) *time.Time { return moment(u.Created) }), text(func(u directory.User) string { return u.AccountKey() }))
	}
	if rows := d.Groups; len(rows) > 0 {
		text := func(f func(g directory.Group) string) []string { return column(rows, f) }
		t.upsert("groups", table.GroupColumns, 3, "text text text text text text bool text text text",
			text(func(g directory.Group) string { return g.Source }), text(func(g directory.Group) string { return g.Directory }),
			text(func(g directory.Group) string { return g.ID.ID }), text(func(g directory.Group) string { return g.Organization }),
			text(func(g directory.Group) string { return g.IDPID }), text(func(g directory.Group) string { return string(g.Version) }),
			column(rows, func(g directory.Group) bool { return g.Removed }), text(func(g directory.Group) string { return string(g.Floor) }),
			text(func(g directory.Group) string { return g.Name }), text(func(g directory.Group) string { return string(g.NameVersion) }))
	}
	if rows := d.Edges; len(rows) > 0 {
		text := func(f func(e directory.Edge) string) []string { return column(rows, f) }
		t.upsert("memberships", table.EdgeColumns, 4, "text text text text text bool",
			text(func(e directory.Edge) string { return e.Source }), text(func(e directory.Edge) string { return e.Directory }),
			text(func(e directory.Edge) string { return e.Group }), text(func(e directory.Edge) string { return e.User }),
			text(func(e directory.Edge) string { return string(e.Version) }), column(rows, func(e directory.Edge) bool { return e.Present }))
	}
}

// document is a JSON text as an element of an array.
func document(v any) *string {
	if s, ok := v.(string); ok {
		return &s
	}
	return nil
}

func (t *tx) saveAccounts(d directory.Delta, now time.Time) {
	if rows := d.Accounts; len(rows) > 0 {
		text := func(f func(a directory.Account) string) []string { return column(rows, f) }
		t.upsert("accounts", table.AccountColumns+", changed_at", 3,
			"text text text text text text text text text text text jsonb bool text text timestamptz jsonb timestamptz",
			text(func(a directory.Account) string { return a.Source }), text(func(a directory.Account) string { return a.Directory }),
			text(func(a directory.Account) string { return a.ID.ID }), text(func(a directory.Account) string { return a.User }),
			text(func(a directory.Account) string { return a.Organization }), text(func(a directory.Account) string { return a.IDPID }),
			text(func(a directory.Account) string { return a.State }), text(func(a directory.Account) string { return a.Email }),
			text(func(a directory.Account) string { return a.FirstName }), text(func(a directory.Account) string { return a.LastName }),
			text(func(a directory.Account) string { return a.Name }), column(rows, func(a directory.Account) *string { return document(table.Attributes(a.Profile)) }),
			column(rows, func(a directory.Account) bool { return a.Active }), text(func(a directory.Account) string { return string(a.Version) }),
			text(func(a directory.Account) string { return a.TombUser }), column(rows, func(a directory.Account) *time.Time { return moment(a.TombCreated) }),
			column(rows, func(a directory.Account) *string { return document(table.Roles(a.Roles)) }),
			column(rows, func(directory.Account) time.Time { return now }))
	}
	if rows := d.Granted; len(rows) > 0 {
		text := func(f func(g directory.Grant) string) []string { return column(rows, f) }
		t.saves.Queue(`INSERT INTO rollcall.grants (`+table.GrantColumns+`, granted_at)
			SELECT *, $6::timestamptz FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[])
			ON CONFLICT (source, directory, account_key, group_id) DO UPDATE SET roles = excluded.roles`,
			text(func(g directory.Grant) string { return g.Source }), text(func(g directory.Grant) string { return g.Directory }),
			text(func(g directory.Grant) string { return g.Account }), text(func(g directory.Grant) string { return g.Group }),
			column(rows, func(g directory.Grant) *string { return document(table.Roles(g.Roles)) }), now)
	}
	if rows := d.Revoked; len(rows) > 0 {
		text := func(f func(g directory.GrantID) string) []string { return column(rows, f) }
		t.saves.Queue(`DELETE FROM rollcall.grants r USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k(source, directory, account_key, group_id)
			WHERE r.source`+same+` AND r.account_key = k.account_key COLLATE "C" AND r.group_id = k.group_id COLLATE "C"`,
			text(func(g directory.GrantID) string { return g.Source }), text(func(g directory.GrantID) string { return g.Directory }),
			text(func(g directory.GrantID) string { return g.Account }), text(func(g directory.GrantID) string { return g.Group }))
	}
}

// saveChanges numbers the changes in their order: the lock makes the numbers of one directory rise with time.
func (t *tx) saveChanges(d directory.Delta, now time.Time) {
	if rows := d.Changes; len(rows) > 0 {
		text := func(f func(c directory.Change) string) []string { return column(rows, f) }
		t.saves.Queue(`INSERT INTO rollcall.changes (at, `+table.ChangeColumns+`)
			SELECT $1, source, directory, kind, account_key, group_id, role, event, occurred, before, after
			FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::jsonb[], $11::jsonb[])
			WITH ORDINALITY AS k(source, directory, kind, account_key, group_id, role, event, occurred, before, after, n) ORDER BY n`, now,
			text(func(c directory.Change) string { return c.Source }), text(func(c directory.Change) string { return c.Directory }),
			text(func(c directory.Change) string { return string(c.Kind) }), text(func(c directory.Change) string { return c.Account }),
			text(func(c directory.Change) string { return c.Group }), text(func(c directory.Change) string { return c.Role }),
			text(func(c directory.Change) string { return c.Event }),
			column(rows, func(c directory.Change) time.Time { return c.Occurred }),
			column(rows, func(c directory.Change) *string { return document(table.Face(c.Before)) }),
			column(rows, func(c directory.Change) *string { return document(table.Face(c.After)) }))
	}
	for _, x := range d.Expansions {
		t.saves.Queue(`INSERT INTO rollcall.expansions (source, directory, group_id, event, occurred, cursor, done, begun) VALUES ($1, $2, $3, $4, $5, '', 0, $6)`,
			x.Source, x.Directory, x.Group, x.Event, x.Occurred, now)
	}
}

func (t *tx) saveProgress(p store.ExpansionProgress) {
	if p.ID == 0 {
		return
	}
	t.saves.Queue(`UPDATE rollcall.expansions SET cursor = $2, done = done + $3, finished_at = CASE WHEN $4 THEN now() END WHERE id = $1 AND finished_at IS NULL`,
		p.ID, p.Cursor, p.Members, p.Finished)
}

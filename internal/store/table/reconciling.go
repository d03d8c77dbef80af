package table

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Reconciling implements store.Reconciling.
type Reconciling struct {
	DB      *sql.DB // writes
	ReadDB  *sql.DB
	Dialect Dialect
	Options *sql.TxOptions // of a comparison, which sees one moment
	Whole   string         // run first in a transaction that compares whole directories; "" is nothing
	Few     string         // run first in one that looks for few rows by their keys; "" is nothing
}

// said is a statement with the schema before the tables, which {} stands for, and the placeholders of the database.
func (r Reconciling) said(text string) string {
	text = strings.ReplaceAll(text, "{}", r.Dialect.Schema)
	for n := 9; n > 0; n-- {
		text = strings.ReplaceAll(text, "?"+strconv.Itoa(n), r.Dialect.Mark(n))
	}
	return text
}

func (r Reconciling) at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return r.Dialect.Time(t.UTC().Truncate(time.Microsecond))
}

const runColumns = `id, source, directory, trigger, begun, ended, complete, reason, skew_us, fence, users, groups, memberships, active, kinds, digest`

var scanRun = func(row Scanner) (r store.Run, err error) {
	var skew int64
	err = row.Scan(&r.ID, &r.Source, &r.Directory, &r.Trigger, moment{&r.Begun}, moment{&r.Ended}, &r.Complete, &r.Reason, &skew, moment{&r.Fence},
		&r.Users, &r.Groups, &r.Memberships, &r.Active, document{&r.Kinds}, &r.Digest)
	r.Skew = time.Duration(skew) * time.Microsecond
	return r, err
}

// within runs fn in a transaction.
func within(ctx context.Context, db *sql.DB, o *sql.TxOptions, first string, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if first != "" {
		if _, err := tx.ExecContext(ctx, first); err != nil {
			return err
		}
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// BeginRun implements store.Reconciling.
func (r Reconciling) BeginRun(ctx context.Context, run store.Run, lease time.Time) error {
	err := within(ctx, r.DB, nil, "", func(tx *sql.Tx) error {
		over, err := ask(ctx, tx, "runs that never ended", fields(func(id *string) []any { return []any{id} }),
			r.said(`SELECT id FROM {}reconcile_runs WHERE source = ?1 AND directory = ?2 AND ended IS NULL AND lease < ?3`), run.Source, run.Directory, r.at(run.Begun))
		if err != nil {
			return err
		}
		for _, id := range over {
			if _, err := tx.ExecContext(ctx, r.said(`UPDATE {}reconcile_runs SET ended = ?2, reason = 'it never ended: its process stopped' WHERE id = ?1 AND ended IS NULL`), id, r.at(run.Begun)); err != nil {
				return err
			}
			if err := r.forget(ctx, tx, id, stagingTables); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, r.said(`DELETE FROM {}reconcile_runs WHERE ended < ?1`), r.at(run.Begun.Add(-store.RunRetention))); err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, r.said(`INSERT INTO {}reconcile_runs (id, source, directory, trigger, begun, lease, complete, reason, skew_us, users, groups, memberships, active, digest)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, false, '', 0, 0, 0, 0, 0, '') ON CONFLICT DO NOTHING`),
			run.ID, run.Source, run.Directory, run.Trigger, r.at(run.Begun), r.at(lease)))
		if err == nil && n == 0 {
			err = store.ErrRunning
		}
		return err
	})
	return wrap("begin a run of "+run.Directory, err)
}

var stagingTables = []string{"reconcile_users", "reconcile_groups", "reconcile_memberships", "reconcile_drift"}

func (r Reconciling) forget(ctx context.Context, tx *sql.Tx, run string, tables []string) error {
	for _, name := range tables {
		if _, err := tx.ExecContext(ctx, r.said(`DELETE FROM {}`+name+` WHERE run = ?1`), run); err != nil {
			return err
		}
	}
	return nil
}

// Stage implements store.Reconciling.
func (r Reconciling) Stage(ctx context.Context, run string, s store.Staged, lease time.Time) error {
	err := within(ctx, r.DB, nil, "", func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, r.said(`UPDATE {}reconcile_runs SET lease = ?2 WHERE id = ?1 AND ended IS NULL`), run, r.at(lease)))
		if err == nil && n == 0 {
			err = store.ErrRunLost
		}
		if err != nil {
			return err
		}
		return r.stage(ctx, tx, run, s)
	})
	return wrap(fmt.Sprintf("stage %d users, %d groups, %d memberships", len(s.Users), len(s.Groups), len(s.Memberships)), err)
}

// The columns of what is staged, as Dialect.Rows takes them.
const (
	stagedUsers  = `user_id text, organization text, active boolean, state text, email text, first_name text, last_name text, name text, attributes jsonb, idp_id text, created timestamptz, updated timestamptz`
	stagedGroups = `group_id text, organization text, idp_id text, name text, updated timestamptz`
	stagedEdges  = `group_id text, user_id text`
)

// stagedUser and its like are the JSON of a row; the names are the columns'.
type stagedUser struct {
	User         string          `json:"user_id"`
	Organization string          `json:"organization"`
	Active       bool            `json:"active"`
	State        string          `json:"state"`
	Email        string          `json:"email"`
	FirstName    string          `json:"first_name"`
	LastName     string          `json:"last_name"`
	Name         string          `json:"name"`
	Attributes   json.RawMessage `json:"attributes,omitempty"`
	IDPID        string          `json:"idp_id"`
	Created      any             `json:"created"`
	Updated      any             `json:"updated"`
}

type stagedGroup struct {
	Group        string `json:"group_id"`
	Organization string `json:"organization"`
	IDPID        string `json:"idp_id"`
	Name         string `json:"name"`
	Updated      any    `json:"updated"`
}

type stagedEdge struct {
	Group string `json:"group_id"`
	User  string `json:"user_id"`
}

func (r Reconciling) stage(ctx context.Context, tx *sql.Tx, run string, s store.Staged) error {
	users := make([]stagedUser, len(s.Users))
	for i, u := range s.Users {
		users[i] = stagedUser{
			User: u.ID, Organization: u.Organization, Active: u.Active, State: u.State, Email: u.Email, FirstName: u.FirstName, LastName: u.LastName, Name: u.Name,
			IDPID: u.IDPID, Created: r.at(u.Created), Updated: r.at(u.Updated),
		}
		if text, some := Attributes(u.Profile).(string); some {
			users[i].Attributes = json.RawMessage(text)
		}
	}
	groups := make([]stagedGroup, len(s.Groups))
	for i, g := range s.Groups {
		groups[i] = stagedGroup{Group: g.ID, Organization: g.Organization, IDPID: g.IDPID, Name: g.Name, Updated: r.at(g.Updated)}
	}
	edges := make([]stagedEdge, len(s.Memberships))
	for i, m := range s.Memberships {
		edges[i] = stagedEdge(m)
	}
	return firstOf(
		stageRows(ctx, r, tx, run, "reconcile_users", stagedUsers, users),
		stageRows(ctx, r, tx, run, "reconcile_groups", stagedGroups, groups),
		stageRows(ctx, r, tx, run, "reconcile_memberships", stagedEdges, edges),
	)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func stageRows[T any](ctx context.Context, r Reconciling, tx *sql.Tx, run, name, columns string, list []T) error {
	if len(list) == 0 {
		return nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	names := columnNames(columns)
	_, err = tx.ExecContext(ctx, r.said(`INSERT INTO {}`+name+` (run, `+names+`) SELECT ?1, `+Prefix("k", names)+` FROM `)+r.Dialect.Rows(2, columns)+` WHERE true ON CONFLICT DO NOTHING`, run, string(text))
	return err
}

// columnNames are columns without their types.
func columnNames(columns string) string {
	var names []string
	for _, c := range strings.Split(columns, ", ") {
		name, _, _ := strings.Cut(c, " ")
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// StagedGroups implements store.Reconciling.
func (r Reconciling) StagedGroups(ctx context.Context, run, after string, limit int) ([]string, error) {
	return ask(ctx, r.ReadDB, "listed groups", fields(func(id *string) []any { return []any{id} }),
		r.said(`SELECT group_id FROM {}reconcile_groups WHERE run = ?1 AND group_id > ?2 ORDER BY group_id LIMIT ?3`), run, after, limit)
}

// EndRun implements store.Reconciling.
func (r Reconciling) EndRun(ctx context.Context, run store.Run) error {
	err := within(ctx, r.DB, nil, r.Whole, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, r.said(`UPDATE {}reconcile_runs SET ended = ?2, complete = ?3, reason = ?4, skew_us = ?5, fence = ?6, users = ?7, groups = ?8, memberships = ?9
			WHERE id = ?1 AND ended IS NULL`), run.ID, r.at(run.Ended), run.Complete, run.Reason, run.Skew.Microseconds(), r.at(run.Fence), run.Users, run.Groups, run.Memberships))
		if err == nil && n == 0 {
			err = store.ErrRunLost
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, r.said(`UPDATE {}reconcile_runs SET active = ?2, kinds = ?3, digest = ?4 WHERE id = ?1`),
			run.ID, run.Active, JSON(run.Kinds, len(run.Kinds) == 0), run.Digest); err != nil {
			return err
		}
		return r.forget(ctx, tx, run.ID, stagingTables)
	})
	return wrap("end the run of "+run.Directory, err)
}

// Runs implements store.Reconciling.
func (r Reconciling) Runs(ctx context.Context, f store.RunFilter) ([]store.Run, error) {
	reader := Reader{DB: r.ReadDB, Dialect: r.Dialect}
	q := reader.from(runColumns, "reconcile_runs r")
	q.equal("r.id", f.ID)
	q.equal("r.source", f.Source)
	q.equal("r.directory", f.Directory)
	such := ""
	if f.Repairs {
		such += " AND n.trigger NOT IN ('" + store.TriggerPlan + "', '" + store.TriggerApply + "')"
	}
	if f.Compares {
		such += " AND n.trigger <> '" + store.TriggerApply + "'"
	}
	if f.Complete {
		such += " AND n.complete"
	}
	if f.Last {
		q.and("r.begun = (SELECT max(n.begun) FROM "+r.Dialect.Schema+"reconcile_runs n WHERE n.source = r.source AND n.directory = r.directory"+such+") AND %s", true)
	}
	if such != "" {
		q.and("%s"+strings.ReplaceAll(such, "n.", "r."), true)
	}
	text, args := q.end("r.begun DESC, r.id", f.Limit)
	return list(ctx, reader, "runs", text, args, scanRun)
}

// KnownDirectory implements store.Reconciling.
func (r Reconciling) KnownDirectory(ctx context.Context, scope directory.Scope) (k store.KnownDirectory, err error) {
	found, err := ask(ctx, r.ReadDB, "the directory", ScanDirectory, r.said(`SELECT `+DirectoryColumns+` FROM {}directories WHERE source = ?1 AND directory = ?2`), scope.Source, scope.Directory)
	if err != nil {
		return k, err
	}
	k.Scope = scope
	if len(found) > 0 {
		k.Register = found[0]
	}
	err = r.ReadDB.QueryRowContext(ctx, r.said(`SELECT count(CASE WHEN u.active THEN 1 END), count(CASE WHEN u.active THEN NULL ELSE 1 END),
			(SELECT count(*) FROM {}groups g WHERE g.source = ?1 AND g.directory = ?2 AND g.version <> '' AND NOT g.removed)
		FROM {}users u WHERE u.source = ?1 AND u.directory = ?2`), scope.Source, scope.Directory).Scan(&k.Active, &k.Inactive, &k.Groups)
	return k, wrap("count what is known of "+scope.Directory, err)
}

// Seen implements store.Reconciling.
func (r Reconciling) Seen(ctx context.Context, scope directory.Scope, registers []store.RegisterKey) (seen []directory.Version, err error) {
	if len(registers) == 0 {
		return nil, nil
	}
	type key struct {
		N     int    `json:"n"`
		Group string `json:"group_id"`
		User  string `json:"user_id"`
	}
	keys := make([]key, len(registers))
	for i, k := range registers {
		keys[i] = key{i, k.Group, k.User}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	seen = make([]directory.Version, len(registers))
	of := func(alias string) string {
		return fmt.Sprintf("%[1]s.source = ?2 AND %[1]s.directory = ?3", alias)
	}
	statement := r.said(`SELECT k.n, CASE WHEN k.group_id = '' AND k.user_id = '' THEN (SELECT d.version FROM {}directories d WHERE `+of("d")+`)
			WHEN k.group_id = '' THEN (SELECT u.version FROM {}users u WHERE `+of("u")+` AND u.user_id = k.user_id)
			WHEN k.user_id = '' THEN (SELECT g.version FROM {}groups g WHERE `+of("g")+` AND g.group_id = k.group_id)
			ELSE (SELECT m.version FROM {}memberships m WHERE `+of("m")+` AND m.group_id = k.group_id AND m.user_id = k.user_id) END
		FROM `) + r.Dialect.Rows(1, "n bigint, group_id text, user_id text")
	err = within(ctx, r.ReadDB, nil, r.Few, func(tx *sql.Tx) error {
		type at struct {
			n       int
			version sql.NullString
		}
		found, err := ask(ctx, tx, "registers", fields(func(a *at) []any { return []any{&a.n, &a.version} }), statement, string(text), scope.Source, scope.Directory)
		for _, a := range found {
			seen[a.n] = directory.Version(a.version.String)
		}
		return err
	})
	return seen, wrap("look at what the registers are at", err)
}

// rankOf is the place of a kind in the order of findings, from 1.
func rankOf(k store.DriftKind) int { return slices.Index(store.DriftKinds, k) + 1 }

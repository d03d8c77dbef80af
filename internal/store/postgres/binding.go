package postgres

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

// jsonRows implements table.Dialect.Rows.
func jsonRows(n int, columns string) string {
	return `jsonb_to_recordset($` + strconv.Itoa(n) + `::jsonb) AS k(` + strings.ReplaceAll(columns, " text", ` text COLLATE "C"`) + `)`
}

// eachRow implements table.Dialect.Each. The planner cannot turn it around, whatever it thinks of the table.
func eachRow(columns, name, _, condition string) string {
	return ` CROSS JOIN LATERAL (SELECT ` + columns + ` FROM rollcall.` + name + ` r WHERE ` + condition + ` OFFSET 0) r`
}

// bySeq implements table.Dialect.Named. An array is few rows to the planner; a join could be anything.
func bySeq(column string, n int) string {
	return column + ` = ANY(ARRAY(SELECT k.seq FROM ` + jsonRows(n, "seq bigint") + `))`
}

// Marks is the table of marks, in a database of Rollcall's or of an application.
func Marks() table.Marks {
	return table.Marks{
		Dialect: dialect, Name: "rollcall.bound", Exists: `SELECT to_regclass('rollcall.bound') IS NOT NULL`,
		SQL: []string{
			`CREATE SCHEMA IF NOT EXISTS rollcall`,
			`CREATE TABLE IF NOT EXISTS rollcall.bound (seq bigint NOT NULL, binding text COLLATE "C" NOT NULL, change text COLLATE "C" NOT NULL,
	at timestamptz NOT NULL, rows bigint NOT NULL, digest text COLLATE "C" NOT NULL, PRIMARY KEY (seq, binding, change))`,
		},
	}
}

// Marks implements store.Binding.
func (s *Store) Marks(ctx context.Context, session store.Session, seqs []int64) ([]store.Mark, error) {
	return Marks().Of(ctx, s.or(session), seqs)
}

// Mark implements store.Binding.
func (s *Store) Mark(ctx context.Context, session store.Session, marks []store.Mark) error {
	return Marks().Add(ctx, s.or(session), marks)
}

func (s *Store) or(session store.Session) store.Session {
	if session == nil {
		return s.Reader.DB
	}
	return session
}

// SaveLink implements store.Binding. Whoever links a row locks its name first, as a statement of its own: the next one sees
// what the last holder committed, so that the unique index, which would break the session's transaction, is never met.
func (s *Store) SaveLink(ctx context.Context, session store.Session, l store.Link) error {
	if l.State != store.Linked {
		return s.Binding.SaveLink(ctx, session, l)
	}
	if session != nil {
		return s.saveLocked(ctx, session, l)
	}
	tx, err := s.Reader.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("save the link of account %s: %w", l.ID.ID, err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := s.saveLocked(ctx, tx, l); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("save the link of account %s: %w", l.ID.ID, err)
	}
	return nil
}

// SaveLinks implements store.Binding.
func (s *Store) SaveLinks(ctx context.Context, links []store.Link, taken func(store.Link, error) store.Link) error {
	return s.SaveEach(ctx, links, taken, s.SaveLink)
}

func (s *Store) saveLocked(ctx context.Context, session store.Session, l store.Link) error {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join([]string{"rollcall link", l.Source, l.Directory, l.Tenant, l.AppID}, "\x00")))
	if _, err := session.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(h.Sum64())); err != nil { //nolint:gosec // all 64 bits are the number
		return fmt.Errorf("wait for others who link %s: %w", l.AppID, err)
	}
	return s.Binding.SaveLink(ctx, session, l)
}

// cursors are of the form TX-SEQ: the change of this number, which this transaction wrote, was the last.
var cursors = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// Feed implements store.Binding. Numbers of transactions rise within a directory, because they are given after its lock; all
// below the snapshot's xmin have ended. Numbers that this cluster has not given yet came with a backup from another one:
// their changes become this moment's, which keeps their order. A cursor with such a number is none.
func (s *Store) Feed(ctx context.Context, cursor string, limit int) ([]store.FeedRow, error) {
	if cursor == "" {
		cursor = "0-0"
	}
	at := cursors.FindStringSubmatch(cursor)
	if at == nil {
		return nil, fmt.Errorf("cursor %q: %w", cursor, store.ErrNotFound)
	}
	if limit == 0 {
		limit = 50
	}
	db := s.Reader.DB
	if _, err := db.ExecContext(ctx, `UPDATE rollcall.changes SET tx = pg_current_xact_id() WHERE tx >= pg_snapshot_xmax(pg_current_snapshot())`); err != nil {
		return nil, fmt.Errorf("take over changes of another cluster: %w", err)
	}
	var known bool
	if err := db.QueryRowContext(ctx, `SELECT $1::text::xid8 < pg_snapshot_xmax(pg_current_snapshot())`, at[1]).Scan(&known); err != nil {
		return nil, fmt.Errorf("read the feed: %w", err)
	}
	if !known {
		return nil, fmt.Errorf("cursor %q is of another database: %w\nhint: read the feed from its beginning", cursor, store.ErrNotFound)
	}
	seq, _ := strconv.ParseInt(at[2], 10, 64) // it is digits, and few
	found, err := db.QueryContext(ctx, `SELECT seq, at, `+table.ChangeColumns+`, tx::text FROM rollcall.changes
		WHERE (tx, seq) > ($1::text::xid8, $2) AND tx < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY changes.tx, seq LIMIT $3`, at[1], seq, limit)
	rows, err := table.All(found, err, func(row table.Scanner) (f store.FeedRow, err error) {
		var tx string
		f.ChangeRow, err = table.ScanChange(table.And(row, &tx))
		f.Cursor = tx + "-" + strconv.FormatInt(f.Seq, 10)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the feed: %w", err)
	}
	return rows, nil
}

// flush sends what Save has queued, so that what is asked next sees it.
func (t *tx) flush(ctx context.Context) error {
	if t.saves.Len() == 0 {
		return nil
	}
	queued := t.saves
	t.saves = pgx.Batch{}
	return classify(t.send(ctx, &queued))
}

// Announced implements store.BindingTx in one round trip.
func (t *tx) Announced(ctx context.Context, scope directory.Scope) (announced, told directory.Announced, err error) {
	return t.telling(ctx, scope, table.ToldByEither)
}

// Given implements store.BindingTx.
func (t *tx) Given(ctx context.Context, scope directory.Scope) (directory.Announced, error) {
	_, given, err := t.telling(ctx, scope, table.EverGiven)
	return given, err
}

func (t *tx) telling(ctx context.Context, scope directory.Scope, which string) (announced, told directory.Announced, err error) {
	if err := t.flush(ctx); err != nil {
		return announced, told, fmt.Errorf("save: %w", err)
	}
	telling := table.NewTelling(scope)
	var b pgx.Batch
	for _, q := range telling.Questions(dialect, which) {
		b.Queue(q.Text, scope.Source, scope.Directory).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := q.Row(rows); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	}
	if err := t.send(ctx, &b); err != nil {
		return announced, told, fmt.Errorf("read what was announced of %s: %w", scope.Directory, err)
	}
	announced, told = telling.Finish()
	return announced, told, nil
}

// Discard implements store.BindingTx.
func (t *tx) Discard(ctx context.Context, scope directory.Scope, result string) (n int, err error) {
	if err := t.flush(ctx); err != nil {
		return 0, fmt.Errorf("save: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	tag, err := t.conn.Exec(ctx, dialect.DiscardStatement(` FOR UPDATE`), result, scope.Source, scope.Directory)
	if err != nil {
		return 0, fmt.Errorf("discard the changes of %s: %w", scope.Directory, err)
	}
	return int(tag.RowsAffected()), nil
}

// SetMode implements store.BindingTx. It queues; errors come from Update.
func (t *tx) SetMode(_ context.Context, m store.ModeRow) error {
	text, args := dialect.ModeStatement(m)
	t.saves.Queue(text, args...)
	return nil
}

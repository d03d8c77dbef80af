// Package postgres keeps Rollcall's truth in PostgreSQL, in a schema of its own, "rollcall".
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a store in PostgreSQL 13 or newer.
type Store struct {
	table.Reader
	table.Migrator
	table.Binding
	table.Pulling
	table.Reconciling
	config store.Config
	pool   *pgxpool.Pool
}

var _ store.Store = (*Store)(nil)

// idleInTransaction ends a transaction whose worker stands still, as a queue lease ends, so that its locks do not
// outlive it.
const idleInTransaction = 10 * time.Second

var dialect = table.Dialect{
	Schema: "rollcall.",
	Mark:   func(n int) string { return "$" + strconv.Itoa(n) },
	Time:   timeArg,
	Now:    "now()",
	Later:  func(n int) string { return "now() + $" + strconv.Itoa(n) + "::bigint * interval '1 microsecond'" },
	Span: func(from, to string) string {
		return "(extract(epoch FROM " + to + " - " + from + ") * 1000000)::bigint"
	},

	Rows: jsonRows, Each: eachRow, Named: bySeq, By: func(string) string { return "" }, Skip: " FOR UPDATE OF %s SKIP LOCKED", Lateral: true,
	Has: func(list, text string) string { return list + ` @> to_jsonb(` + text + `)` },
}

func timeArg(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// Open makes the pool; it connects when it is first used. A malformed DSN is an error, which never shows the DSN.
func Open(ctx context.Context, c store.Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, errors.New("open postgres: the DSN is not of the form postgres://user:password@host:port/database\nhint: see store.dsn in docs/CONFIG.md")
	}
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.Timeout == 0 {
		c.Timeout = 8 * time.Second
	}
	pc.MaxConns = int32(c.MaxConns) //nolint:gosec // a handful
	pc.ConnConfig.ConnectTimeout = 5 * time.Second
	set := pc.ConnConfig.RuntimeParams
	set["application_name"] = "rollcall"
	set["statement_timeout"] = strconv.FormatInt(c.Timeout.Milliseconds(), 10)
	set["idle_in_transaction_session_timeout"] = strconv.FormatInt(idleInTransaction.Milliseconds(), 10)
	set["timezone"] = "UTC"
	// The statements join in the order in which they are written, from a batch's keys outwards. A database that has no
	// statistics yet, as during a first sync, would have the planner begin with whole directories: seconds, not milliseconds.
	set["join_collapse_limit"] = "1"
	set["plan_cache_mode"] = "force_custom_plan" // a plan that was made while a table was empty must not stay
	set["jit"] = "off"                           // a backlog looks dear to the planner; compiling takes 0.2 s, each time, to read in milliseconds
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	b := table.Binding{Read: db, Write: db, Dialect: dialect}
	return &Store{
		config: c, pool: pool, Reader: table.Reader{DB: db, Dialect: dialect}, Binding: b, Pulling: table.NewPulling(b),
		Reconciling: table.Reconciling{
			DB: db, ReadDB: db, Dialect: dialect, Options: &sql.TxOptions{Isolation: sql.LevelRepeatableRead}, Whole: byTable, Few: byIndexOnce,
		},
		Migrator: table.Migrator{
			DB: db, Dialect: dialect, Files: migrationFiles(), Environment: c.Environment, Binary: c.Binary,
			Lock:   `SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(7301421305)`, // any number that nobody else locks
			Exists: `SELECT to_regclass('rollcall.schema_migrations') IS NOT NULL`,
			Bootstrap: `CREATE SCHEMA IF NOT EXISTS rollcall;
				CREATE TABLE IF NOT EXISTS rollcall.schema_migrations (version int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
					binary_version text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
				CREATE TABLE IF NOT EXISTS rollcall.meta (name text PRIMARY KEY, value text NOT NULL)`,
		},
	}, nil
}

// Migrations returns what the schema is made of, oldest first, without a database.
func Migrations() []store.Migration { return table.Migrator{Files: migrationFiles()}.Migrations() }

func migrationFiles() fs.FS {
	files, _ := fs.Sub(migrations, "migrations") // it is embedded
	return files
}

// Close closes the pool, waiting for connections in use.
func (s *Store) Close() error {
	err := s.Reader.DB.Close()
	s.pool.Close()
	return err
}

// Check implements store.Reader.
func (s *Store) Check(ctx context.Context) error {
	var fsync, commit, encoding string
	var clock time.Time
	if err := s.pool.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('server_encoding'), now()`).
		Scan(&fsync, &commit, &encoding, &clock); err != nil {
		return fmt.Errorf("ask the database: %w\nhint: is store.dsn right, and the server up?", err)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: it cannot hold every name\nhint: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	if fsync != "on" || commit == "off" {
		return fmt.Errorf("fsync is %s and synchronous_commit is %s: events would be acknowledged before they are safe\nhint: turn both on for this database", fsync, commit)
	}
	if skew := time.Since(clock).Abs(); skew > time.Minute {
		return fmt.Errorf("the database's clock is %s from ours\nhint: run NTP on both", skew.Round(time.Second))
	}
	_, err := s.Pending(ctx)
	return err
}

// Clock implements store.Reader.
func (s *Store) Clock(ctx context.Context) (now time.Time, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("ask the database for its time: %w", err)
	}
	return now, nil
}

// RemapRoles implements store.Store.
func (s *Store) RemapRoles(ctx context.Context, digest string) (int, error) {
	return table.RemapRoles(ctx, s.Reader.DB, dialect, digest)
}

// Update implements store.Store: two round trips around what fn does, the second being fn's own save.
func (s *Store) Update(ctx context.Context, scopes []directory.Scope, fn func(ctx context.Context, tx store.Tx) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	t := &tx{conn: conn.Conn(), policy: s.config.Policy, roles: s.config.Roles, patience: s.patience()}
	if err := t.begin(ctx, scopes); err != nil {
		return t.undo(ctx, fmt.Errorf("lock %d directories: %w", len(scopes), err))
	}
	if err := fn(ctx, t); err != nil {
		return t.undo(ctx, err)
	}
	if err := t.commit(ctx); err != nil {
		return t.undo(ctx, fmt.Errorf("save: %w", err))
	}
	return nil
}

// patience is how long a round trip may take, connecting included. The server ends a statement before that; a server
// that is hung, or a network that swallows packets, would otherwise hold a worker, its lease and its locks for ever.
func (s *Store) patience() time.Duration { return s.config.Timeout + 2*time.Second }

func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	return s.pool.Acquire(ctx)
}

// tx is one transaction. Save only queues its statements: they travel with COMMIT, in one round trip.
type tx struct {
	conn     *pgx.Conn
	policy   func(string) directory.Decision
	roles    directory.Roles
	patience time.Duration
	saves    pgx.Batch
}

// send does the statements in one round trip. A connection that did not answer in time is closed.
func (t *tx) send(ctx context.Context, b *pgx.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	return t.conn.SendBatch(ctx, b).Close()
}

// begin takes the scopes' locks in the order of their numbers, as a statement of its own, so that all that follows
// sees what the last holder committed.
func (t *tx) begin(ctx context.Context, scopes []directory.Scope) error {
	keys := make([]int64, len(scopes))
	for i, s := range scopes {
		keys[i] = lockKey(s)
	}
	slices.Sort(keys)
	b := &pgx.Batch{}
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	b.Queue(byIndex)
	b.Queue(`SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k`, slices.Compact(keys))
	return t.send(ctx, b)
}

// byIndex makes the transaction's statements walk the indexes. All of them look for a few hundred keys, whatever a table
// holds; the planner, which knows nothing of a table that is young, would read whole ones, and keep that plan.
const byIndex = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
	set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)`

// byIndexOnce is byIndex for a statement that a planner makes a plan for each time.
const byIndexOnce = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`

// byTable makes the transaction's statements read whole directories, for as long as that takes: tables that were filled a moment
// ago have no statistics, and the planner would take them for small ones and look for every row by itself.
const byTable = `SELECT set_config('statement_timeout', '600000', true), set_config('enable_nestloop', 'off', true), set_config('work_mem', '65536', true)`

// lockKey is the number that stands for a scope. Two scopes that share one only wait for each other.
func lockKey(s directory.Scope) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("rollcall\x00" + s.Source + "\x00" + s.Directory))
	return int64(h.Sum64()) //nolint:gosec // all 64 bits are the number
}

func (t *tx) commit(ctx context.Context) error {
	t.saves.Queue(`COMMIT`)
	return classify(t.send(ctx, &t.saves))
}

// undo rolls back and returns the reason. A connection on which that fails is closed, which rolls back too.
func (t *tx) undo(ctx context.Context, reason error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if t.conn.IsClosed() {
		return reason
	}
	if _, err := t.conn.Exec(ctx, `ROLLBACK`); err != nil {
		_ = t.conn.Close(ctx)
	}
	return reason
}

// Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeUnique   = "23505"
	codeCheck    = "23514"
	codeTooLarge = "54000" // as of an index's row
)

// classify tells an event's own fault and a lost race from the database's trouble. Values that no column takes (class
// 22), that a CHECK refuses or that no index holds are an event's; other constraints are the schema's, because all that
// is saved fills every column and meets its own keys.
func classify(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch {
	case pg.Code == codeUnique && pg.ConstraintName == "events_pkey":
		return fmt.Errorf("%w: %w", store.ErrConflict, err)
	case strings.HasPrefix(pg.Code, "22") || pg.Code == codeCheck || pg.Code == codeTooLarge:
		return fmt.Errorf("%w: %w", store.ErrData, err)
	default:
		return err
	}
}

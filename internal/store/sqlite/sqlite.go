// Package sqlite keeps Rollcall's truth in a file, for one process: the demo, tests, and small installations.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a store in an SQLite file. Its one writing connection is the lock of every scope.
type Store struct {
	table.Reader
	table.Migrator
	table.Binding
	table.Pulling
	table.Reconciling
	config store.Config
	write  *sql.DB
}

var _ store.Store = (*Store)(nil)

const now = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"

var dialect = table.Dialect{
	Mark:  func(n int) string { return "?" + strconv.Itoa(n) },
	Time:  timeArg,
	Now:   now,
	Later: func(n int) string { return now + " + ?" + strconv.Itoa(n) },
	Span:  func(from, to string) string { return "(" + to + " - " + from + ")" },

	Rows: jsonRows, Each: eachRow, Named: bySeq, By: indexedBy,
	Has: func(list, text string) string { return text + ` IN (SELECT j.value FROM json_each(` + list + `) j)` },
}

func timeArg(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// Open opens or makes the file that c.DSN names.
func Open(ctx context.Context, c store.Config) (*Store, error) {
	if c.Timeout == 0 {
		c.Timeout = 8 * time.Second
	}
	address := "file:" + (&url.URL{Path: c.DSN}).EscapedPath() + "?" + url.Values{
		"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", fmt.Sprintf("busy_timeout(%d)", c.Timeout.Milliseconds())},
	}.Encode()
	write, err := sql.Open("sqlite", address)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.DSN, err)
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w\nhint: the folder must be there and writable", c.DSN, err), write.Close())
	}
	read, err := sql.Open("sqlite", address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", c.DSN, err), write.Close())
	}
	read.SetMaxOpenConns(4)
	b := table.Binding{Read: read, Write: write, Dialect: dialect}
	return &Store{
		config: c, write: write, Reader: table.Reader{DB: read, Dialect: dialect}, Binding: b, Pulling: table.NewPulling(b),
		Reconciling: table.Reconciling{DB: write, ReadDB: read, Dialect: dialect},
		Migrator: table.Migrator{
			DB: write, Dialect: dialect, Files: migrationFiles(), Environment: c.Environment, Binary: c.Binary,
			Lock:   `SELECT 1`, // the transaction itself locks the file
			Exists: `SELECT count(*) > 0 FROM sqlite_master WHERE name = 'schema_migrations'`,
			Bootstrap: `CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
					binary_version text NOT NULL, applied_at integer NOT NULL DEFAULT (unixepoch() * 1000000));
				CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text NOT NULL)`,
		},
	}, nil
}

// Migrations returns what the schema is made of, oldest first, without a database.
func Migrations() []store.Migration { return table.Migrator{Files: migrationFiles()}.Migrations() }

func migrationFiles() fs.FS {
	files, _ := fs.Sub(migrations, "migrations") // it is embedded
	return files
}

// Close closes the file.
func (s *Store) Close() error { return errors.Join(s.Reader.DB.Close(), s.write.Close()) }

// Check implements store.Reader.
func (s *Store) Check(ctx context.Context) error {
	if _, err := s.Pending(ctx); err != nil {
		return err
	}
	return nil
}

// Clock implements store.Reader: a file's clock is this process's.
func (s *Store) Clock(context.Context) (time.Time, error) { return time.Now(), nil }

// RemapRoles implements store.Store.
func (s *Store) RemapRoles(ctx context.Context, digest string) (int, error) {
	return table.RemapRoles(ctx, s.write, dialect, digest)
}

// Update implements store.Store: a transaction that locks the file when it begins.
func (s *Store) Update(ctx context.Context, scopes []directory.Scope, fn func(ctx context.Context, tx store.Tx) error) error {
	began, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("lock %d directories: %w", len(scopes), err)
	}
	defer func() { _ = began.Rollback() }()
	if err := fn(ctx, &tx{Tx: began, policy: s.config.Policy, roles: s.config.Roles}); err != nil {
		return classify(err)
	}
	if err := began.Commit(); err != nil {
		return fmt.Errorf("save: %w", classify(err))
	}
	return nil
}

// classify tells an event's own fault from the database's trouble. Values that a CHECK, a trigger or a column's type
// refuses, or that are too big, are an event's; other constraints are the schema's, because all that is saved fills
// every column and meets its own keys. Source: https://www.sqlite.org/rescode.html
func classify(err error) error {
	var s *sqlite.Error
	if !errors.As(err, &s) || errors.Is(err, store.ErrConflict) {
		return err
	}
	switch s.Code() {
	case sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.SQLITE_CONSTRAINT_TRIGGER, sqlite3.SQLITE_CONSTRAINT_DATATYPE, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return fmt.Errorf("%w: %w", store.ErrData, err)
	default:
		return err
	}
}

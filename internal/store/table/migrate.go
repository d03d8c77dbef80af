package table

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcallhq/rollcall/internal/store"
)

// Migrator implements store.Migrator.
type Migrator struct {
	DB          *sql.DB
	Dialect     Dialect
	Files       fs.FS  // NNNN_name.sql in its root
	Bootstrap   string // makes the tables schema_migrations and meta when they are not there
	Exists      string // selects whether they are there
	Lock        string // run first in every transaction: keeps a second starter waiting
	Environment string
	Binary      string
}

// Migrations implements store.Migrator.
func (m Migrator) Migrations() []store.Migration {
	names, _ := fs.Glob(m.Files, "*.sql") // sorted; the files are embedded
	var out []store.Migration
	for _, name := range names {
		text, _ := fs.ReadFile(m.Files, name)
		number, rest, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
		version, _ := strconv.Atoi(number)
		sum := sha256.Sum256(text)
		out = append(out, store.Migration{Version: version, Name: rest, SQL: string(text), Checksum: hex.EncodeToString(sum[:])})
	}
	return out
}

// Pending implements store.Migrator.
func (m Migrator) Pending(ctx context.Context) ([]store.Migration, error) {
	var there bool
	if err := m.DB.QueryRowContext(ctx, m.Exists).Scan(&there); err != nil {
		return nil, fmt.Errorf("look for the schema: %w", err)
	}
	if !there {
		return m.Migrations(), nil
	}
	return m.pending(ctx, m.DB)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type applied struct {
	version  int
	checksum string
}

func (m Migrator) pending(ctx context.Context, q querier) ([]store.Migration, error) {
	rows, err := q.QueryContext(ctx, "SELECT version, checksum FROM "+m.Dialect.Schema+"schema_migrations")
	done, err := All(rows, err, func(row Scanner) (a applied, err error) {
		err = row.Scan(&a.version, &a.checksum)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the applied migrations: %w", err)
	}
	pending := m.Migrations()
	newest := pending[len(pending)-1].Version
	if err := m.checkMeta(ctx, q, newest); err != nil {
		return nil, err
	}
	for _, a := range done {
		i := slices.IndexFunc(pending, func(p store.Migration) bool { return p.Version == a.version })
		if i < 0 {
			continue // a newer binary's: schemas only expand, this one runs on it
		}
		if pending[i].Checksum != a.checksum {
			return nil, fmt.Errorf("migration %04d_%s: %w\nhint: the database was migrated by a binary that is not a release of this one; restore it, or use that binary",
				a.version, pending[i].Name, store.ErrChecksum)
		}
		pending = slices.Delete(pending, i, i+1)
	}
	return pending, nil
}

// checkMeta compares what the database says of itself with what this binary is.
func (m Migrator) checkMeta(ctx context.Context, q querier, newest int) error {
	environment, err := m.meta(ctx, q, "environment")
	if err != nil {
		return err
	}
	if environment != "" && environment != m.Environment {
		return fmt.Errorf("%w: it is %q, the configuration says %q\nhint: point store.dsn or store.path at this environment's database, or set environment", store.ErrEnvironment, environment, m.Environment)
	}
	minimum, err := m.meta(ctx, q, "minimum_schema")
	if err != nil {
		return err
	}
	if n, _ := strconv.Atoi(minimum); n > newest {
		return fmt.Errorf("%w: it needs schema %d, this binary knows %d\nhint: run the newer rollcall that migrated it", store.ErrTooOld, n, newest)
	}
	return nil
}

func (m Migrator) meta(ctx context.Context, q querier, name string) (value string, err error) {
	err = q.QueryRowContext(ctx, "SELECT value FROM "+m.Dialect.Schema+"meta WHERE name = "+m.Dialect.Mark(1), name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read meta %s: %w", name, err)
	}
	return value, nil
}

// Migrate implements store.Migrator: all of it in one transaction, under the lock.
func (m Migrator) Migrate(ctx context.Context) (pending []store.Migration, err error) {
	tx, err := m.DB.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, m.Lock); err != nil {
		return nil, fmt.Errorf("migrate: wait for other starters: %w", err)
	}
	if _, err := tx.ExecContext(ctx, m.Bootstrap); err != nil {
		return nil, fmt.Errorf("migrate: make the migrations' own tables: %w\nhint: the database's user needs CREATE on the database once", err)
	}
	if pending, err = m.pending(ctx, tx); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	for _, p := range pending {
		if _, err := tx.ExecContext(ctx, p.SQL); err != nil {
			return nil, fmt.Errorf("migrate: %04d_%s: %w", p.Version, p.Name, err)
		}
		if err := m.insert(ctx, tx, "schema_migrations (version, name, checksum, binary_version)", p.Version, p.Name, p.Checksum, m.Binary); err != nil {
			return nil, fmt.Errorf("migrate: record %04d_%s: %w", p.Version, p.Name, err)
		}
	}
	if err := m.insert(ctx, tx, "meta (name, value)", "environment", m.Environment); err != nil {
		return nil, fmt.Errorf("migrate: name the environment: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return pending, nil
}

func (m Migrator) insert(ctx context.Context, tx *sql.Tx, into string, values ...any) error {
	marks := make([]string, len(values))
	for i := range values {
		marks[i] = m.Dialect.Mark(i + 1)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+m.Dialect.Schema+into+" VALUES ("+strings.Join(marks, ", ")+") ON CONFLICT DO NOTHING", values...)
	return err
}

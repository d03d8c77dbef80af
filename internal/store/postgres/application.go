package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// OpenApplication returns a pool for an application's statements, with at most so many connections and none of the
// settings that the store's own statements need. It connects when it is first used. A malformed DSN is an error, which never
// shows the DSN.
func OpenApplication(dsn string, connections int) (*sql.DB, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("open the application's database: the DSN is not of the form postgres://user:password@host:port/database\nhint: see application.dsn in docs/CONFIG.md")
	}
	c.ConnectTimeout = 5 * time.Second
	c.RuntimeParams["application_name"] = "rollcall bindings"
	c.RuntimeParams["timezone"] = "UTC"
	c.RuntimeParams["plan_cache_mode"] = "force_custom_plan" // one that was made while tables were empty would stay
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

// Version returns the server's version, as it says it.
func Version(ctx context.Context, db *sql.DB) (version string, err error) {
	if err := db.QueryRowContext(ctx, `SHOW server_version`).Scan(&version); err != nil {
		return "", fmt.Errorf("ask the application's database: %w\nhint: is application.dsn right, and the server up?", err)
	}
	return version, nil
}

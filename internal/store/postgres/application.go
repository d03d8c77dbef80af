package postgres

import (
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// OpenApplication returns a pool for an application's statements, with at most so many connections and none of the
// settings that the store's own statements need. It connects when it is first used. A malformed DSN is an error, which never
// shows the DSN.
func OpenApplication(dsn string, connections int) (*sql.DB, error) {
	c, err := applicationConfig(dsn, "rollcall bindings")
	if err != nil {
		return nil, err
	}
	c.RuntimeParams["plan_cache_mode"] = "force_custom_plan" // one that was made while tables were empty would stay
	c.RuntimeParams["jit"] = "off"                           // the store's own statements run here, too
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

// OpenReadOnly is OpenApplication for one connection, whose transactions cannot write.
func OpenReadOnly(dsn string) (*sql.DB, error) {
	c, err := applicationConfig(dsn, "rollcall audit")
	if err != nil {
		return nil, err
	}
	c.RuntimeParams["default_transaction_read_only"] = "on"
	db := stdlib.OpenDB(*c)
	db.SetMaxOpenConns(1)
	return db, nil
}

func applicationConfig(dsn, name string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("open the application's database: the DSN is not of the form postgres://user:password@host:port/database\nhint: see application.dsn in docs/CONFIG.md")
	}
	c.ConnectTimeout = 5 * time.Second
	c.RuntimeParams["application_name"] = name
	c.RuntimeParams["timezone"] = "UTC"
	return c, nil
}

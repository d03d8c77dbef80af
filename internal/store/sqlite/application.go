package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"
)

// OpenApplication opens the file of an application, which must be there. Transactions lock it when they begin, and wait for
// another's for as long as patience.
func OpenApplication(ctx context.Context, path string, patience time.Duration) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the application's database: %w\nhint: application.dsn is sqlite: and the path of its file", err)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+url.Values{
		"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "foreign_keys(ON)", fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds())},
	}.Encode())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w\nhint: it must be an SQLite file that this user may write", path, err), db.Close())
	}
	return db, nil
}

// OpenReadOnly opens the file of an application, which must be there, so that nothing can be written through it.
func OpenReadOnly(ctx context.Context, path string, patience time.Duration) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the application's database: %w\nhint: sqlite: is followed by the path of its file", err)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+url.Values{
		"mode": {"ro"}, "_pragma": {"query_only(ON)", fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds())},
	}.Encode())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w\nhint: it must be an SQLite file that this user may read", path, err), db.Close())
	}
	return db, nil
}

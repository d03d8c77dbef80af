package table

import (
	"context"
	"database/sql"
	"fmt"
)

// RemapRoles implements store.Store. The row of the digest is the lock of two starters: the second finds it written.
func RemapRoles(ctx context.Context, db *sql.DB, d Dialect, digest string) (int, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("map roles anew: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	another, err := affected(tx.ExecContext(ctx, `INSERT INTO `+d.Schema+`meta AS m (name, value)
		SELECT 'roles', CAST(`+d.Mark(1)+` AS text) WHERE CAST(`+d.Mark(1)+` AS text) <> '' OR EXISTS (SELECT 1 FROM `+d.Schema+`meta WHERE name = 'roles')
		ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE m.value <> excluded.value`, digest))
	if err != nil || another == 0 {
		return 0, wrap("remember the mapping of roles", err)
	}
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO `+d.Schema+`expansions (source, directory, group_id, event, occurred, cursor, done, begun)
		SELECT DISTINCT source, directory, '', CAST(`+d.Mark(1)+` AS text), `+d.Now+`, '', 0, `+d.Now+` FROM `+d.Schema+`accounts`, "roles:"+digest))
	if err != nil {
		return 0, fmt.Errorf("map the roles of every directory anew: %w", err)
	}
	return n, wrap("map roles anew", tx.Commit())
}

func affected(result sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

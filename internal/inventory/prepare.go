package inventory

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Fault is a statement that the application's database does not take, or that lacks a column.
type Fault struct {
	Statement string // its key in the configuration, without the section
	Message   string // names the statement
}

// Prepare asks the application's database for the columns of the listings, without running them, and returns those that
// cannot be read. With tenants an account needs the column that says which one it is in.
func (a Application) Prepare(ctx context.Context, tenants bool) (faults []Fault) {
	accounts := a.accounts(new(fields))
	for i := range accounts.columns {
		if accounts.columns[i].name == "tenant" {
			accounts.columns[i].needed = tenants
		}
	}
	for _, l := range []listing{accounts, a.memberships(new(fields))} {
		if strings.TrimSpace(l.sql) == "" {
			continue
		}
		if err := a.readOnly(ctx, func(tx *sql.Tx) error { return l.prepare(ctx, tx) }); err != nil {
			// The hint goes on in the same line: there may be several.
			message := strings.ReplaceAll(err.Error(), "\nhint: ", ": ")
			faults = append(faults, Fault{Statement: strings.TrimPrefix(l.name, "application."), Message: message})
		}
	}
	return faults
}

// prepare reports why the statement cannot be read.
func (l listing) prepare(ctx context.Context, tx *sql.Tx) error {
	prepared, err := tx.PrepareContext(ctx, l.sql)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", l.name, err)
	}
	defer func() { _ = prepared.Close() }()
	text := strings.TrimRight(l.sql, "; \t\r\n")
	rows, err := tx.QueryContext(ctx, "SELECT * FROM (\n"+text+"\n) AS listing LIMIT 0") //nolint:gosec // the operator's own statement
	if err != nil {
		return nil //nolint:nilerr // It cannot stand in another statement; only running it says what it gives.
	}
	defer func() { _ = rows.Close() }()
	_, err = l.places(rows)
	return err
}

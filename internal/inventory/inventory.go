// Package inventory compares who is in the application with who should be: the application's own listing of its accounts and
// their memberships, with what its directories say and what it was told of it.
//
// An account of the application is the row that a link names by tenant and id. An application without a statement for
// tenants has one tenant, whatever its listing says.
package inventory

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Application is the application's database, and the operator's statements that say who is in it.
type Application struct {
	DB   *sql.DB
	Kind string // "postgres" or "sqlite"

	Accounts    string // gives the active accounts: columns id, and tenant, email, external where there are such
	Memberships string // gives their memberships: user_id, group_id, and directory_id where there is one; empty: not compared
	Protected   string // gives, in its first column, ids that nothing wholesale may deactivate; empty: there are none

	// Tenant returns the tenant of a provider's organization, and whether the application knows one. Nil: there is one tenant.
	Tenant func(ctx context.Context, organization string) (tenant string, known bool, err error)
}

// Account is an account that is active in the application.
type Account struct {
	ID       string
	Tenant   string
	Email    string
	External string // what the application has as the directory's own id of it
}

// Membership is a membership in the application.
type Membership struct {
	User      string // an Account's ID
	Group     string // the provider's id; empty for a group of the application's own
	Directory string // the provider's id of the group's directory; empty when the application does not say
}

// Sink takes what an application lists.
type Sink interface {
	Protected(id string)
	Account(a Account)
	Membership(m Membership)
}

// patience is how long one statement may take, in milliseconds: a listing is long, and nobody waits for it.
const patience = 10 * 60 * 1000

// Read runs the statements, and gives the sink the protected ids, then the accounts, then the memberships, row by row. All of
// them are of one moment, and nothing can be written: not even by a statement that would.
func (a Application) Read(ctx context.Context, to Sink) error {
	return a.readOnly(ctx, func(tx *sql.Tx) error {
		var f fields
		protected := listing{name: "application.protected", sql: a.Protected, columns: []column{{name: "id", first: true, into: &f.id, needed: true}}}
		if err := protected.each(ctx, tx, func() { to.Protected(f.id.String) }); err != nil {
			return err
		}
		if err := a.accounts(&f).each(ctx, tx, func() {
			to.Account(Account{ID: f.id.String, Tenant: f.tenant.String, Email: f.email.String, External: f.external.String})
		}); err != nil {
			return err
		}
		return a.memberships(&f).each(ctx, tx, func() {
			to.Membership(Membership{User: f.id.String, Group: f.group.String, Directory: f.scope.String})
		})
	})
}

// fields are those of a row.
type fields struct{ id, tenant, email, external, group, scope sql.NullString }

func (a Application) accounts(f *fields) listing {
	return listing{name: "application.inventory.accounts", sql: a.Accounts, columns: []column{
		{name: "id", into: &f.id, needed: true}, {name: "tenant", into: &f.tenant}, {name: "email", into: &f.email}, {name: "external", into: &f.external},
	}}
}

func (a Application) memberships(f *fields) listing {
	return listing{name: "application.inventory.memberships", sql: a.Memberships, columns: []column{
		{name: "user_id", into: &f.id, needed: true}, {name: "group_id", into: &f.group, needed: true, nullable: true}, {name: "directory_id", into: &f.scope},
	}}
}

// readOnly runs fn in a transaction that cannot write.
func (a Application) readOnly(ctx context.Context, fn func(*sql.Tx) error) (err error) {
	conn, err := a.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("reach the application's database: %w", err)
	}
	defer func() { _ = conn.Close() }()
	options := sql.TxOptions{ReadOnly: true}
	if a.Kind == "postgres" {
		options.Isolation = sql.LevelRepeatableRead
	} else {
		if _, err := conn.ExecContext(ctx, "PRAGMA query_only = ON"); err != nil {
			return fmt.Errorf("keep the application's database from being written: %w", err)
		}
		defer writable(context.WithoutCancel(ctx), conn)
	}
	tx, err := conn.BeginTx(ctx, &options)
	if err != nil {
		return fmt.Errorf("reach the application's database: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if a.Kind == "postgres" {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", patience)); err != nil {
			return fmt.Errorf("take time to list the application's accounts: %w", err)
		}
	}
	return fn(tx)
}

// writable gives a connection back as it was, or not at all.
func writable(ctx context.Context, conn *sql.Conn) {
	if _, err := conn.ExecContext(ctx, "PRAGMA query_only = OFF"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// listing is one of the operator's statements.
type listing struct {
	name    string // of its key in the configuration
	sql     string
	columns []column
}

// column is one of the columns that are read, as text, whatever it is.
type column struct {
	name     string
	first    bool // it is the first one, whatever its name
	into     *sql.NullString
	needed   bool
	nullable bool // of a needed one: it has to be there, and may be null
}

// each runs the statement, and fn after every row. One that is empty has no rows.
func (l listing) each(ctx context.Context, tx *sql.Tx, fn func()) error {
	if strings.TrimSpace(l.sql) == "" {
		return nil
	}
	rows, err := tx.QueryContext(ctx, l.sql)
	if err != nil {
		return fmt.Errorf("run %s: %w\nhint: it is run as it stands, without parameters; try it on the application's database", l.name, err)
	}
	defer func() { _ = rows.Close() }()
	places, err := l.places(rows)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := rows.Scan(places...); err != nil {
			return fmt.Errorf("read %s: %w", l.name, err)
		}
		for _, c := range l.columns {
			if c.needed && !c.nullable && !c.into.Valid {
				return fmt.Errorf("read %s: column %q is null in a row\nhint: leave such rows out: … WHERE … IS NOT NULL", l.name, c.name)
			}
		}
		fn()
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", l.name, err)
	}
	return nil
}

// places says where each column of a row goes. Columns are told by name, without regard to case.
func (l listing) places(rows *sql.Rows) ([]any, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.name, err)
	}
	places := make([]any, len(names))
	for i := range places {
		places[i] = new(any)
	}
	for _, c := range l.columns {
		i := slices.IndexFunc(names, func(name string) bool { return c.first || strings.EqualFold(name, c.name) })
		switch {
		case i >= 0:
			places[i] = c.into
		case c.needed:
			return nil, fmt.Errorf("%s gives no column %q; it gives %s\nhint: name it: SELECT … AS %s", l.name, c.name, strings.Join(names, ", "), c.name)
		default:
			*c.into = sql.NullString{}
		}
	}
	return places, nil
}

// ErrNotListed says that the application does not list its accounts.
var ErrNotListed = errors.New("application.inventory.accounts is not set")

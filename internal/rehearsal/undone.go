package rehearsal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
)

// undone opens a database of which nothing that is done stays: all of it is one transaction, which close rolls back. Within it,
// transactions are savepoints, so a failed one undoes itself and no more. It has one connection; whoever needs it waits.
func undone(ctx context.Context, db *sql.DB) (within *sql.DB, end func() error, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the application's database: %w", err)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("begin: %w", err), conn.Close())
	}
	c := &connector{driver: db.Driver()}
	err = conn.Raw(func(raw any) error {
		inner, ok := raw.(queries)
		if !ok {
			return fmt.Errorf("the driver's connection is a %T, which cannot be shared", raw)
		}
		c.conn = &savepoints{queries: inner}
		return nil
	})
	if err != nil {
		return nil, nil, errors.Join(err, tx.Rollback(), conn.Close())
	}
	within = sql.OpenDB(c)
	within.SetMaxOpenConns(1)
	end = func() error { return errors.Join(within.Close(), tx.Rollback(), conn.Close()) }
	return within, end, nil
}

// queries is what the drivers' connections can do.
type queries interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.QueryerContext
	driver.ExecerContext
}

// connector gives out the one connection.
type connector struct {
	driver driver.Driver
	conn   *savepoints
}

func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.conn, nil }
func (c *connector) Driver() driver.Driver                        { return c.driver }

// savepoints is a connection within a transaction of somebody else's. Its own transactions are savepoints.
type savepoints struct {
	queries
	mu    sync.Mutex // guards depth
	depth int
}

// Close leaves the connection open: it is not ours.
func (*savepoints) Close() error { return nil }

// CheckNamedValue takes arguments as the driver does, which may check them itself.
func (s *savepoints) CheckNamedValue(v *driver.NamedValue) error {
	if c, ok := s.queries.(driver.NamedValueChecker); ok {
		return c.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// PrepareContext prepares a statement. One that the database does not take undoes itself and no more.
func (s *savepoints) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	tx, err := s.BeginTx(ctx, driver.TxOptions{})
	if err != nil {
		return nil, err
	}
	statement, err := s.queries.PrepareContext(ctx, query)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return statement, tx.Commit()
}

// Begin implements driver.Conn.
func (s *savepoints) Begin() (driver.Tx, error) {
	return s.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx sets a savepoint.
func (s *savepoints) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.depth++
	p := &savepoint{conn: s, name: fmt.Sprintf("rehearsal_%d", s.depth)}
	if err := p.exec(ctx, "SAVEPOINT "+p.name); err != nil {
		return nil, err
	}
	return p, nil
}

// savepoint is a transaction within the one.
type savepoint struct {
	conn *savepoints
	name string
}

func (p *savepoint) Commit() error { return p.exec(context.Background(), "RELEASE SAVEPOINT "+p.name) }

func (p *savepoint) Rollback() error {
	return p.exec(context.Background(), "ROLLBACK TO SAVEPOINT "+p.name)
}

func (p *savepoint) exec(ctx context.Context, text string) error {
	_, err := p.conn.ExecContext(ctx, text, nil)
	return err
}

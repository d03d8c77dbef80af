package binder

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
)

// The kinds of databases.
const (
	Postgres = "postgres"
	SQLite   = "sqlite"
)

// Database is the application's database. SQL is a pool of its own, with room for Connections transactions and a few reads;
// SQLite's begins its transactions with BEGIN IMMEDIATE.
type Database struct {
	SQL  *sql.DB
	Kind string // Postgres or SQLite
	Own  bool   // it is the store's database, too: then a change is settled in the transaction of its statements

	// Compile rewrites the named parameters of a statement to ordinal ones, and returns the name of each. An unknown one is
	// an error that lists those that are known.
	Compile func(text string, known []string) (string, []string, error)

	Marks Marks
}

// reconnect closes the connections that are not in use: one that was made to a server that takes no writes stays so after others
// are made to one that does.
func (d *Database) reconnect() {
	most := max(d.SQL.Stats().MaxOpenConnections, 2)
	d.SQL.SetMaxIdleConns(0)
	d.SQL.SetMaxIdleConns(most)
}

// Marks is the table of marks in the application's database: which bindings took effect for which changes.
type Marks interface {
	Create(ctx context.Context, s store.Session) error // unless it is there
	Of(ctx context.Context, s store.Session, seqs []int64) ([]store.Mark, error)
	Add(ctx context.Context, s store.Session, marks []store.Mark) error // one that is there already is an error
}

// session is a transaction on the application's database. Every statement starts its watch anew: when that runs out the
// connection is given up, so that a server which answers no more holds nobody.
type session struct {
	tx       *sql.Tx
	database *Database
	limit    time.Duration // of one statement, where the database sets none itself
	patience time.Duration
	watch    *time.Timer
	end      context.CancelFunc

	takesNothing bool // the database takes no writes, as a standby
}

const (
	idle     = 30 * time.Second // how long the server lets a transaction stand still; its end ends the locks of its lanes
	overtime = 5 * time.Second  // what an answer may take longer than the server lets a statement run
)

// begin starts a transaction in which every statement, and every wait for a lock, has its time. The context that it returns
// is the transaction's.
func (b *Binder) begin(parent context.Context, readOnly bool) (*session, context.Context, error) {
	ctx, end := context.WithCancel(parent)
	s := &session{database: b.Database, patience: b.StatementTimeout + overtime, end: end}
	s.watch = time.AfterFunc(s.patience, end)
	options := &sql.TxOptions{ReadOnly: readOnly && b.Database.Kind == Postgres}
	var err error
	if s.tx, err = b.Database.SQL.BeginTx(ctx, options); err != nil {
		s.close()
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	if b.Database.Kind == SQLite {
		s.limit = b.StatementTimeout
		return s, ctx, nil
	}
	var set [3]string
	if err := s.QueryRowContext(ctx, `SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true),
		set_config('idle_in_transaction_session_timeout', $3, true), current_setting('transaction_read_only') = 'on' AND NOT $4::bool`,
		milliseconds(b.LockTimeout), milliseconds(b.StatementTimeout), milliseconds(idle), readOnly).Scan(&set[0], &set[1], &set[2], &s.takesNothing); err != nil {
		s.undo()
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	return s, ctx, nil
}

// ExecContext implements store.Session.
func (s *session) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s.watch.Reset(s.patience)
	return s.tx.ExecContext(ctx, query, args...)
}

// QueryContext implements store.Session.
func (s *session) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s.watch.Reset(s.patience)
	return s.tx.QueryContext(ctx, query, args...)
}

// QueryRowContext implements store.Session.
func (s *session) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s.watch.Reset(s.patience)
	return s.tx.QueryRowContext(ctx, query, args...)
}

// close ends the watch and the transaction's context.
func (s *session) close() {
	s.watch.Stop()
	s.end()
}

// commit ends the transaction. The context is the one that it began with.
func (s *session) commit(ctx context.Context) error {
	s.watch.Reset(s.patience)
	defer s.close()
	err := s.tx.Commit()
	if _, coded := sqlState(err); coded && trouble(err) && !s.takesNothing && s.database.SQL.PingContext(ctx) == nil {
		return ownFault{err} // of what was put off until the end
	}
	return err
}

// undo rolls back, if the transaction is not over. A connection on which that fails is gone, and the transaction with it.
func (s *session) undo() {
	defer s.close()
	s.watch.Reset(s.patience)
	_ = s.tx.Rollback()
}

// within bounds a statement whose database does not.
func (s *session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.limit == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.limit)
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// claim returns those of the lanes that nobody else works on, and keeps them until the transaction ends. It does not wait.
// What the last holder of a lane committed is seen by the statements after it.
func (s *session) claim(ctx context.Context, track store.Track, lanes []store.Lane) ([]store.Lane, error) {
	if s.database.Kind == SQLite {
		return lanes, nil // the transaction is the lock of all
	}
	return tryLocks(ctx, s, "pg_try_advisory_xact_lock", track, lanes)
}

// tryLocks returns those of the lanes whose locks were free, and are taken now by this function of PostgreSQL's.
func tryLocks(ctx context.Context, s store.Session, try string, track store.Track, lanes []store.Lane) (mine []store.Lane, err error) {
	keys := make([]int64, len(lanes))
	for i, l := range lanes {
		keys[i] = lockKey(track, l)
	}
	locked, err := numbers(s.QueryContext(ctx, `SELECT k FROM unnest($1::bigint[]) AS k WHERE `+try+`(k)`, keys))
	if err != nil {
		return nil, fmt.Errorf("lock %d accounts: %w", len(lanes), err)
	}
	for i, l := range lanes {
		if locked[keys[i]] {
			mine = append(mine, l)
		}
	}
	return mine, nil
}

// numbers reads a set of numbers.
func numbers(rows *sql.Rows, err error) (map[int64]bool, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	set := map[int64]bool{}
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		set[n] = true
	}
	return set, rows.Err()
}

// lockKey is the number that stands for a lane on a track. Two lanes that share one only keep each other waiting.
func lockKey(track store.Track, l store.Lane) int64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, strings.Join([]string{"rollcall lane", string(track), l.Source, l.Directory, l.Account, l.Group}, "\x00"))
	return int64(h.Sum64()) //nolint:gosec // all 64 bits are the number
}

// exec runs a statement and returns how many rows it touched.
func (s *session) exec(ctx context.Context, st statement, v values) (int64, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	if s.database.Kind == SQLite {
		return s.execSQLite(ctx, st, v)
	}
	result, err := s.ExecContext(ctx, st.sql, v.args(st.names)...)
	if err != nil {
		return 0, s.blame(ctx, err)
	}
	return result.RowsAffected()
}

// execSQLite compares SQLite's own count: a statement that changes nothing leaves the number of the one before.
func (s *session) execSQLite(ctx context.Context, st statement, v values) (int64, error) {
	var before, after int64
	if err := s.QueryRowContext(ctx, `SELECT total_changes()`).Scan(&before); err != nil {
		return 0, err
	}
	result, err := s.ExecContext(ctx, st.sql, v.args(st.names)...)
	if err != nil {
		return 0, err
	}
	if err := s.QueryRowContext(ctx, `SELECT total_changes()`).Scan(&after); err != nil || after == before {
		return 0, err
	}
	return result.RowsAffected()
}

// texts returns the first column of at most limit rows, and how many rows there are up to countTo. Nulls are left out.
func (s *session) texts(ctx context.Context, st statement, v values, limit, countTo int) ([]string, int, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	texts, n, err := s.firstColumn(ctx, st, v, limit, countTo)
	return texts, n, s.blame(ctx, err)
}

func (s *session) firstColumn(ctx context.Context, st statement, v values, limit, countTo int) (texts []string, n int, err error) {
	rows, err := s.QueryContext(ctx, st.sql, v.args(st.names)...)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, 0, err
	}
	var first sql.NullString
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(any)
	}
	if len(into) > 0 {
		into[0] = &first
	}
	for n < countTo && rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, 0, err
		}
		if n++; first.Valid && len(texts) < limit {
			texts = append(texts, first.String)
		}
	}
	return texts, n, rows.Err()
}

// try runs fn behind a savepoint: its error undoes what it did, and nothing else. When that cannot be undone the whole
// transaction is lost, which errLost says.
func (s *session) try(ctx context.Context, name string, fn func() error) error {
	if _, err := s.ExecContext(ctx, `SAVEPOINT `+name); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if err := fn(); err != nil {
		if _, undone := s.ExecContext(ctx, `ROLLBACK TO SAVEPOINT `+name); undone != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		return err
	}
	if _, err := s.ExecContext(ctx, `RELEASE SAVEPOINT `+name); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// blame returns the error of a statement of the operator's. When its code says that a database is in trouble and this one answers
// all the same, the statement raised it, or another database that it asked: then it is its own fault.
func (s *session) blame(ctx context.Context, err error) error {
	if _, coded := sqlState(err); !coded || !trouble(err) {
		return err
	}
	if s.takesNothing || !s.answers(ctx) {
		return err
	}
	return ownFault{err}
}

// answers reports whether the transaction's connection does, though it be to refuse all that comes after a failure.
func (s *session) answers(ctx context.Context) bool {
	_, err := s.ExecContext(ctx, `SELECT 1`)
	state, _ := sqlState(err)
	return err == nil || state == "25P02"
}

// ownFault is a statement's error that is no trouble of the database's, whatever its code.
type ownFault struct{ error }

func (e ownFault) Unwrap() error { return e.error }

// errLost reports that a transaction can do no more.
var errLost = errors.New("the transaction is lost")

// trouble reports whether an error is the database's, not that of a change: it is gone, full, read-only or ending, or our
// own time is over.
func trouble(err error) bool {
	if errors.As(err, new(ownFault)) {
		return false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) {
		return true
	}
	if state, ok := sqlState(err); ok {
		return troubles[state] || (len(state) == 5 && troubles[state[:2]])
	}
	if code, ok := sqliteCode(err); ok {
		return sqliteTroubles[code]
	}
	var network net.Error
	return errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// sqlState returns PostgreSQL's code of an error. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
func sqlState(err error) (string, bool) {
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		return pg.SQLState(), true
	}
	return "", false
}

// troubles are codes and classes of codes. A statement that was cancelled for its time, 57014, is its own fault.
var troubles = map[string]bool{
	"08": true, "53": true, "58": true, "XX": true,
	"57P01": true, "57P02": true, "57P03": true, "57P04": true, "57P05": true,
	"25006": true, "25P03": true, "3D000": true, "28000": true, "28P01": true, "0A000": false,
}

// sqliteCode returns SQLite's primary code of an error. Source: https://www.sqlite.org/rescode.html
func sqliteCode(err error) (int, bool) {
	var s interface{ Code() int }
	if errors.As(err, &s) {
		return s.Code() & 0xff, true
	}
	return 0, false
}

// sqliteTroubles are: busy, locked, out of memory, read-only, input or output, corrupt, full, cannot open, no database.
var sqliteTroubles = map[int]bool{5: true, 6: true, 7: true, 8: true, 10: true, 11: true, 13: true, 14: true, 26: true}

// misspelt reports whether the database does not know what a statement speaks of, so that it can work for no change.
func misspelt(err error) bool {
	if state, ok := sqlState(err); ok {
		return strings.HasPrefix(state, "42")
	}
	code, ok := sqliteCode(err)
	return ok && code == 1
}

// single reports whether a text of SQLite's is one statement, with or without a semicolon and comments after it.
func single(text string) bool {
	over := false // a semicolon has ended a statement
	for i := 0; i < len(text); {
		switch n, blank := token(text[i:]); {
		case blank:
			i += n
		case text[i] == ';':
			over = true
			i++
		case over:
			return false
		default:
			i += n
		}
	}
	return true
}

// token returns the length of what a text begins with: a quoted text or name, a comment, or one byte; and whether it is a
// comment or white space.
func token(text string) (n int, blank bool) {
	closing := map[byte]string{'\'': "'", '"': `"`, '`': "`", '[': "]"}
	switch {
	case strings.HasPrefix(text, "--"):
		return until(text, 2, "\n"), true
	case strings.HasPrefix(text, "/*"):
		return until(text, 2, "*/"), true
	case closing[text[0]] != "":
		return until(text, 1, closing[text[0]]), false
	default:
		return 1, strings.IndexByte(" \t\r\n\f", text[0]) >= 0
	}
}

// until returns the length of a text up to and with what closes it.
func until(text string, from int, closing string) int {
	if end := strings.Index(text[from:], closing); end >= 0 {
		return from + end + len(closing)
	}
	return len(text)
}

// Package table knows the tables that both databases have: their columns, how a row becomes a register, how to read
// lists, and how to bring the schema up. What differs between the databases is a [Dialect].
package table

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Dialect is what the shared statements need to know of a database.
type Dialect struct {
	Schema string                       // before every table: "rollcall." or ""
	Mark   func(n int) string           // the n-th placeholder, from 1
	Time   func(time.Time) any          // a time as an argument; nil for the zero time
	Now    string                       // an expression for the database's clock
	Later  func(n int) string           // that clock, later by the n-th argument, which is in µs
	Span   func(from, to string) string // µs between two expressions of times

	Rows    func(n int, columns string) string                   // the n-th argument, JSON objects in an array, as the table k of these columns with their types
	Each    func(columns, table, index, condition string) string // joins k, row by row, with the rows r of a table that an index finds; "" is the primary key
	Named   func(column string, n int) string                    // whether a number is the "seq" of one of the n-th argument's objects, by the column's index
	By      func(index string) string                            // follows a table that is read by an index
	Skip    string                                               // ends a selection for an update: rows that others hold are left out; %s is the table's alias
	Has     func(list, text string) string                       // whether a JSON array, or null, has a text
	Lateral bool                                                 // a joined selection may name what was joined before
}

// few says of rows that are joined by their number with the first argument's that they are few, where a planner does not know.
func (d Dialect) few(column string) string {
	if !d.Lateral {
		return ""
	}
	return " AND " + d.Named(column, 1)
}

// skip ends a selection of rows to update.
func (d Dialect) skip(alias string) string { return strings.ReplaceAll(d.Skip, "%s", alias) }

// The columns of the tables, in the order in which the functions below read and write them.
const (
	DirectoryColumns = `source, directory, organization, name, type, state, version, removed, floor, decision, decision_version, ended, end_floor`
	UserColumns      = `source, directory, user_id, organization, version, active, state, email, first_name, last_name, name, attributes, identity, idp_id, created, account_key`
	GroupColumns     = `source, directory, group_id, organization, idp_id, version, removed, floor, name, name_version`
	EdgeColumns      = `source, directory, group_id, user_id, version, present`
	AccountColumns   = `source, directory, account_key, user_id, organization, idp_id, state, email, first_name, last_name, name, attributes, active, version, tomb_user, tomb_created, roles`
	GrantColumns     = `source, directory, account_key, group_id, roles`
	EventColumns     = `source, id, type, subject, directory, organization, occurred, received, folded, origin, outcome, reason, key_version, signed_at, body_sha256, binary_version, config_digest`
	DeadColumns      = `source, id, type, directory, class, error, body, origin, received, key_version, signed_at, parked_at, due_at, attempts`
	ChangeColumns    = `source, directory, kind, account_key, group_id, role, event, occurred, before, after`
	ExpansionColumns = `id, source, directory, group_id, event, occurred, cursor, done, begun`
)

// Scanner is a row of either driver.
type Scanner interface{ Scan(dest ...any) error }

// moment reads a time of either database: a timestamp, µs since 1970, or nothing.
type moment struct{ t *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*m.t = time.Time{}
	case time.Time:
		*m.t = v.UTC()
	case int64:
		*m.t = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("a time came as %T", src)
	}
	return nil
}

// document reads JSON into a value; an absent one leaves it as it is.
type document struct{ into any }

// Scan implements sql.Scanner.
func (d document) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		return nil
	case []byte:
		return json.Unmarshal(v, d.into)
	case string:
		return json.Unmarshal([]byte(v), d.into)
	default:
		return fmt.Errorf("JSON came as %T", src)
	}
}

// ScanDirectory reads DirectoryColumns.
func ScanDirectory(row Scanner) (r directory.Register, err error) {
	err = row.Scan(&r.Source, &r.Directory, &r.Organization, &r.Name, &r.Type, &r.State, &r.Version, &r.Removed, &r.Floor,
		&r.Decision, &r.DecisionVersion, &r.Ended, &r.EndFloor)
	return r, err
}

// Bearer is a user's account key, without the rest of its register.
type Bearer struct {
	User directory.ID
	Key  string
}

// BearerColumns are the columns that ScanBearer reads.
const BearerColumns = "source, directory, user_id, account_key"

// ScanBearer reads a row of BearerColumns.
func ScanBearer(row Scanner) (b Bearer, err error) {
	err = row.Scan(&b.User.Source, &b.User.Directory, &b.User.ID, &b.Key)
	return b, err
}

// ScanUser reads UserColumns.
func ScanUser(row Scanner) (u directory.User, err error) {
	var key string
	err = row.Scan(&u.Source, &u.Directory, &u.ID.ID, &u.Organization, &u.Version, &u.Active, &u.State, &u.Email, &u.FirstName, &u.LastName,
		&u.Name, document{&u.Attributes}, &u.Identity, &u.IDPID, moment{&u.Created}, &key)
	return u, err
}

// ScanGroup reads GroupColumns.
func ScanGroup(row Scanner) (g directory.Group, err error) {
	err = row.Scan(&g.Source, &g.Directory, &g.ID.ID, &g.Organization, &g.IDPID, &g.Version, &g.Removed, &g.Floor, &g.Name, &g.NameVersion)
	return g, err
}

// ScanEdge reads EdgeColumns.
func ScanEdge(row Scanner) (e directory.Edge, err error) {
	err = row.Scan(&e.Source, &e.Directory, &e.Group, &e.User, &e.Version, &e.Present)
	return e, err
}

// ScanAccount reads AccountColumns.
func ScanAccount(row Scanner) (a directory.Account, err error) {
	err = row.Scan(accountDest(&a)...)
	return a, err
}

func accountDest(a *directory.Account) []any {
	return []any{
		&a.Source, &a.Directory, &a.ID.ID, &a.User, &a.Organization, &a.IDPID, &a.State, &a.Email, &a.FirstName, &a.LastName,
		&a.Name, document{&a.Attributes}, &a.Active, &a.Version, &a.TombUser, moment{&a.TombCreated}, document{&a.Roles},
	}
}

// ScanGrant reads GrantColumns.
func ScanGrant(row Scanner) (g directory.Grant, err error) {
	err = row.Scan(&g.Source, &g.Directory, &g.Account, &g.Group, document{&g.Roles})
	return g, err
}

// ScanEntry reads EventColumns.
func ScanEntry(row Scanner) (e store.Entry, err error) {
	err = row.Scan(&e.Source, &e.ID, &e.Type, &e.Subject, &e.Directory, &e.Organization, moment{&e.Occurred}, moment{&e.Received}, moment{&e.Folded},
		&e.Origin, &e.Outcome, &e.Reason, &e.KeyVersion, moment{&e.SignedAt}, &e.BodySHA256, &e.Binary, &e.Config)
	return e, err
}

// ScanDead reads DeadColumns.
func ScanDead(row Scanner) (d store.Dead, err error) {
	err = row.Scan(&d.Source, &d.ID, &d.Type, &d.Directory, &d.Class, &d.Error, &d.Body, &d.Origin, moment{&d.Received}, &d.KeyVersion,
		moment{&d.SignedAt}, moment{&d.Parked}, moment{&d.Due}, &d.Attempts)
	return d, err
}

// ScanExpansion reads ExpansionColumns.
func ScanExpansion(row Scanner) (p store.PendingExpansion, err error) {
	err = row.Scan(&p.ID, &p.Source, &p.Directory, &p.Group, &p.Event, moment{&p.Occurred}, &p.Cursor, &p.Done, moment{&p.Begun})
	return p, err
}

// ScanChange reads seq, at and ChangeColumns.
func ScanChange(row Scanner) (c store.ChangeRow, err error) {
	err = row.Scan(changeDest(&c)...)
	return c, err
}

func changeDest(c *store.ChangeRow) []any {
	return []any{
		&c.Seq, moment{&c.At}, &c.Source, &c.Directory, &c.Kind, &c.Account, &c.Group, &c.Role, &c.Event, moment{&c.Occurred},
		document{&c.Before}, document{&c.After},
	}
}

// JSON renders a value for a JSON column; nil for nothing.
func JSON[T any](v T, nothing bool) any {
	if nothing {
		return nil
	}
	b, _ := json.Marshal(v) // maps and structs of strings cannot fail
	return string(b)
}

// Attributes renders a profile's attributes for their column.
func Attributes(p directory.Profile) any { return JSON(p.Attributes, len(p.Attributes) == 0) }

// Roles renders a list of roles for its column.
func Roles(list []string) any { return JSON(list, len(list) == 0) }

// Face renders one side of a change for its column.
func Face(f *directory.Face) any { return JSON(f, f == nil) }

// All reads every row with scan, and closes them.
func All[T any](rows *sql.Rows, err error, scan func(Scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// And reads, behind the columns that somebody else scans, one more.
func And(row Scanner, more ...any) Scanner { return longer{row, more} }

type longer struct {
	row  Scanner
	more []any
}

// Scan implements Scanner.
func (l longer) Scan(dest ...any) error { return l.row.Scan(append(dest, l.more...)...) }

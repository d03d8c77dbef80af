package binder

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

// coded is an error of either database's driver.
type pgError string

func (e pgError) Error() string    { return "an error" }
func (e pgError) SQLState() string { return string(e) }

type sqliteError int

func (e sqliteError) Error() string { return "an error" }
func (e sqliteError) Code() int     { return int(e) }

func TestTheDatabasesTroubleIsNoChangesFault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                   {nil, false},
		"an error of ours":          {errors.New("no"), false},
		"the end":                   {context.Canceled, true},
		"too slow a statement":      {context.DeadlineExceeded, false},
		"a bad connection":          {driver.ErrBadConn, true},
		"a connection that ended":   {io.ErrUnexpectedEOF, true},
		"a network":                 {&net.OpError{Op: "read", Err: errors.New("reset")}, true},
		"a constraint":              {pgError("23505"), false},
		"a value":                   {pgError("22P02"), false},
		"a column":                  {pgError("42703"), false},
		"a lock":                    {pgError("55P03"), false},
		"a deadlock":                {pgError("40P01"), false},
		"a statement's time":        {pgError("57014"), false},
		"a shutdown":                {pgError("57P01"), true},
		"starting":                  {pgError("57P03"), true},
		"full":                      {pgError("53100"), true},
		"connections":               {pgError("53300"), true},
		"a broken connection":       {pgError("08006"), true},
		"a standby":                 {pgError("25006"), true},
		"a file's input and output": {pgError("58030"), true},
		"no password":               {pgError("28P01"), true},
		"SQLite, a constraint":      {sqliteError(2067), false},
		"SQLite, a statement":       {sqliteError(1), false},
		"SQLite, busy":              {sqliteError(5), true},
		"SQLite, busy, extended":    {sqliteError(517), true},
		"SQLite, full":              {sqliteError(13), true},
		"SQLite, read-only":         {sqliteError(8), true},
	} {
		if got := trouble(c.err); got != c.want {
			t.Errorf("%s: trouble(%v) = %t, want %t", name, c.err, got, c.want)
		}
		if c.err != nil && trouble(fmt.Errorf("run it: %w", c.err)) != c.want {
			t.Errorf("%s: wrapped, it is something else", name)
		}
	}
}

func TestOneStatementIsToldFromTwo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`SELECT 1`: true, `SELECT 1;`: true, `SELECT 1; `: true, `SELECT 1; -- done`: true, "SELECT 1; /* done */\n;": true, `SELECT ';'`: true, `SELECT 'it''s; ' || "a;b"`: true,
		"SELECT `a;b`, [c;d]": true, "SELECT 1 -- one; two\n": true, `SELECT 1 /* one; two */`: true, `SELECT 'open; ended`: true, `-- SELECT; ` + "\nSELECT 1": true,
		`SELECT 1; SELECT 2`: false, "SELECT 1;-- done\nSELECT 2": false, `SELECT ';'; SELECT 2`: false, `SELECT 1;'x'`: false,
	} {
		if got := single(text); got != want {
			t.Errorf("single(%q) = %t, want %t", text, got, want)
		}
	}
}

package table

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/store"
)

// Marks is a table of marks: beside Rollcall's tables, or those of an application in a database of its own.
type Marks struct {
	Dialect Dialect
	Name    string   // of the table, as statements say it
	Exists  string   // selects whether it is there
	SQL     []string // makes it
}

// Of returns the marks of these changes.
func (m Marks) Of(ctx context.Context, s store.Session, seqs []int64) ([]store.Mark, error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	return ask(ctx, s, "marks", fields(func(k *store.Mark) []any {
		return []any{&k.Seq, &k.Binding, &k.Change, moment{&k.At}, &k.Rows, &k.Digest}
	}), `SELECT seq, binding, change, at, rows, digest FROM `+m.Name+` WHERE `+m.Dialect.Named("seq", 1)+` ORDER BY seq, binding, change`,
		seqArg(seqs))
}

// Add writes marks. One that is there already is an error: its binding took effect before, and must not do so again.
func (m Marks) Add(ctx context.Context, s store.Session, marks []store.Mark) error {
	if len(marks) == 0 {
		return nil
	}
	now := time.Now()
	_, err := s.ExecContext(ctx, `INSERT INTO `+m.Name+` (seq, binding, change, at, rows, digest)
		SELECT k.seq, k.binding, k.change, k.at, k.rows, k.digest FROM `+m.Dialect.Rows(1, "seq bigint, binding text, change text, at timestamptz, rows bigint, digest text"),
		rows(marks, func(k store.Mark) map[string]any {
			if k.At.IsZero() {
				k.At = now
			}
			return map[string]any{"seq": k.Seq, "binding": k.Binding, "change": k.Change, "at": m.Dialect.Time(k.At.Truncate(time.Microsecond)), "rows": k.Rows, "digest": k.Digest}
		}))
	return wrap(fmt.Sprintf("mark %d bindings in %s", len(marks), m.Name), err)
}

// Create makes the table when it is not there. Several may do so at once: who loses tries again.
func (m Marks) Create(ctx context.Context, s store.Session) error {
	var failed error
	for range 3 {
		there, err := m.there(ctx, s)
		if there || err != nil && failed == nil {
			return err
		}
		if err != nil {
			break // what failed has lost the transaction that this is
		}
		if failed = m.create(ctx, s); failed == nil {
			return nil
		}
	}
	return fmt.Errorf("make the table of marks: %w\nhint: let somebody who may run, once:\n%s", failed, m.Script())
}

func (m Marks) create(ctx context.Context, s store.Session) error {
	for _, statement := range m.SQL {
		if _, err := s.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (m Marks) there(ctx context.Context, s store.Session) (there bool, err error) {
	if err := s.QueryRowContext(ctx, m.Exists).Scan(&there); err != nil || !there {
		return there, wrap("look for "+m.Name, err)
	}
	if _, err := m.Of(ctx, s, []int64{0}); err != nil {
		return false, fmt.Errorf("%w\nhint: the table of marks has another form; it is made by:\n%s", err, m.Script())
	}
	return true, nil
}

// Script is what Create runs, for somebody to run by hand.
func (m Marks) Script() (text string) {
	for _, statement := range m.SQL {
		text += statement + ";\n"
	}
	return text
}

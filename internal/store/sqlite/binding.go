package sqlite

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/table"
)

// jsonRows implements table.Dialect.Rows.
func jsonRows(n int, columns string) string {
	var values []string
	for _, c := range strings.Split(columns, ", ") {
		name, _, _ := strings.Cut(c, " ")
		values = append(values, `value->>'`+name+`' AS `+name)
	}
	return `(SELECT ` + strings.Join(values, ", ") + ` FROM json_each(` + "?" + strconv.Itoa(n) + `)) AS k`
}

func indexedBy(index string) string {
	if index == "" {
		return ""
	}
	return ` INDEXED BY ` + index
}

// eachRow implements table.Dialect.Each.
func eachRow(_, name, index, condition string) string {
	return ` CROSS JOIN ` + name + ` r` + indexedBy(index) + ` ON ` + condition
}

// bySeq implements table.Dialect.Named.
func bySeq(column string, n int) string {
	return column + ` IN (SELECT value->>'seq' FROM json_each(?` + strconv.Itoa(n) + `))`
}

// Marks is a table of marks: "bound" in Rollcall's own file, another name in one of an application.
func Marks(name string) table.Marks {
	return table.Marks{
		Dialect: dialect, Name: name, Exists: `SELECT count(*) > 0 FROM sqlite_master WHERE name = '` + name + `'`,
		SQL: []string{`CREATE TABLE IF NOT EXISTS ` + name + ` (seq integer NOT NULL, binding text NOT NULL, change text NOT NULL, at integer NOT NULL, rows integer NOT NULL,
	digest text NOT NULL, PRIMARY KEY (seq, binding, change)) WITHOUT ROWID`},
	}
}

const ownMarks = "bound"

// Marks implements store.Binding.
func (s *Store) Marks(ctx context.Context, session store.Session, seqs []int64) ([]store.Mark, error) {
	if session == nil {
		session = s.Reader.DB
	}
	return Marks(ownMarks).Of(ctx, session, seqs)
}

// Mark implements store.Binding.
func (s *Store) Mark(ctx context.Context, session store.Session, marks []store.Mark) error {
	if session == nil {
		session = s.write
	}
	return Marks(ownMarks).Add(ctx, session, marks)
}

// cursors are of the form 0-SEQ, as another database's are of TX-SEQ.
var cursors = regexp.MustCompile(`^0-([0-9]{1,18})$`)

// Feed implements store.Binding. One writer commits the changes in the order of their numbers.
func (s *Store) Feed(ctx context.Context, cursor string, limit int) ([]store.FeedRow, error) {
	if cursor == "" {
		cursor = "0-0"
	}
	at := cursors.FindStringSubmatch(cursor)
	if at == nil {
		return nil, fmt.Errorf("cursor %q: %w", cursor, store.ErrNotFound)
	}
	seq, _ := strconv.ParseInt(at[1], 10, 64) // it is digits, and few
	changes, err := s.Changes(ctx, store.ChangeFilter{After: seq, Limit: limit})
	if err != nil {
		return nil, err
	}
	rows := make([]store.FeedRow, len(changes))
	for i, c := range changes {
		rows[i] = store.FeedRow{ChangeRow: c, Cursor: "0-" + strconv.FormatInt(c.Seq, 10)}
	}
	return rows, nil
}

// Announced implements store.BindingTx.
func (t *tx) Announced(ctx context.Context, scope directory.Scope) (announced, told directory.Announced, err error) {
	return t.telling(ctx, scope, table.ToldByEither)
}

// Given implements store.BindingTx.
func (t *tx) Given(ctx context.Context, scope directory.Scope) (directory.Announced, error) {
	_, given, err := t.telling(ctx, scope, table.EverGiven)
	return given, err
}

func (t *tx) telling(ctx context.Context, scope directory.Scope, which string) (announced, told directory.Announced, err error) {
	telling := table.NewTelling(scope)
	for _, q := range telling.Questions(dialect, which) {
		rows, err := t.QueryContext(ctx, q.Text, scope.Source, scope.Directory)
		if _, err = table.All(rows, err, func(row table.Scanner) (none struct{}, err error) { return none, q.Row(row) }); err != nil {
			return announced, told, fmt.Errorf("read what was announced of %s: %w", scope.Directory, err)
		}
	}
	announced, told = telling.Finish()
	return announced, told, nil
}

// Discard implements store.BindingTx.
func (t *tx) Discard(ctx context.Context, scope directory.Scope, result string) (int, error) {
	done, err := t.ExecContext(ctx, dialect.DiscardStatement(""), result, scope.Source, scope.Directory)
	if err != nil {
		return 0, fmt.Errorf("discard the changes of %s: %w", scope.Directory, err)
	}
	n, err := done.RowsAffected()
	return int(n), err
}

// SetMode implements store.BindingTx.
func (t *tx) SetMode(ctx context.Context, m store.ModeRow) error {
	text, args := dialect.ModeStatement(m)
	if _, err := t.ExecContext(ctx, text, args...); err != nil {
		return fmt.Errorf("set the mode of %s: %w", m.Directory, err)
	}
	return nil
}

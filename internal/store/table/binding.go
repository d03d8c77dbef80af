package table

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Binding implements store.Binding but for Marks, Mark and Feed, and for what SaveLink locks.
type Binding struct {
	Read, Write *sql.DB
	Dialect     Dialect
}

func (b Binding) reader(s store.Session) store.Session {
	if s == nil {
		return b.Read
	}
	return s
}

func (b Binding) writer(s store.Session) store.Session {
	if s == nil {
		return b.Write
	}
	return s
}

// in names a table.
func (b Binding) in(name string) string { return b.Dialect.Schema + name }

func (b Binding) mark(n int) string { return b.Dialect.Mark(n) }

// at is a time within rows, which is null when it is zero. The databases keep microseconds.
func (b Binding) at(t time.Time) any { return b.Dialect.Time(t.Truncate(time.Microsecond)) }

// rows renders values for the argument that Dialect.Rows stands for.
func rows[T any](list []T, row func(T) map[string]any) string {
	out := make([]map[string]any, len(list))
	for i, v := range list {
		out[i] = row(v)
	}
	text, _ := json.Marshal(out) // texts, numbers and times cannot fail
	return string(text)
}

func ask[T any](ctx context.Context, s store.Session, what string, scan func(Scanner) (T, error), text string, args ...any) ([]T, error) {
	found, err := s.QueryContext(ctx, text, args...)
	out, err := All(found, err, scan)
	return out, wrap("read "+what, err)
}

// fields makes a scan of what a row's columns go into.
func fields[T any](dest func(*T) []any) func(Scanner) (T, error) {
	return func(row Scanner) (v T, err error) {
		err = row.Scan(dest(&v)...)
		return v, err
	}
}

var scanSeq = fields(func(seq *int64) []any { return []any{seq} })

// Prefix puts an alias before every column.
func Prefix(alias, columns string) string {
	return alias + "." + strings.ReplaceAll(columns, ", ", ", "+alias+".")
}

const modeColumns = `source, directory, mode, changed_at, changed_by, reason`

var (
	scanMode = fields(func(m *store.ModeRow) []any {
		return []any{&m.Source, &m.Directory, &m.Mode, moment{&m.Changed}, &m.By, &m.Reason}
	})
	scanScope = fields(func(s *directory.Scope) []any { return []any{&s.Source, &s.Directory} })
)

// Modes implements store.Binding.
func (b Binding) Modes(ctx context.Context) ([]store.ModeRow, error) {
	return ask(ctx, b.Read, "modes", scanMode, `SELECT `+modeColumns+` FROM `+b.in("modes")+` ORDER BY source, directory`)
}

// ModeStatement is how SetMode writes a mode, with its arguments.
func (d Dialect) ModeStatement(m store.ModeRow) (string, []any) {
	if m.Changed.IsZero() {
		m.Changed = time.Now()
	}
	marks := make([]string, 6)
	for i := range marks {
		marks[i] = d.Mark(i + 1)
	}
	return `INSERT INTO ` + d.Schema + `modes (` + modeColumns + `) VALUES (` + strings.Join(marks, ", ") + `) ON CONFLICT (source, directory) DO UPDATE
			SET mode = excluded.mode, changed_at = excluded.changed_at, changed_by = excluded.changed_by, reason = excluded.reason`,
		[]any{m.Source, m.Directory, string(m.Mode), d.Time(m.Changed), m.By, m.Reason}
}

// Admit implements store.Binding. The changes of a directory without a mode wait, and none of them has failed.
func (b Binding) Admit(ctx context.Context, mode store.Mode) ([]directory.Scope, error) {
	fresh, err := ask(ctx, b.Read, "directories without a mode", scanScope, `WITH RECURSIVE `+b.heads("ready", store.Bound, "IS NULL")+`
		SELECT c.source, c.directory FROM ready h JOIN `+b.in("changes")+` c ON c.seq = h.seq
		WHERE NOT EXISTS (SELECT 1 FROM `+b.in("modes")+` m WHERE m.source = c.source AND m.directory = c.directory) ORDER BY c.source, c.directory`)
	if err != nil || len(fresh) == 0 {
		return nil, err
	}
	return ask(ctx, b.Write, "the directories admitted", scanScope, `INSERT INTO `+b.in("modes")+` (`+modeColumns+`)
		SELECT k.source, k.directory, k.mode, k.at, 'rollcall', '' FROM `+b.Dialect.Rows(1, "source text, directory text, mode text, at timestamptz")+`
		WHERE true ON CONFLICT DO NOTHING RETURNING source, directory`,
		rows(fresh, func(s directory.Scope) map[string]any {
			return map[string]any{"source": s.Source, "directory": s.Directory, "mode": mode, "at": b.at(time.Now())}
		}))
}

// heads is a common table of the first waiting change of every directory, found without reading any others: a step or two
// of the index a directory. next says whether those that wait for their time are meant.
func (b Binding) heads(name string, t store.Track, next string) string {
	first := func(condition string) string {
		return `(SELECT h.seq FROM ` + b.in("changes") + ` h WHERE h.` + string(t) + `_at IS NULL AND h.` + string(t) + `_next ` + next + condition + ` ORDER BY h.source, h.directory LIMIT 1)`
	}
	return name + `(seq) AS (SELECT ` + first("") + ` UNION ALL
		SELECT coalesce(` + first(` AND h.source = c.source AND h.directory > c.directory`) + `, ` + first(` AND h.source > c.source`) + `)
		FROM ` + name + ` JOIN ` + b.in("changes") + ` c ON c.seq = ` + name + `.seq)`
}

// doneOnBoth marks waiting changes on the tracks on which they wait, with the result that %s stands for.
const doneOnBoth = ` SET bound_at = coalesce(bound_at, %[2]s), bound_result = CASE WHEN bound_at IS NULL THEN %[1]s ELSE bound_result END,
	posted_at = coalesce(posted_at, %[2]s), posted_result = CASE WHEN posted_at IS NULL THEN %[1]s ELSE posted_result END`

// waitingIn selects, up to a number of them in each of four ways, the changes of a directory that wait on a track or on both.
func (d Dialect) waitingIn(source, name, limit string) string {
	var reads []string
	for _, wait := range []string{"bound_at IS NULL AND bound_next IS NULL", "bound_at IS NULL AND bound_next IS NOT NULL", "posted_at IS NULL AND posted_next IS NULL", "posted_at IS NULL AND posted_next IS NOT NULL"} {
		reads = append(reads, `SELECT * FROM (SELECT seq FROM `+d.Schema+`changes WHERE source = `+source+` AND directory = `+name+` AND `+wait+limit+`) r`)
	}
	return strings.Join(reads, ` UNION `)
}

// Observed implements store.Binding. What another transaction holds is left for the next call.
func (b Binding) Observed(ctx context.Context, limit int) (int, error) {
	scopes, err := ask(ctx, b.Read, "directories that observe", scanScope, `WITH RECURSIVE `+b.heads("b1", store.Bound, "IS NULL")+`, `+b.heads("b2", store.Bound, "IS NOT NULL")+`,
		`+b.heads("p1", store.Posted, "IS NULL")+`, `+b.heads("p2", store.Posted, "IS NOT NULL")+`
		SELECT DISTINCT c.source, c.directory FROM (SELECT seq FROM b1 UNION SELECT seq FROM b2 UNION SELECT seq FROM p1 UNION SELECT seq FROM p2) h
		JOIN `+b.in("changes")+` c ON c.seq = h.seq JOIN `+b.in("modes")+` m ON m.source = c.source AND m.directory = c.directory
		WHERE m.mode = 'observe' ORDER BY c.source, c.directory LIMIT 64`)
	if err != nil || len(scopes) == 0 {
		return 0, err
	}
	seqs, err := ofEach(ctx, b, "changes to observe", scanSeq, scopes, func(source, name string) string { return b.Dialect.waitingIn(source, name, ` LIMIT `+b.mark(1)) }, limit)
	if err != nil {
		return 0, err
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	n, err := affected(b.Write.ExecContext(ctx, `WITH w AS MATERIALIZED (SELECT c.seq FROM `+b.in("changes")+` c JOIN `+b.in("modes")+` m ON m.source = c.source AND m.directory = c.directory
			WHERE `+b.Dialect.Named("c.seq", 1)+` AND m.mode = 'observe' AND (c.bound_at IS NULL OR c.posted_at IS NULL)`+b.Dialect.skip("c")+`)
		UPDATE `+b.in("changes")+fmt.Sprintf(doneOnBoth, `'`+store.ResultObserved+`'`, b.Dialect.Now)+` WHERE seq IN (SELECT seq FROM w)`+b.Dialect.few("seq"),
		seqArg(seqs[:min(limit, len(seqs))])))
	return n, wrap("mark observed changes", err)
}

func seqArg(seqs []int64) string {
	return rows(seqs, func(seq int64) map[string]any { return map[string]any{"seq": seq} })
}

// ofEach asks one question of several directories: of all at once where a statement can, else of one after the other.
func ofEach[T any](ctx context.Context, b Binding, what string, scan func(Scanner) (T, error), scopes []directory.Scope, text func(source, name string) string, args ...any) (all []T, err error) {
	n := len(args)
	if b.Dialect.Lateral {
		return ask(ctx, b.Read, what, scan, `SELECT c.* FROM `+b.Dialect.Rows(n+1, `source text, directory text`)+` CROSS JOIN LATERAL (`+text("k.source", "k.directory")+`) c`,
			append(args, rows(scopes, func(s directory.Scope) map[string]any {
				return map[string]any{"source": s.Source, "directory": s.Directory}
			}))...)
	}
	for _, s := range scopes {
		found, err := ask(ctx, b.Read, what, scan, text(b.mark(n+1), b.mark(n+2)), append(args[:n:n], s.Source, s.Directory)...)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// DiscardStatement is how Discard marks the changes of a directory: by result, source and directory.
func (d Dialect) DiscardStatement(lock string) string {
	c := d.Schema + "changes"
	return `WITH n AS MATERIALIZED (` + d.waitingIn(d.Mark(2), d.Mark(3), "") + `), w AS MATERIALIZED (SELECT c.seq FROM ` + c + ` c WHERE c.seq IN (SELECT seq FROM n)
			AND (c.bound_at IS NULL OR c.posted_at IS NULL) ORDER BY c.seq` + lock + `)
		UPDATE ` + c + fmt.Sprintf(doneOnBoth, d.Mark(1), d.Now) + ` WHERE seq IN (SELECT seq FROM w)`
}

// maxError is how much of an error's text is kept, in bytes.
const maxError = 2048

// Settle implements store.Binding.
func (b Binding) Settle(ctx context.Context, s store.Session, t store.Track, done []store.Done, failed []store.Failed, posted bool) error {
	// Rows are locked in the order of their numbers by everybody who settles, so that no two wait for each other.
	done = slices.SortedFunc(slices.Values(done), func(x, y store.Done) int { return cmp.Compare(x.Seq, y.Seq) })
	failed = slices.SortedFunc(slices.Values(failed), func(x, y store.Failed) int { return cmp.Compare(x.Seq, y.Seq) })
	if err := b.settleDone(ctx, b.writer(s), t, done, posted); err != nil {
		return fmt.Errorf("settle %d changes: %w", len(done), err)
	}
	if err := b.settleFailed(ctx, b.writer(s), t, failed); err != nil {
		return fmt.Errorf("settle %d failed changes: %w", len(failed), err)
	}
	return nil
}

func (b Binding) settleDone(ctx context.Context, s store.Session, t store.Track, done []store.Done, posted bool) error {
	if len(done) == 0 {
		return nil
	}
	sets := string(t) + `_at = ` + b.Dialect.Now + `, ` + string(t) + `_result = k.result`
	if t == store.Bound {
		sets += `, bound_rows = k.rows, bound_digest = k.digest`
		if posted {
			sets += `, posted_at = coalesce(posted_at, ` + b.Dialect.Now + `), posted_result = CASE WHEN posted_at IS NULL THEN '` + store.ResultNone + `' ELSE posted_result END`
		}
	}
	_, err := s.ExecContext(ctx, `UPDATE `+b.in("changes")+` AS c SET `+sets+` FROM `+b.Dialect.Rows(1, "seq bigint, result text, rows bigint, digest text")+`
		WHERE c.seq = k.seq`+b.Dialect.few("c.seq")+` AND (c.`+string(t)+`_at IS NULL OR c.`+string(t)+`_result = '`+store.ResultObserved+`' AND k.result = '`+store.ResultBound+`')`, rows(done, func(d store.Done) map[string]any {
		return map[string]any{"seq": d.Seq, "result": d.Result, "rows": d.Rows, "digest": d.Digest}
	}))
	return err
}

// settleFailed gives every failed change a time: one that has none is tried again at once, and counts as failed still.
func (b Binding) settleFailed(ctx context.Context, s store.Session, t store.Track, failed []store.Failed) error {
	if len(failed) == 0 {
		return nil
	}
	_, err := s.ExecContext(ctx, strings.ReplaceAll(`UPDATE `+b.in("changes")+` AS c SET T_attempts = T_attempts + 1, T_next = coalesce(k.next, `+b.Dialect.Now+`), T_error = k.error
		FROM `+b.Dialect.Rows(1, "seq bigint, next timestamptz, error text")+`
		WHERE c.seq = k.seq`+b.Dialect.few("c.seq")+` AND c.T_at IS NULL`, "T_", string(t)+"_"),
		rows(failed, func(f store.Failed) map[string]any {
			return map[string]any{"seq": f.Seq, "next": b.at(f.Next), "error": directory.Text(f.Error, maxError)}
		}))
	return err
}

// Backlog implements store.Binding.
func (b Binding) Backlog(ctx context.Context) (store.Backlog, error) {
	out := store.Backlog{Waiting: map[store.Track]int64{}, Paused: map[store.Track]int64{}, Oldest: map[store.Track]time.Time{}}
	for _, t := range []store.Track{store.Bound, store.Posted} {
		if err := b.backlog(ctx, &out, t); err != nil {
			return out, err
		}
	}
	err := b.Read.QueryRowContext(ctx, `SELECT (SELECT max(bound_at) FROM `+b.in("changes")+` WHERE bound_result <> '`+store.ResultObserved+`'),
		(SELECT count(*) FROM `+b.in("links")+` WHERE `+heldState+`)`).Scan(moment{&out.LastDone}, &out.Held)
	return out, wrap("read when a change was bound last, and how many links are held", err)
}

func (b Binding) backlog(ctx context.Context, out *store.Backlog, t store.Track) error {
	type waiting struct {
		mode   store.Mode
		count  int64
		oldest time.Time
	}
	found, err := ask(ctx, b.Read, "the backlog", fields(func(w *waiting) []any { return []any{&w.mode, &w.count, moment{&w.oldest}} }),
		`SELECT m.mode, count(*), min(c.at) FROM `+b.in("modes")+` m JOIN `+b.in("changes")+` c ON c.source = m.source AND c.directory = m.directory
		WHERE c.`+string(t)+`_at IS NULL AND m.mode <> 'observe' GROUP BY m.mode`)
	if err != nil {
		return err
	}
	for _, w := range found {
		if w.mode == store.Paused {
			out.Paused[t] = w.count
		} else {
			out.Waiting[t], out.Oldest[t] = w.count, w.oldest
		}
	}
	failing, err := ask(ctx, b.Read, "what fails", fields(func(f *store.Failing) []any {
		f.Track = t
		return []any{&f.Kind, &f.Count, moment{&f.Since}, &f.Error}
	}), strings.ReplaceAll(`SELECT f.kind, f.n, f.since, c.T_error FROM (SELECT kind, count(*) AS n, min(at) AS since, max(seq) AS latest FROM `+b.in("changes")+`
			WHERE T_at IS NULL AND T_next IS NOT NULL AND T_attempts > 0 GROUP BY kind) f
		JOIN `+b.in("changes")+` c ON c.seq = f.latest ORDER BY f.n DESC, f.kind`, "T_", string(t)+"_"))
	out.Failing = append(out.Failing, failing...)
	return err
}

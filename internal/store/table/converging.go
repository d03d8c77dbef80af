package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// told as it happened is an event e: by a webhook, or by the log p since it was first read.
const asItHappened = `(e.origin = 'hook' OR e.origin = 'poll' AND (p.started IS NULL OR e.occurred >= p.started)) AND e.occurred IS NOT NULL`

// tookEffect is a condition on a change c that the application was told of, and by it when.
const (
	tookEffect  = `c.bound_result <> 'observed' AND (c.bound_result = 'bound' OR c.posted_result = 'bound')`
	effectTaken = `CASE WHEN c.bound_result = 'bound' THEN c.bound_at ELSE c.posted_at END`
)

// us is a duration in µs.
type us struct{ d *time.Duration }

// Scan implements sql.Scanner.
func (u us) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a duration came as %T", src)
	}
	*u.d = max(time.Duration(n)*time.Microsecond, 0)
	return nil
}

// Lags implements store.Converging.
func (r Reader) Lags(ctx context.Context, recent, worst time.Time) ([]store.Lag, error) {
	rows := map[directory.Scope]*store.Lag{}
	of := func(s directory.Scope) *store.Lag {
		if rows[s] == nil {
			rows[s] = &store.Lag{Scope: s}
		}
		return rows[s]
	}
	events := ` FROM {}events e LEFT JOIN {}poll_cursors p ON p.source = e.source WHERE e.received >= %s AND ` + asItHappened
	changes := ` FROM {}changes c JOIN {}events e ON e.source = c.source AND e.id = c.event LEFT JOIN {}poll_cursors p ON p.source = e.source
		WHERE c.bound_at >= %s AND ` + tookEffect + ` AND ` + asItHappened
	errs := []error{r.heard(ctx, worst, of)}
	for _, s := range []struct {
		from, of, at, to string
		into             func(*store.Lag) *store.Span
	}{
		{events, "e", "e.received", "e.received", func(l *store.Lag) *store.Span { return &l.Received }},
		{events, "e", "e.received", "e.folded", func(l *store.Lag) *store.Span { return &l.Folded }},
		{changes, "c", "c.bound_at", effectTaken, func(l *store.Lag) *store.Span { return &l.Bound }},
	} {
		text := `WITH l AS (SELECT ` + Prefix(s.of, "source, directory") + `, ` + r.Dialect.Span("e.occurred", s.to) + ` AS lag, ` + s.at + ` >= ` + r.Dialect.Mark(1) + ` AS recent` +
			fmt.Sprintf(s.from, r.Dialect.Mark(2)) + `), n AS (SELECT source, directory, lag, recent, row_number() OVER (PARTITION BY source, directory, recent ORDER BY lag) AS n,
				count(*) OVER (PARTITION BY source, directory, recent) AS total FROM l)
			SELECT source, directory, count(CASE WHEN recent THEN 1 END), coalesce(min(CASE WHEN recent AND 2 * n >= total THEN lag END), 0),
				coalesce(max(CASE WHEN recent THEN lag END), 0), max(lag) FROM n GROUP BY source, directory`
		_, err := list(ctx, r, "how far events are behind", r.schema(text), []any{r.Dialect.Time(recent), r.Dialect.Time(worst)}, func(row Scanner) (none struct{}, err error) {
			var scope directory.Scope
			var span store.Span
			err = row.Scan(&scope.Source, &scope.Directory, &span.Recent, us{&span.Median}, us{&span.Most}, us{&span.Worst})
			*s.into(of(scope)) = span
			return none, err
		})
		errs = append(errs, err)
	}
	return inOrder(rows), errors.Join(errs...)
}

// heard notes when something was received of each directory last.
func (r Reader) heard(ctx context.Context, since time.Time, of func(directory.Scope) *store.Lag) error {
	_, err := list(ctx, r, "what was received", `SELECT source, directory, max(received) FROM `+r.in("events")+` WHERE received >= `+r.Dialect.Mark(1)+` AND directory <> '' GROUP BY source, directory`,
		[]any{r.Dialect.Time(since)}, func(row Scanner) (none struct{}, err error) {
			var scope directory.Scope
			var heard time.Time
			err = row.Scan(&scope.Source, &scope.Directory, moment{&heard})
			of(scope).Heard = heard
			return none, err
		})
	return err
}

// Leavers implements store.Converging.
func (r Reader) Leavers(ctx context.Context, since time.Time) ([]store.Leavers, error) {
	rows := map[directory.Scope]*store.Leavers{}
	read := func(what, text string, args []any, note func(all *store.Leavers, count int64, median time.Duration, l store.Leaver)) error {
		_, err := list(ctx, r, what, r.schema(text), args, func(row Scanner) (none struct{}, err error) {
			var scope directory.Scope
			var count int64
			var median time.Duration
			var l store.Leaver
			err = row.Scan(&scope.Source, &scope.Directory, &count, us{&median}, &l.Account, &l.Email, &l.Event,
				moment{&l.Occurred}, moment{&l.Received}, moment{&l.Folded}, moment{&l.Bound})
			if rows[scope] == nil {
				rows[scope] = &store.Leavers{Scope: scope}
			}
			note(rows[scope], count, median, l)
			return none, err
		})
		return err
	}
	// The order in which leavers stand tells the median, and the first of them or the last.
	const whole = `SELECT d.source, d.directory, d.total, coalesce(m.lag, 0), d.account_key, coalesce(a.email, ''), d.event, d.occurred, d.received, d.at, d.effect
		FROM n d LEFT JOIN n m ON m.source = d.source AND m.directory = d.directory AND m.n = (d.total + 1) / 2
			LEFT JOIN {}accounts a ON a.source = d.source AND a.directory = d.directory AND a.account_key = d.account_key WHERE d.n = `
	const columns = `SELECT c.source, c.directory, c.account_key, c.event, e.occurred, e.received, c.at, `
	const placed = `), n AS (SELECT l.*, row_number() OVER (PARTITION BY source, directory ORDER BY %s) AS n, count(*) OVER (PARTITION BY source, directory) AS total FROM l) `
	err := read("how long leavers kept access", `WITH l AS (`+columns+effectTaken+` AS effect, `+r.Dialect.Span("e.occurred", effectTaken)+` AS lag, c.seq
			FROM {}changes c JOIN {}events e ON e.source = c.source AND e.id = c.event LEFT JOIN {}poll_cursors p ON p.source = e.source
			WHERE c.bound_at >= `+r.Dialect.Mark(1)+` AND c.kind = 'account.deactivated' AND `+tookEffect+` AND `+asItHappened+fmt.Sprintf(placed, "lag, seq")+whole+`d.total`,
		[]any{r.Dialect.Time(since)}, func(all *store.Leavers, count int64, median time.Duration, l store.Leaver) {
			all.Done, all.Median, all.Worst = count, median, l
		})
	waiting := read("which leavers wait", `WITH l AS (`+columns+`CASE WHEN false THEN c.bound_at END AS effect, 0 AS lag, c.seq
			FROM {}modes m JOIN {}changes c ON c.source = m.source AND c.directory = m.directory LEFT JOIN {}events e ON e.source = c.source AND e.id = c.event
			WHERE (c.bound_at IS NULL OR c.posted_at IS NULL) AND m.mode = 'enforce' AND c.kind = 'account.deactivated'`+fmt.Sprintf(placed, "at, seq")+whole+`1`,
		nil, func(all *store.Leavers, count int64, _ time.Duration, l store.Leaver) {
			all.Waiting, all.Oldest = count, l
		})
	return inOrder(rows), errors.Join(err, waiting)
}

// DeadTallies implements store.Converging.
func (r Reader) DeadTallies(ctx context.Context) ([]store.DeadTally, error) {
	return list(ctx, r, "how many events are dead", `SELECT source, class, count(CASE WHEN due_at IS NULL THEN 1 END), count(due_at), min(CASE WHEN due_at IS NULL THEN parked_at END)
		FROM `+r.in("dead_events")+` GROUP BY source, class ORDER BY source, class`, nil, func(row Scanner) (d store.DeadTally, err error) {
		err = row.Scan(&d.Source, &d.Class, &d.Count, &d.Deferred, moment{&d.Oldest})
		return d, err
	})
}

// schema puts the schema's name where a statement has {}.
func (r Reader) schema(text string) string { return strings.ReplaceAll(text, "{}", r.Dialect.Schema) }

// inOrder returns rows by source and directory.
func inOrder[T any](rows map[directory.Scope]*T) (out []T) {
	for _, scope := range slices.SortedFunc(maps.Keys(rows), func(a, b directory.Scope) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Directory, b.Directory))
	}) {
		out = append(out, *rows[scope])
	}
	return out
}

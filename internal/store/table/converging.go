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

// Lags implements store.Converging. Only what is recent is put in order; of the rest the greatest is enough.
func (r Reader) Lags(ctx context.Context, recent, worst time.Time) ([]store.Lag, error) {
	rows := map[directory.Scope]*store.Lag{}
	read := func(what, text string, since time.Time, into func(*store.Lag) []any) error {
		_, err := list(ctx, r, what, r.schema(text), []any{r.Dialect.Time(since)}, func(row Scanner) (none struct{}, err error) {
			var scope directory.Scope
			if err := row.Scan(append([]any{&scope.Source, &scope.Directory}, into(new(store.Lag))...)...); err != nil { // whose it is
				return none, err
			}
			if rows[scope] == nil {
				rows[scope] = &store.Lag{Scope: scope}
			}
			return none, row.Scan(append([]any{&scope.Source, &scope.Directory}, into(rows[scope])...)...)
		})
		return err
	}
	received, folded, bound := r.Dialect.Span("e.occurred", "e.received"), r.Dialect.Span("e.occurred", "e.folded"), r.Dialect.Span("e.occurred", effectTaken)
	since := r.Dialect.Mark(1)
	events := ` FROM {}events e LEFT JOIN {}poll_cursors p ON p.source = e.source WHERE e.received >= ` + since
	changes := ` FROM {}changes c JOIN {}events e ON e.source = c.source AND e.id = c.event LEFT JOIN {}poll_cursors p ON p.source = e.source
		WHERE c.bound_at >= ` + since + ` AND ` + tookEffect + ` AND ` + asItHappened
	inOrderOf := func(lag, name string) string {
		return `, ` + lag + ` AS ` + name + `, row_number() OVER (PARTITION BY e.source, e.directory ORDER BY ` + lag + `) AS n_` + name
	}
	const counted = `, count(*) OVER (PARTITION BY e.source, e.directory) AS total`
	median := func(name string) string {
		return `, min(CASE WHEN 2 * n_` + name + ` >= total THEN ` + name + ` END), max(` + name + `)`
	}
	err := errors.Join(
		read("how far events were behind", `SELECT e.source, e.directory, max(e.received), coalesce(max(CASE WHEN `+asItHappened+` THEN `+received+` END), 0),
			coalesce(max(CASE WHEN `+asItHappened+` THEN `+folded+` END), 0)`+events+` AND e.directory <> '' GROUP BY e.source, e.directory`, worst,
			func(l *store.Lag) []any { return []any{moment{&l.Heard}, us{&l.Received.Worst}, us{&l.Folded.Worst}} }),
		read("how far events are behind", `WITH l AS (SELECT e.source, e.directory`+inOrderOf(received, "received")+inOrderOf(folded, "folded")+counted+events+` AND `+asItHappened+`)
			SELECT source, directory, max(total)`+median("received")+median("folded")+` FROM l GROUP BY source, directory`, recent,
			func(l *store.Lag) []any {
				return []any{&l.Folded.Recent, us{&l.Received.Median}, us{&l.Received.Most}, us{&l.Folded.Median}, us{&l.Folded.Most}}
			}),
		read("how late changes took effect", `SELECT e.source, e.directory, max(`+bound+`)`+changes+` GROUP BY e.source, e.directory`, worst,
			func(l *store.Lag) []any { return []any{us{&l.Bound.Worst}} }),
		read("how late changes take effect", `WITH l AS (SELECT e.source, e.directory`+inOrderOf(bound, "bound")+counted+changes+`)
			SELECT source, directory, max(total)`+median("bound")+` FROM l GROUP BY source, directory`, recent,
			func(l *store.Lag) []any { return []any{&l.Bound.Recent, us{&l.Bound.Median}, us{&l.Bound.Most}} }),
	)
	for _, l := range rows {
		l.Received.Recent = l.Folded.Recent
	}
	return inOrder(rows), err
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

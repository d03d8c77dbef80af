package table

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// ends are the kinds that the indexes of removals hold.
const ends = `kind IN ('account.deactivated', 'grant.revoked', 'role.revoked')`

// candidate is a change that makes its lane one.
type candidate struct {
	store.Lane
	seq   int64
	ends  bool
	again bool // it has a time, which has come
}

func (c candidate) class() store.Class {
	switch {
	case c.ends && !c.again:
		return store.Removals
	case c.ends:
		return store.RemovalsAgain
	case c.again:
		return store.OthersAgain
	default:
		return store.Others
	}
}

// waitingDirectory is a directory that enforces and has changes that wait.
type waitingDirectory struct {
	directory.Scope
	failing bool // some of them wait for their time
}

// Lanes implements store.Binding. It reads a bounded number of changes, however many wait: removals and others, of those that
// never failed and of those whose time has come. Others that wait behind one that failed in their lane are put off until its
// time, so that they are read once for each of its attempts, and hide nothing behind them.
func (b Binding) Lanes(ctx context.Context, t store.Track, now time.Time, limit int) (none store.Lanes, more store.More, err error) {
	dirs, err := b.waitingDirectories(ctx, t)
	if err != nil || len(dirs) == 0 {
		return none, more, err
	}
	each := max(16, min(4*limit, 8*limit/len(dirs)))
	ends := max(8*store.Few, each) // a leaver has several
	for round := 0; ; round++ {
		found, err := b.candidates(ctx, t, now, dirs, each, ends)
		if err != nil {
			return none, more, err
		}
		read := countsOf(found)
		found, put, err := b.putOff(ctx, t, now, dirs, found)
		if err != nil {
			return none, more, err
		}
		if len(found) > 0 || put == 0 || round == 3 {
			lanes, more := classified(found, read, each, ends, limit)
			return lanes, more, nil
		}
	}
}

// counts is how many changes of a directory were read.
type counts struct {
	ready, again         int // that never failed, and whose time has come
	readyEnds, againEnds int // of these the removals
}

func countsOf(found []candidate) map[directory.Scope]*counts {
	seen, of := make(map[int64]bool, len(found)), map[directory.Scope]*counts{}
	for _, c := range found {
		if seen[c.seq] {
			continue
		}
		seen[c.seq] = true
		n := of[c.Scope]
		if n == nil {
			n = &counts{}
			of[c.Scope] = n
		}
		all, ends := &n.ready, &n.readyEnds
		if c.again {
			all, ends = &n.again, &n.againEnds
		}
		*all++
		if c.ends {
			*ends++
		}
	}
	return of
}

func (b Binding) waitingDirectories(ctx context.Context, t store.Track) ([]waitingDirectory, error) {
	return ask(ctx, b.Read, "directories with waiting changes", fields(func(d *waitingDirectory) []any {
		return []any{&d.Source, &d.Directory, &d.failing}
	}), `WITH RECURSIVE `+b.heads("ready", t, "IS NULL")+`, `+b.heads("again", t, "IS NOT NULL")+`
		SELECT c.source, c.directory, max(h.failing) = 1 FROM (SELECT seq, 0 AS failing FROM ready UNION ALL SELECT seq, 1 FROM again) h
		JOIN `+b.in("changes")+` c ON c.seq = h.seq JOIN `+b.in("modes")+` m ON m.source = c.source AND m.directory = c.directory
		WHERE m.mode = 'enforce' GROUP BY c.source, c.directory ORDER BY c.source, c.directory`)
}

// candidates reads up to a number of changes of every directory in each of four ways; some come twice.
func (b Binding) candidates(ctx context.Context, t store.Track, now time.Time, dirs []waitingDirectory, each, ends int) ([]candidate, error) {
	scopes := make([]directory.Scope, len(dirs))
	for i, d := range dirs {
		scopes[i] = d.Scope
	}
	return ofEach(ctx, b, "waiting changes", scanCandidate, scopes, func(source, name string) string { return b.reads(t, source, name) }, b.Dialect.Time(now), each, ends)
}

// reads selects changes of one directory that may be tried: the arguments are the time, the number in each way, and that of
// removals that never failed.
func (b Binding) reads(t store.Track, source, name string) string {
	read := func(condition, order string, number int) string {
		return strings.ReplaceAll(`SELECT * FROM (SELECT seq, source, directory, account_key, group_id, `+ends+` AS ends, T_next IS NOT NULL AS again FROM `+b.in("changes")+`
			WHERE source = `+source+` AND directory = `+name+` AND T_at IS NULL AND `+condition+` ORDER BY `+order+` LIMIT `+b.mark(number)+`) r`, "T_", string(t)+"_")
	}
	const ready, again, due = `T_next IS NULL`, `T_next IS NOT NULL AND T_next <= `, `T_next, seq`
	return strings.Join([]string{
		read(ready+` AND `+ends, `seq`, 3), read(again+b.mark(1)+` AND `+ends, due, 2), read(ready, `seq`, 2), read(again+b.mark(1), due, 2),
	}, ` UNION ALL `)
}

func scanCandidate(row Scanner) (c candidate, err error) {
	err = row.Scan(&c.seq, &c.Source, &c.Directory, &c.Account, &c.Group, &c.ends, &c.again)
	if c.Account != "" {
		c.Group = ""
	}
	return c, err
}

// putOff leaves out the changes that wait behind one of their lane that failed and whose time has not come, and gives them
// its time. Removals wait behind nothing.
func (b Binding) putOff(ctx context.Context, t store.Track, now time.Time, dirs []waitingDirectory, found []candidate) ([]candidate, int, error) {
	failing := map[directory.Scope]bool{}
	for _, d := range dirs {
		failing[d.Scope] = d.failing
	}
	asked := slices.DeleteFunc(slices.Clone(found), func(c candidate) bool { return c.ends || !failing[c.Scope] })
	if len(asked) == 0 {
		return found, 0, nil
	}
	type behind struct {
		seq  int64
		time time.Time
	}
	blocked, err := ask(ctx, b.Read, "what waits behind failures", fields(func(w *behind) []any { return []any{&w.seq, moment{&w.time}} }),
		b.behind(t), rows(asked, func(c candidate) map[string]any { return map[string]any{"seq": c.seq} }), b.Dialect.Time(now))
	if err != nil || len(blocked) == 0 {
		return found, 0, err
	}
	_, err = b.Write.ExecContext(ctx, strings.ReplaceAll(`WITH w AS MATERIALIZED (SELECT f.seq, k.next FROM `+b.Dialect.Rows(1, "seq bigint, next timestamptz")+`
			JOIN `+b.in("changes")+` f ON f.seq = k.seq`+b.Dialect.few("f.seq")+` WHERE f.T_at IS NULL`+b.Dialect.skip("f")+`)
		UPDATE `+b.in("changes")+` AS c SET T_next = w.next FROM w WHERE c.seq = w.seq`+b.Dialect.few("c.seq"), "T_", string(t)+"_"),
		rows(blocked, func(w behind) map[string]any { return map[string]any{"seq": w.seq, "next": b.at(w.time)} }))
	if err != nil {
		return nil, 0, fmt.Errorf("put changes off that wait behind failures: %w", err)
	}
	out := map[int64]bool{}
	for _, w := range blocked {
		out[w.seq] = true
	}
	return slices.DeleteFunc(found, func(c candidate) bool { return out[c.seq] }), len(blocked), nil
}

// behind selects those of the changes that wait behind one of their lane that failed, and when its time comes. The time is no
// condition: nothing but the indexes of lanes is to look good to a planner.
func (b Binding) behind(t store.Track) string {
	failed := func(index, lane string) string {
		return `(SELECT max(CASE WHEN f.T_next > ` + b.mark(2) + ` THEN f.T_next END) FROM ` + b.in("changes") + ` f` + b.Dialect.By(index) + `
			WHERE f.source = c.source AND f.directory = c.directory AND ` + lane + ` AND f.seq < c.seq AND f.T_at IS NULL AND f.T_attempts > 0)`
	}
	return strings.ReplaceAll(`SELECT w.seq, w.next FROM (SELECT c.seq, CASE WHEN c.account_key <> '' THEN `+failed("changes_account", `f.account_key = c.account_key`)+`
			ELSE `+failed("changes_own", `f.account_key = '' AND f.group_id = c.group_id`)+` END AS next
		FROM `+b.in("changes")+` c WHERE `+b.Dialect.Named("c.seq", 1)+`) w WHERE w.next IS NOT NULL`, "T_", string(t)+"_")
}

// classified makes distinct lanes of the changes, each in the first class of any of its changes; removals, in that of many when
// their directory has many of them, or as many as were read, unless these are one's or two people's.
func classified(found []candidate, read map[directory.Scope]*counts, each, ends, limit int) (out store.Lanes, more store.More) {
	classes := make(map[store.Lane]store.Class, len(found))
	for _, c := range found {
		if class, ok := classes[c.Lane]; !ok || c.class() < class {
			classes[c.Lane] = c.class()
		}
	}
	removals := map[directory.Scope]int{}
	for l, class := range classes {
		if class == store.Removals {
			removals[l.Scope]++
		}
	}
	for scope, n := range read {
		if n.readyEnds >= ends && removals[scope] > 2 {
			removals[scope] += store.Few
		}
		more[store.ManyRemovals] = more[store.ManyRemovals] || n.readyEnds >= ends
		more[store.Removals] = more[store.Removals] || n.readyEnds >= ends
		more[store.RemovalsAgain] = more[store.RemovalsAgain] || n.againEnds >= each
		more[store.OthersAgain] = more[store.OthersAgain] || n.again >= each
		more[store.Others] = more[store.Others] || n.ready >= each
	}
	var of [store.Classes][]candidate
	for _, c := range found {
		if class := c.class(); class == classes[c.Lane] {
			if class == store.Removals && removals[c.Scope] > store.Few {
				class = store.ManyRemovals
			}
			of[class] = append(of[class], c)
		}
	}
	for class := range of {
		out[class] = inTurns(of[class], limit)
		more[class] = more[class] || len(out[class]) == limit
	}
	return out, more
}

// inTurns makes distinct lanes of the changes: one of each directory, then a second one, and so on. In a directory, and in a
// turn, those come first that wait longest.
func inTurns(found []candidate, limit int) []store.Lane {
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(a.seq, b.seq) })
	seen, turns := make(map[store.Lane]bool, len(found)), map[directory.Scope]int{}
	type turn struct {
		store.Lane
		n int
	}
	var out []turn
	for _, c := range found {
		if !seen[c.Lane] {
			seen[c.Lane] = true
			out = append(out, turn{c.Lane, turns[c.Scope]})
			turns[c.Scope]++
		}
	}
	slices.SortStableFunc(out, func(a, b turn) int { return cmp.Compare(a.n, b.n) })
	lanes := make([]store.Lane, min(limit, len(out)))
	for i := range lanes {
		lanes[i] = out[i].Lane
	}
	return lanes
}

const laneRows = "source text, directory text, account_key text, group_id text"

// laneArg renders distinct lanes for laneRows.
func laneArg(lanes []store.Lane) string {
	seen := make(map[store.Lane]bool, len(lanes))
	var distinct []store.Lane
	for _, l := range lanes {
		if !seen[l] {
			seen[l] = true
			distinct = append(distinct, l)
		}
	}
	return rows(distinct, func(l store.Lane) map[string]any {
		return map[string]any{"source": l.Source, "directory": l.Directory, "account_key": l.Account, "group_id": l.Group}
	})
}

// Waiting implements store.Binding.
func (b Binding) Waiting(ctx context.Context, s store.Session, t store.Track, lanes []store.Lane) ([]store.WaitingChange, error) {
	if len(lanes) == 0 {
		return nil, nil
	}
	return ask(ctx, b.reader(s), "waiting changes", func(row Scanner) (w store.WaitingChange, err error) {
		var why sql.NullString
		err = row.Scan(append(changeDest(&w.ChangeRow), &w.Attempts, moment{&w.Next}, &why)...)
		w.Error = why.String
		return w, err
	}, b.waiting(t), laneArg(lanes))
}

// waiting reads per lane: of an account by the index of its history, of others by one of what waits.
func (b Binding) waiting(t store.Track) string {
	const columns = "seq, at, " + ChangeColumns + ", T_attempts, T_next, T_error"
	of := func(index, lane, which string) string {
		return `SELECT ` + Prefix("r", "seq, at, "+ChangeColumns+", T_attempts") + `, CASE WHEN r.T_attempts > 0 THEN r.T_next END AS T_next, r.T_error FROM ` + b.Dialect.Rows(1, laneRows) +
			b.Dialect.Each(columns, "changes", index, `r.source = k.source AND r.directory = k.directory AND `+lane+` AND r.T_at IS NULL`) + ` WHERE ` + which
	}
	return strings.ReplaceAll(`SELECT * FROM (`+of("changes_account", `r.account_key = k.account_key`, `k.account_key <> ''`)+` UNION ALL `+
		of("changes_own", `r.account_key = '' AND r.group_id = k.group_id`, `k.account_key = ''`)+`) w ORDER BY seq`, "T_", string(t)+"_")
}

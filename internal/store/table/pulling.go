package table

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Pulling implements store.Pulling.
type Pulling struct{ b Binding }

// NewPulling returns store.Pulling on the databases of a Binding.
func NewPulling(b Binding) Pulling { return Pulling{b} }

const pollColumns = `source, cursor, occurred, since, moves, began, started, watermark, paged_at, caught_up_at, moved_at, holder, held_until,
	missed, error, failed_at, restarts, restarted_at, restarted_cursor, restarted_occurred, rewound_at, rewound_by`

// scanPoll reads pollColumns and the database's clock.
var scanPoll = fields(func(p *store.Poll) []any {
	return []any{
		&p.Source, &p.After, moment{&p.Occurred}, moment{&p.Since}, &p.Moves, moment{&p.Began}, moment{&p.Started}, moment{&p.Watermark},
		moment{&p.Paged}, moment{&p.CaughtUp}, moment{&p.Moved}, &p.Holder, moment{&p.Until},
		&p.Missed, &p.Error, moment{&p.Failed}, &p.Restarts, moment{&p.Restarted}, &p.RestartedFrom.After, moment{&p.RestartedFrom.Occurred},
		moment{&p.Rewound}, &p.RewoundBy, moment{&p.Now},
	}
})

// Polls implements store.Pulling.
func (p Pulling) Polls(ctx context.Context) ([]store.Poll, error) {
	return ask(ctx, p.b.Read, "how far logs are read", scanPoll, `SELECT `+pollColumns+`, `+p.b.Dialect.Now+` FROM `+p.b.in("poll_cursors")+` ORDER BY source`)
}

// TakePoll implements store.Pulling.
func (p Pulling) TakePoll(ctx context.Context, l store.PollLease) (store.Poll, error) {
	found, err := ask(ctx, p.b.Write, "who polls "+l.Source, scanPoll, `INSERT INTO `+p.b.in("poll_cursors")+` (source, holder, held_until)
		VALUES (`+p.b.mark(1)+`, `+p.b.mark(2)+`, `+p.b.Dialect.Later(3)+`) ON CONFLICT (source) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
		WHERE poll_cursors.holder IN ('', excluded.holder) OR poll_cursors.held_until <= `+p.b.Dialect.Now+`
		RETURNING `+pollColumns+`, `+p.b.Dialect.Now, l.Source, l.Holder, l.For.Microseconds())
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("poll %s: %w", l.Source, store.ErrLeased)
	}
	if err != nil {
		return store.Poll{}, err
	}
	return found[0], nil
}

// ReleasePoll implements store.Pulling.
func (p Pulling) ReleasePoll(ctx context.Context, l store.PollLease) error {
	_, err := p.b.Write.ExecContext(ctx, `UPDATE `+p.b.in("poll_cursors")+` SET holder = '', held_until = NULL
		WHERE source = `+p.b.mark(1)+` AND holder = `+p.b.mark(2), l.Source, l.Holder)
	return wrap("release the poll of "+l.Source, err)
}

// MovePoll implements store.Pulling. All that it writes rests on from, which moves vouches for.
func (p Pulling) MovePoll(ctx context.Context, l store.PollLease, from store.Poll, to store.PollMove) (store.Poll, error) {
	restarts, restarted, left := from.Restarts, p.time(from.Restarted), from.RestartedFrom
	if to.Restart {
		restarts, left = restarts+1, from.PollCursor
	}
	at := func(condition bool, n int) string {
		if condition {
			return p.b.Dialect.Now
		}
		return p.b.mark(n)
	}
	args := []any{
		l.Source, l.Holder, from.Moves,
		to.After, p.time(to.Occurred), p.time(to.Since), p.time(kept(from.Began, to.Began)), p.time(kept(from.Started, to.Started)),
		p.time(later(from.Watermark, to.Occurred)), from.Missed + to.Missed, restarts, left.After, p.time(left.Occurred),
	}
	if !to.Restart {
		args = append(args, restarted)
	}
	mark := p.b.mark
	moved, err := ask(ctx, p.b.Write, "where the cursor of "+l.Source+" moves", scanPoll, `UPDATE `+p.b.in("poll_cursors")+` SET moves = moves + 1, moved_at = `+p.b.Dialect.Now+`, paged_at = `+p.b.Dialect.Now+`,
		error = '', failed_at = NULL, cursor = `+mark(4)+`, occurred = `+mark(5)+`, since = `+mark(6)+`, began = `+mark(7)+`, started = `+mark(8)+`,
		watermark = `+mark(9)+`, missed = `+mark(10)+`, restarts = `+mark(11)+`, restarted_cursor = `+mark(12)+`, restarted_occurred = `+mark(13)+`,
		restarted_at = `+at(to.Restart, 14)+`
		WHERE source = `+mark(1)+` AND holder = `+mark(2)+` AND moves = `+mark(3)+` RETURNING `+pollColumns+`, `+p.b.Dialect.Now, args...)
	if err := held(len(moved), err); err != nil {
		return store.Poll{}, fmt.Errorf("move the cursor of %s: %w", l.Source, err)
	}
	return moved[0], nil
}

// NotePoll implements store.Pulling.
func (p Pulling) NotePoll(ctx context.Context, l store.PollLease, from store.Poll, note store.PollNote) error {
	now, args := p.b.Dialect.Now, []any{l.Source, l.Holder, from.Moves}
	set := `paged_at = ` + now + `, error = '', failed_at = NULL`
	switch {
	case note.Error != "":
		set = `error = ` + p.b.mark(4) + `, failed_at = CASE WHEN error = '' THEN ` + now + ` ELSE failed_at END`
		args = append(args, cmp.Or(directory.Text(note.Error, maxError), "unknown"))
	case note.CaughtUp:
		set += `, caught_up_at = ` + now
	}
	n, err := affected(p.b.Write.ExecContext(ctx, `UPDATE `+p.b.in("poll_cursors")+` SET `+set+`
		WHERE source = `+p.b.mark(1)+` AND holder = `+p.b.mark(2)+` AND moves = `+p.b.mark(3), args...))
	return wrap("note how polling "+l.Source+" went", held(n, err))
}

// RewindPoll implements store.Pulling.
func (p Pulling) RewindPoll(ctx context.Context, source string, to store.PollCursor, by string) error {
	now, mark := p.b.Dialect.Now, p.b.mark
	n, err := affected(p.b.Write.ExecContext(ctx, `UPDATE `+p.b.in("poll_cursors")+` SET moves = moves + 1, moved_at = `+now+`, rewound_at = `+now+`,
		cursor = `+mark(2)+`, occurred = `+mark(3)+`, since = `+mark(4)+`, rewound_by = `+mark(5)+` WHERE source = `+mark(1),
		source, to.After, p.time(to.Occurred), p.time(to.Since), by))
	return wrap("rewind the log of "+source, there(n, err))
}

// Known implements store.Pulling.
func (p Pulling) Known(ctx context.Context, keys []store.EventKey) (map[store.EventKey]store.Outcome, error) {
	known := map[store.EventKey]store.Outcome{}
	if len(keys) == 0 {
		return known, nil
	}
	type line struct {
		store.EventKey
		outcome store.Outcome
	}
	found, err := ask(ctx, p.b.Read, "which events the ledger holds", fields(func(l *line) []any { return []any{&l.Source, &l.ID, &l.outcome} }),
		`SELECT r.source, r.id, r.outcome FROM `+p.b.Dialect.Rows(1, `source text, id text`)+
			p.b.Dialect.Each(`source, id, outcome`, "events", "", `r.source = k.source AND r.id = k.id`),
		rows(keys, func(k store.EventKey) map[string]any { return map[string]any{"source": k.Source, "id": k.ID} }))
	for _, l := range found {
		known[l.EventKey] = l.outcome
	}
	return known, err
}

// time is a time as an argument; the databases keep microseconds.
func (p Pulling) time(t time.Time) any { return p.b.at(t) }

// held makes nothing touched ErrConflict.
func held(n int, err error) error {
	if err == nil && n == 0 {
		return store.ErrConflict
	}
	return err
}

// kept is the time that was there, or else the fresh one.
func kept(there, fresh time.Time) time.Time {
	if there.IsZero() {
		return fresh
	}
	return there
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

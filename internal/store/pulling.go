package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Pulling is the part of the contract that reading a provider's log rests on: how far it is read, and who reads it. All of its
// times but those of events are by the database's clock.
type Pulling interface {
	// Polls returns how far the log of each source is read that was ever polled, by source.
	Polls(ctx context.Context) ([]Poll, error)

	// TakePoll gives the source's lease to the holder for so long, unless somebody else has it: ErrLeased. Taken again by who has
	// it, it is renewed. It returns how far the log is read; one that never was has the zero Cursor and no Moves.
	TakePoll(ctx context.Context, l PollLease) (Poll, error)
	// ReleasePoll gives the lease back, so that another may have it at once. Of one that is lost it does nothing.
	ReleasePoll(ctx context.Context, l PollLease) error

	// MovePoll moves the cursor, when the holder still has the lease and the cursor is where from has it; else it is ErrConflict
	// and nothing moves. It counts as a poll that went well, and returns how far the log is read then.
	MovePoll(ctx context.Context, l PollLease, from Poll, to PollMove) (Poll, error)
	// NotePoll keeps how the last poll went, on the same conditions.
	NotePoll(ctx context.Context, l PollLease, from Poll, n PollNote) error

	// RewindPoll moves the cursor, whoever has the lease: who has it notices by ErrConflict. ErrNotFound when the source was never polled.
	RewindPoll(ctx context.Context, source string, to PollCursor, by string) error

	// Known returns the outcomes of those of the events that the ledger holds.
	Known(ctx context.Context, keys []EventKey) (map[EventKey]Outcome, error)
}

// PollLease is who polls a source, and for how long at most without renewing it.
type PollLease struct {
	Source, Holder string
	For            time.Duration
}

// PollCursor is a place in a provider's log. Everything before it is in the ledger.
type PollCursor struct {
	After    string    // the last event's id; empty begins at Since
	Occurred time.Time // that event's time, the provider's; zero when it is not known
	Since    time.Time // where an empty After begins; zero is the oldest that is kept
}

// Poll is how far the log of a source is read.
type Poll struct {
	Source string
	PollCursor
	Moves int64 // of the cursor; it never counts back, so that a cursor which was moved back is told from the one before

	Began     time.Time // where the log was first read from, the provider's time; zero before the first move
	Started   time.Time // when that was, the provider's clock; webhooks of older events are not missed
	Watermark time.Time // the provider's time of the newest event that the ledger was known to hold with all before it

	Paged    time.Time // when the provider answered last
	CaughtUp time.Time // when all that the log told was in the ledger last
	Moved    time.Time

	Holder string    // empty when nobody polls
	Until  time.Time // when the lease ends

	Missed int64     // events whose webhook had not come when the log told of them
	Error  string    // why the last poll did not go well; empty when it did
	Failed time.Time // since when

	Restarts      int64     // cursors that the provider no longer knew
	Restarted     time.Time // the last
	RestartedFrom PollCursor

	Rewound   time.Time // an operator moved the cursor last
	RewoundBy string

	Now time.Time // when this was read
}

// Held reports whether somebody polls.
func (p Poll) Held() bool { return p.Holder != "" && p.Until.After(p.Now) }

// PollMove is where a cursor moves, and why.
type PollMove struct {
	PollCursor
	Began, Started time.Time // of the first move
	Missed         int64     // webhooks of the events that it moves past
	Restart        bool      // the provider no longer knew the cursor
}

// PollNote is how a poll went.
type PollNote struct {
	Error    string // empty when it went well
	CaughtUp bool   // all that the log told is in the ledger
}

// standsStill is how long a log may go without being read on.
const standsStill = 5 * time.Minute

// Trouble returns why the log is not read as it should be, with what to do, or nil.
func (p Poll) Trouble() error {
	switch {
	case !p.Held():
		return errors.New("nobody polls it\nhint: is a worker running whose configuration has this source's api.key?")
	case p.Error != "":
		return fmt.Errorf("since %s: %s", p.Failed.Format(time.RFC3339), p.Error)
	case p.Behind() > standsStill:
		return fmt.Errorf("it has not been read on for %s\nhint: is a worker folding? `rollcall queue` shows what waits", p.Behind().Round(time.Second))
	}
	return nil
}

// Behind is the time since the log was read on, or had told all.
func (p Poll) Behind() time.Duration {
	last := p.Moved
	if p.CaughtUp.After(last) {
		last = p.CaughtUp
	}
	if last.IsZero() {
		return 0
	}
	return max(p.Now.Sub(last), 0)
}

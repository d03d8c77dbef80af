package store

import (
	"context"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
)

// Converging is how long it takes until the application follows its directories. Counted is what a provider told of as it happened, by its
// webhooks or its log: not what was there before its log was first read, and not what was sent again, reconciled or decided by operators.
type Converging interface {
	// Lags returns how long events took, of each directory that something was received of or bound for since worst, by source and
	// directory. Medians are of those since recent.
	Lags(ctx context.Context, recent, worst time.Time) ([]Lag, error)

	// Leavers returns how long it took until leavers lost what they had, of each directory that enforces and lost somebody since, or where a
	// leaver's change waits, by source and directory.
	Leavers(ctx context.Context, since time.Time) ([]Leavers, error)

	// DeadTallies counts dead events, by source and class.
	DeadTallies(ctx context.Context) ([]DeadTally, error)
}

// Lag is how far a directory's events were behind the provider's own time.
type Lag struct {
	directory.Scope
	Heard    time.Time // when the last one was received, if since worst
	Received Span      // from the event's time to when it was received, which is mostly the provider's
	Folded   Span      // from the event's time to when it was folded
	Bound    Span      // from the event's time to when its changes took effect in the application, by SQL or a POST
}

// Span is how long something took.
type Span struct {
	Recent int64         // how often it happened lately
	Median time.Duration // of these
	Most   time.Duration // of these
	Worst  time.Duration // of all that were looked at
}

// Leavers is how long it took until those who left a directory lost what they had.
type Leavers struct {
	directory.Scope
	Done    int64 // took effect
	Median  time.Duration
	Worst   Leaver // the slowest of them, from the event's time to its effect
	Waiting int64  // their changes wait for the application
	Oldest  Leaver // that waits longest since it was folded
}

// Leaver is one deactivation of an account.
type Leaver struct {
	Account  string // key
	Email    string
	Event    string
	Occurred time.Time // the provider's; zero when the event is not in the ledger, and so is the next
	Received time.Time
	Folded   time.Time
	Bound    time.Time // zero while it waits
}

// Took is how long the leaver kept access after the event, as far as is known.
func (l Leaver) Took(now time.Time) time.Duration {
	begun, ended := l.Occurred, l.Bound
	if begun.IsZero() {
		begun = l.Folded
	}
	if ended.IsZero() {
		ended = now
	}
	return max(ended.Sub(begun), 0)
}

// DeadTally counts the dead events of a class.
type DeadTally struct {
	Source, Class string
	Count         int64     // without deferred ones
	Deferred      int64     // wait for their own time to come
	Oldest        time.Time // when the first of Count was parked
}

// Package reconcile compares directories with their own listings, and repairs what events missed.
//
// It acts on listings that were told to their end, and on nothing else. What it repairs goes through the queue as events of
// Rollcall's own, dated before the listing began: whatever a directory says since then counts more.
package reconcile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/queue"
)

// Queue is where repairs go.
type Queue interface {
	Enqueue(ctx context.Context, d queue.Delivery) (queue.Result, error)
}

// Config is what comparing a source's directories needs. Source, Listing and Store have no default.
type Config struct {
	Source  string
	Listing provider.Listing
	Store   store.Reconciling
	Queue   Queue // nil only where nothing is repaired
	Guard   Guard

	Tolerance time.Duration // between the provider's clock and ours; 0 is 5 minutes
	Page      int           // rows of the database at once; 0 is 1000

	Metrics *Metrics // nil counts nothing
	Log     zerolog.Logger
	Now     func() time.Time // nil is time.Now
}

// Reconciler compares directories of one source. Several may be at work, in whatever processes; each directory is one's at a time.
type Reconciler struct{ Config }

const (
	tolerance = 5 * time.Minute
	margin    = time.Minute // by which repairs are older than the listing: a provider's log may tell a little later than its listing
	lease     = 10 * time.Minute
	pageRows  = 1000
	lookUps   = 100 // of people who are not listed, where nothing is done about it yet
	fullWait  = time.Second
	lastWords = 10 * time.Second // to record what came of a run whose context ended
)

// New returns a reconciler.
func New(c Config) *Reconciler {
	if c.Tolerance <= 0 {
		c.Tolerance = tolerance
	}
	if c.Page <= 0 {
		c.Page = pageRows
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Reconciler{Config: c}
}

// Guard bounds what the comparisons of a day may take away by themselves. Nobody said that these people left: their directory does not list them.
type Guard struct {
	Accounts int // more people than this
	Percent  int // or more than this part of the directory's active accounts
	Floor    int // but never so few, or fewer
}

// Exceeded reports whether somebody must approve that so many of so many active accounts lose something.
func (g Guard) Exceeded(losing, active int64) bool {
	return losing > int64(g.Floor) && (losing > int64(g.Accounts) || losing*100 > int64(g.Percent)*active)
}

// Errors that callers tell apart. Each is why a directory was not compared, or not wholly; store.ErrRunning is another.
var (
	ErrSkew      = errors.New("the provider's clock and ours are too far apart")
	ErrLeftAlone = errors.New("the directory is left alone")
	ErrLacking   = errors.New("the listing lacks people whom the provider knows")
)

// newRun makes the id of a run.
func newRun() string { return rand.Text() }

// Repair compares a directory with its listing and repairs what it may by itself. The run says what came of it; its error is why
// it is not complete, and nothing was repaired then, but for what had been found before the listing proved to lack somebody.
func (r *Reconciler) Repair(ctx context.Context, id, trigger string) (store.Run, error) {
	return r.run(ctx, id, trigger, func(f *findings) error { return f.repair(ctx) })
}

// run compares a directory and has something done with the findings.
func (r *Reconciler) run(ctx context.Context, id, trigger string, act func(*findings) error) (run store.Run, err error) {
	run = store.Run{ID: newRun(), Scope: directory.Scope{Source: r.Source, Directory: id}, Trigger: trigger, Begun: r.Now().UTC().Truncate(time.Microsecond)}
	if err := r.Store.BeginRun(ctx, run, r.lease()); err != nil {
		return run, err
	}
	err = r.compare(ctx, &run, act)
	if err != nil && run.Reason == "" {
		run.Reason = directory.Text(err.Error(), directory.MaxText)
	}
	run.Ended = r.Now().UTC().Truncate(time.Microsecond)
	ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if failed := r.Store.EndRun(ended, run); failed != nil {
		err = errors.Join(err, failed)
	}
	r.Metrics.ran(run)
	return run, err
}

func (r *Reconciler) lease() time.Time { return r.Now().Add(lease) }

// compare lists the directory, compares it, and acts.
func (r *Reconciler) compare(ctx context.Context, run *store.Run, act func(*findings) error) error {
	listed, err := r.look(ctx, run)
	if err != nil {
		return err
	}
	known, err := r.Store.KnownDirectory(ctx, run.Scope)
	if err != nil {
		return err
	}
	if err := mayBeCompared(listed, known); err != nil {
		return err
	}
	s := stager{r: r, run: run.ID, oldest: run.Fence}
	if err := s.list(ctx, listed.ID); err != nil {
		return err
	}
	if known, err = r.mayStill(ctx, run.Scope); err != nil {
		return err
	}
	c, err := r.Store.Compare(ctx, run.ID, directory.At(run.Fence))
	if err != nil {
		return err
	}
	run.Complete = true
	run.Users, run.Groups, run.Memberships, run.Active = c.Users, c.Groups, c.Memberships, c.Active
	f := &findings{r: r, run: run, listed: listed, known: known, compared: c, counts: map[store.DriftKind]store.DriftCount{}}
	if f.short, err = r.short(ctx, listed, c); err != nil {
		run.Complete = false
		return err
	}
	if err = f.guard(ctx); err == nil {
		err = act(f)
	}
	run.Kinds = f.counts
	if err != nil {
		run.Complete = false
		return err
	}
	run.Reason = directory.Text(f.heldFor(), directory.MaxText)
	return nil
}

// look asks what the directory is, and takes the time: repairs are older than the listing, by the earlier of both clocks.
func (r *Reconciler) look(ctx context.Context, run *store.Run) (provider.ListedDirectory, error) {
	asked := r.Now()
	listed, err := r.Listing.Directory(ctx, run.Directory)
	if err != nil {
		return listed, fmt.Errorf("look at directory %s: %w", run.Directory, err)
	}
	fence := asked
	if run.Skew = skew(listed.Date, asked, r.Now()); run.Skew < 0 {
		fence = listed.Date
	}
	run.Fence = fence.Add(-margin).UTC().Truncate(time.Microsecond)
	if run.Skew.Abs() > r.Tolerance {
		return listed, fmt.Errorf("%w: theirs is %s from ours\nhint: run NTP here, or look for a proxy that answers in the provider's place", ErrSkew, run.Skew.Round(time.Second))
	}
	return listed, nil
}

// skew is by how much a clock that was read between two times cannot have agreed with ours. A date has whole seconds.
func skew(date, asked, answered time.Time) time.Duration {
	switch {
	case date.IsZero():
		return 0
	case date.Before(asked.Truncate(time.Second)):
		return date.Sub(asked)
	case date.After(answered):
		return date.Sub(answered)
	default:
		return 0
	}
}

// live is the state of a directory whose listing means what it says; none is no statement.
var live = map[string]bool{"": true, "active": true, "linked": true}

// mayBeCompared is an error for a directory that was ended, by whatever decision, or that its provider is not done with.
func mayBeCompared(listed provider.ListedDirectory, known store.KnownDirectory) error {
	switch {
	case known.Removed:
		return fmt.Errorf("%w: its provider said that it was deleted, and lists it\nhint: `rollcall directories list` shows what was decided; it is compared again when an event says that it is back", ErrLeftAlone)
	case !live[listed.State]:
		return fmt.Errorf("%w: it is %s at its provider\nhint: it is compared again once it is active there", ErrLeftAlone, listed.State)
	}
	return nil
}

// mayStill looks again at a directory that was listed: one that its provider took down meanwhile lists what it has not removed yet, and
// what its end means is decided elsewhere.
func (r *Reconciler) mayStill(ctx context.Context, scope directory.Scope) (known store.KnownDirectory, err error) {
	listed, err := r.Listing.Directory(ctx, scope.Directory)
	if err != nil {
		return known, fmt.Errorf("look at directory %s again: %w", scope.Directory, err)
	}
	if known, err = r.Store.KnownDirectory(ctx, scope); err != nil {
		return known, err
	}
	return known, mayBeCompared(listed, known)
}

// short says that the provider itself counts more users, or groups, than it listed; "" when it does not. It looks twice, because people
// and groups come and go while a directory is listed.
func (r *Reconciler) short(ctx context.Context, listed provider.ListedDirectory, c store.Comparison) (string, error) {
	if lacking(listed, c) == "" {
		return "", nil
	}
	again, err := r.Listing.Directory(ctx, listed.ID)
	if err != nil {
		return "", fmt.Errorf("look at directory %s again: %w", listed.ID, err)
	}
	return lacking(again, c), nil
}

// lacking says of what a listing has less than its directory counts.
func lacking(listed provider.ListedDirectory, c store.Comparison) string {
	switch users, groups := int64(listed.Active)+int64(listed.Inactive), int64(listed.Groups); {
	case !listed.Counted:
		return ""
	case users > c.Users:
		return fmt.Sprintf("the provider lists %d users, and counts %d", c.Users, users)
	case groups > c.Groups:
		return fmt.Sprintf("the provider lists %d groups, and counts %d", c.Groups, groups)
	default:
		return ""
	}
}

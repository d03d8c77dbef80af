package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Schedule compares a source's directories over and over. Any number of processes may have one: when a directory is due, the
// database says, and which of them compares it.
type Schedule struct {
	*Reconciler
	Every time.Duration // between two comparisons of a directory
	Tick  time.Duration // between two looks at what is due; 0 is a minute

	rehired chan directory.ID

	// Run's own.
	listed []string          // directories, as they were listed last
	at     time.Time         // then
	warned map[string]string // by directory, what was logged last
}

const (
	tick    = time.Minute
	sooner  = 12 // by which a comparison that was not complete is made again sooner
	rehires = 1000
	atMost  = 1_000_000 // directories
)

// NewSchedule returns a schedule that has not begun.
func NewSchedule(r *Reconciler, every time.Duration) *Schedule {
	return &Schedule{Reconciler: r, Every: every, Tick: tick, rehired: make(chan directory.ID, rehires), warned: map[string]string{}}
}

// Rehired says that another user governs an account, whose memberships nobody may have told of. It never waits: whoever is not
// looked at now is compared with the whole directory.
func (s *Schedule) Rehired(user directory.ID) {
	select {
	case s.rehired <- user:
	default:
	}
}

// Run compares what is due until the context ends, and returns nil.
func (s *Schedule) Run(ctx context.Context) error {
	var g sync.WaitGroup
	g.Go(func() { s.returns(ctx) })
	defer g.Wait()
	ticker := time.NewTicker(cmp.Or(s.Tick, tick))
	defer ticker.Stop()
	for {
		s.due(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// returns looks at people who came back, without waiting for directories that are compared.
func (s *Schedule) returns(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case user := <-s.rehired:
			if err := s.Returned(ctx, user); err != nil && ctx.Err() == nil {
				s.Log.Warn().Err(err).Str("source", s.Source).Str("directory", user.Directory).Str("user", user.ID).
					Msg("groups of a person who returned not looked at; the next comparison finds them")
			}
		}
	}
}

// due compares every directory whose time has come, one after the other.
func (s *Schedule) due(ctx context.Context) {
	if err := s.list(ctx); err != nil {
		if ctx.Err() == nil {
			s.warn("", fmt.Errorf("list the directories: %w", err))
		}
		return
	}
	last, err := s.last(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.warn("", err)
		}
		return
	}
	s.warned[""] = ""
	for _, id := range s.listed {
		if ctx.Err() != nil {
			return
		}
		if r, ran := last[id]; ran && s.Now().Before(r.Begun.Add(s.wait(r))) {
			continue
		}
		run, err := s.Repair(ctx, id, "schedule")
		if ctx.Err() != nil {
			return
		}
		s.report(run, err)
	}
	s.stand(ctx)
}

// wait is how long after a run the next one is due.
func (s *Schedule) wait(r store.Run) time.Duration {
	if r.Complete {
		return s.Every
	}
	return max(s.Every/sooner, time.Minute)
}

// list asks which directories there are, as often as they are compared when none fails.
func (s *Schedule) list(ctx context.Context) error {
	if now := s.Now(); s.at.IsZero() || now.Sub(s.at) >= max(s.Every/sooner, time.Minute) {
		var ids []string
		err := s.Listing.Directories(ctx, func(_ context.Context, page []provider.ListedDirectory) error {
			for _, d := range page {
				ids = append(ids, d.ID)
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.listed, s.at = ids, now
	}
	return nil
}

// last returns the last run of each directory that counts: a plan repairs nothing, and applying one lists nothing.
func (s *Schedule) last(ctx context.Context) (map[string]store.Run, error) {
	runs, err := s.Store.Runs(ctx, store.RunFilter{Source: s.Source, Repairs: true, Last: true, Limit: atMost})
	if err != nil {
		return nil, err
	}
	last := map[string]store.Run{}
	for _, r := range runs {
		last[r.Directory] = r
	}
	return last, nil
}

// report logs what came of a run, and of one that fails again and again for one reason once.
func (s *Schedule) report(run store.Run, err error) {
	switch {
	case errors.Is(err, store.ErrRunning):
	case err != nil:
		s.warn(run.Directory, err)
	default:
		s.warned[run.Directory] = ""
		l := s.Log.Info()
		if run.Open() > 0 {
			l = s.Log.Warn()
		} else if run.Found() == 0 {
			l = s.Log.Debug()
		}
		var repaired int64
		for _, c := range run.Kinds {
			repaired += c.Repaired
		}
		l.Str("source", run.Source).Str("directory", run.Directory).Str("run", run.ID).Int64("users", run.Users).Int64("found", run.Found()).
			Int64("repaired", repaired).Int64("open", run.Open()).Str("reason", run.Reason).Dur("took", run.Ended.Sub(run.Begun)).Msg("directory compared with its listing")
	}
}

func (s *Schedule) warn(id string, err error) {
	if s.warned[id] == err.Error() {
		return
	}
	s.warned[id] = err.Error()
	s.Log.Warn().Err(err).Str("source", s.Source).Str("directory", id).Msg("directory not compared with its listing; trying again")
}

// stand tells the metrics how the directories stand.
func (s *Schedule) stand(ctx context.Context) {
	last, err := s.last(ctx)
	if err != nil {
		return
	}
	complete, err := s.Store.Runs(ctx, store.RunFilter{Source: s.Source, Repairs: true, Complete: true, Last: true, Limit: atMost})
	if err != nil {
		return
	}
	at := map[string]time.Time{}
	for _, r := range complete {
		at[r.Directory] = r.Begun
	}
	var open int64
	oldest := s.Now()
	for _, id := range s.listed {
		open += last[id].Open()
		if at[id].Before(oldest) {
			oldest = at[id]
		}
	}
	var seconds float64
	if !oldest.IsZero() {
		seconds = float64(oldest.Unix())
	}
	s.Metrics.stands(s.Source, open, seconds)
}

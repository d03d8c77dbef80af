package rehearsal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// situation is something that happens to people.
type situation struct {
	name  string
	needs func(c Config) bool // whether it can be played; nil: always
	play  func(ctx context.Context, p *play) error
}

// situations are all that are played.
var situations = []situation{
	{name: "a joiner gets in", play: joiner},
	{name: "a mover changes groups", play: mover},
	{name: "a leaver loses access", play: leaver},
	{name: "somebody suspended loses access", play: suspended},
	{name: "a leaver whom nobody told of before loses nothing of others", play: unknownLeaver},
	{name: "a rehire gets back in", play: rehire},
	{name: "a recycled address inherits nothing", play: recycled},
	{name: "leaving one of two groups keeps their role", needs: groups(2), play: twoGroups},
	{name: "leaving a group takes its role", needs: groups(1), play: oneGroup},
	{name: "a group that ends takes its memberships along", play: groupEnds},
	{name: "a directory that ends takes everybody's access", play: directoryEnds},
	{name: "a probe finds what people make by using the application", needs: func(c Config) bool { return len(c.SignIn) > 0 }, play: users},
}

// groups reports whether so many groups give the role.
func groups(n int) func(Config) bool {
	return func(c Config) bool { return len(c.RoleGroups) == n }
}

// play is a situation under way, in a directory of its own.
type play struct {
	Config
	binder *binder.Binder
	db     *sql.DB
	scope  directory.Scope
	steps  []Step
	events int
	seen   int64           // the last change looked at
	given  map[given]int64 // rows that grants and roles made which are not taken away yet
	idle   bool            // nobody signs in
}

func (p *play) run(ctx context.Context, s situation) error {
	if err := p.tell(ctx, directory.Event{Subject: directory.SubjectDirectory, Connection: &directory.Connection{Name: "Rehearsal", State: "linked"}}); err != nil {
		return err
	}
	return s.play(ctx, p)
}

// person is somebody of the directory; each has an id and an address of their own unless a situation says otherwise.
func (p *play) person(n int) directory.Person {
	id := fmt.Sprintf("%s_user_%d", p.scope.Directory, n)
	return directory.Person{
		ID: id, IDPID: "idp_" + id, State: "active", Created: time.Now().UTC().Add(time.Duration(n) * time.Second).Truncate(time.Microsecond),
		Profile: directory.Profile{Email: id + "@rehearsal.example", FirstName: "Rehearsal", LastName: fmt.Sprint(n), Name: fmt.Sprint("Rehearsal ", n)},
	}
}

// tell folds events, one after the other, binds what comes of them, and lets whoever was let in use the application. Whatever
// fails to bind is an error.
func (p *play) tell(ctx context.Context, events ...directory.Event) error {
	for _, e := range events {
		p.events++
		e.Source, e.Directory, e.Organization = p.scope.Source, p.scope.Directory, p.Organization
		e.ID, e.Type = fmt.Sprintf("%s_event_%d", p.scope.Directory, p.events), "rehearsal."+string(e.Subject)
		e.Occurred = time.Now().UTC().Add(time.Duration(p.events) * time.Millisecond).Truncate(time.Microsecond)
		if err := p.fold(ctx, e); err != nil {
			return err
		}
	}
	if err := p.binder.Drain(ctx); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	rows, err := p.look(ctx)
	if err != nil {
		return err
	}
	return p.use(ctx, rows)
}

func (p *play) fold(ctx context.Context, e directory.Event) error {
	return p.Store.Update(ctx, []directory.Scope{p.scope}, func(ctx context.Context, tx store.Tx) error {
		events := []directory.Event{e}
		state, _, err := tx.Load(ctx, directory.NeedOf(events), nil)
		if err != nil {
			return err
		}
		state.Fold(events)
		return tx.Save(ctx, store.Batch{Delta: state.TakeDelta()})
	})
}

// expand carries the ends of groups and directories through.
func (p *play) expand(ctx context.Context) error {
	for {
		pending, err := p.Store.Expansions(ctx, 1)
		if err != nil || len(pending) == 0 {
			return err
		}
		if _, err := store.Expand(ctx, p.Store, pending[0], expandAtOnce); err != nil {
			return err
		}
	}
}

// expandAtOnce is more than a rehearsal has people.
const expandAtOnce = 1000

// look takes the changes since the last look into the steps, and returns them. One that did not bind is an error, and one that
// took nothing of what it revokes.
func (p *play) look(ctx context.Context) ([]store.ChangeRow, error) {
	rows, err := p.Store.Changes(ctx, store.ChangeFilter{Source: p.scope.Source, Directory: p.scope.Directory, After: p.seen, Limit: 1000})
	if err != nil {
		return nil, err
	}
	settled, err := p.Store.Settled(ctx, store.Seqs(rows))
	if err != nil {
		return nil, err
	}
	waiting, err := p.waiting(ctx, rows)
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, row := range rows {
		p.seen = row.Seq
		step := Step{Kind: row.Kind, Result: settled[row.Seq].Result, Rows: settled[row.Seq].Rows}
		if w, waits := waiting[row.Seq]; waits {
			step.Error = w.Error
			wrong = append(wrong, fmt.Errorf("%s did not bind: %s", row.Kind, w.Error))
		}
		p.steps = append(p.steps, step)
		wrong = append(wrong, p.revoked(row, step))
	}
	return rows, errors.Join(wrong...)
}

func (p *play) waiting(ctx context.Context, rows []store.ChangeRow) (map[int64]store.WaitingChange, error) {
	var lanes []store.Lane
	seen := map[store.Lane]bool{}
	for _, row := range rows {
		if l := row.Lane(); !seen[l] {
			seen[l] = true
			lanes = append(lanes, l)
		}
	}
	list, err := p.Store.Waiting(ctx, nil, store.Bound, lanes)
	waiting := map[int64]store.WaitingChange{}
	for _, w := range list {
		waiting[w.Seq] = w
	}
	return waiting, err
}

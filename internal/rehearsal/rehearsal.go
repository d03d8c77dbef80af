// Package rehearsal plays what happens to people against an application, with the bindings of a configuration, in a
// transaction that is rolled back: the leaver test for the application's own build.
package rehearsal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Config is what a rehearsal needs.
type Config struct {
	Store        store.Store      // of this rehearsal alone, empty and migrated
	Database     *binder.Database // the application's; nothing that is done to it stays
	Organization string           // the provider's id of an organization that the application knows
	Roles        directory.Roles  // the store's, too
	Role         string           // a role that one or two groups give; empty: none does
	RoleGroups   []string         // those groups' names
	Tenants      bool             // the application has several
	Problems     []binder.Problem // statements that are not the binder's, and do not fit the database
	SignIn       []string         // bindings on no kind of change, by which people make something of their own
	Only         []string         // the situations that are played, by name; nil: all that can be

	// Binder makes the binder of the configuration for this database, in mode enforce.
	Binder func(*binder.Database) (*binder.Binder, error)

	// Active asks the application's own list of active users for their ids; nil when there is none.
	Active func(ctx context.Context, db *sql.DB) (map[string]bool, error)
}

// Case is one situation, and what came of it.
type Case struct {
	Name  string
	Steps []Step
	Took  time.Duration
	Err   error // what is wrong; nil when all is well
}

// Step is one change that was bound.
type Step struct {
	Kind   directory.ChangeKind
	Result string
	Rows   int64
	Error  string
	Probes []store.Verdict
}

// ErrTenant says that the application knows no tenant for the organization, so that nobody of it can be played.
var ErrTenant = errors.New("tenant.sql gives not one row")

// Run plays all situations, each on its own, and returns what came of each. Where statements do not fit the database nothing
// is played, and each of them is a case that failed. Its error is that the situations could not be played.
func Run(ctx context.Context, c Config) (cases []Case, err error) {
	within, end, err := undone(ctx, c.Database.SQL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	database := *c.Database
	database.SQL, database.Own = within, false
	b, err := c.Binder(&database)
	if err != nil {
		return nil, err
	}
	if problems := append(b.Prepare(ctx), c.Problems...); len(problems) > 0 {
		return unfit(problems), nil
	}
	if err := c.hasTenant(ctx, b); err != nil {
		return nil, err
	}
	for n, s := range situations {
		if s.needs != nil && !s.needs(c) || len(c.Only) > 0 && !slices.Contains(c.Only, s.name) {
			continue
		}
		p := &play{Config: c, binder: b, db: within, given: map[given]int64{}, scope: directory.Scope{Source: "rehearsal", Directory: fmt.Sprintf("directory_rehearsal_%d", n)}}
		began := time.Now()
		failed := p.run(ctx, s)
		if ctx.Err() != nil {
			return cases, context.Cause(ctx)
		}
		cases = append(cases, Case{Name: s.name, Steps: p.steps, Took: time.Since(began), Err: failed})
	}
	return cases, nil
}

// hasTenant reports that the application does not know the organization.
func (c Config) hasTenant(ctx context.Context, b *binder.Binder) error {
	if !c.Tenants {
		return nil
	}
	_, known, err := b.Tenant(ctx, c.Organization)
	if err == nil && !known {
		err = fmt.Errorf("%w for organization %q\nhint: --organization names one that this database has; docs/BINDINGS.md, \"Test them in your build\"", ErrTenant, c.Organization)
	}
	return err
}

// unfit makes a case of each statement that does not fit the database.
func unfit(problems []binder.Problem) []Case {
	cases := make([]Case, len(problems))
	for i, p := range problems {
		cases[i] = Case{Name: "the database takes " + p.Binding, Err: p}
	}
	return cases
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/store/storetest"
)

var example = directory.Scope{Source: "workos", Directory: "directory_1"}

// modeOf returns the directory's mode, "" when it has none.
func modeOf(t *testing.T, s store.Store) store.Mode {
	t.Helper()
	modes, err := s.Modes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modes {
		if m.Scope == example {
			return m.Mode
		}
	}
	return ""
}

// Only what is told can wait: of a directory that is observed, a pause would lay up nothing, and its end would bind what was only
// observed.
func TestOnlyADirectoryThatIsEnforcedCanBePaused(t *testing.T) {
	t.Parallel()
	onBothDatabases(t, func(t *testing.T, s store.Store) {
		pause := func() error {
			c := &cli{out: new(bytes.Buffer), talk: new(bytes.Buffer)}
			row := store.DirectoryTally{Register: directory.Register{Scope: example}, Mode: modeOf(t, s)}
			return c.setMode(t.Context(), s, row, store.Paused, wholesale{yes: true, reason: "a test"})
		}
		for _, mode := range []store.Mode{"", store.Observe} {
			if mode != "" {
				setModeOf(t, s, mode)
			}
			err := pause()
			want := fmt.Sprintf("directory directory_1 is %s: nothing of it is told to the application that could wait\nhint: `rollcall directories enforce directory_1` ", modeName(mode))
			if err == nil || !strings.HasPrefix(err.Error(), want) || modeOf(t, s) != mode {
				t.Errorf("pause of a directory that is %q = %v, and it is %q now; want it as it was, and %q", mode, err, modeOf(t, s), want)
			}
		}
		setModeOf(t, s, store.Enforce)
		if err := pause(); err != nil || modeOf(t, s) != store.Paused {
			t.Errorf("pause of a directory that is enforced = %v, and it is %q now; want it paused", err, modeOf(t, s))
		}
		if err := pause(); err != nil || modeOf(t, s) != store.Paused {
			t.Errorf("pause of a directory that is paused = %v, and it is %q now; want nothing done", err, modeOf(t, s))
		}
	})
}

func setModeOf(t *testing.T, s store.Store, mode store.Mode) {
	t.Helper()
	err := s.Update(t.Context(), []directory.Scope{example}, func(ctx context.Context, tx store.Tx) error {
		return tx.SetMode(ctx, store.ModeRow{Scope: example, Mode: mode, By: "test"})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// follower is a store and an application in files, with as many people as left it.
type follower struct {
	config config.Config
	store  store.Store
	binder *binder.Binder
	row    store.DirectoryTally
}

func follows(t *testing.T, mode store.Mode, leavers int, leave, link string) follower {
	t.Helper()
	c := config.Default()
	c.Environment, c.Store.Path, c.Application.Mode = "test", filepath.Join(t.TempDir(), "rollcall.db"), string(mode)
	file := filepath.Join(t.TempDir(), "app.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Application.DSN = config.Sensitive("sqlite:" + file)
	c.Application.Link.SQL = link
	c.Application.Bindings = []config.Binding{
		{On: []string{"account.updated"}, Name: "profile", SQL: []string{`UPDATE people SET gone = 0 WHERE id = @app_id`}},
		{On: []string{"account.deactivated"}, Name: "lock-out", SQL: []string{leave}},
	}
	f := follower{config: c, row: store.DirectoryTally{Register: directory.Register{Scope: example}, Mode: store.Observe}}
	var err error
	if f.store, err = app.OpenStore(t.Context(), c, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.store.Close() })
	if _, err := f.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := app.OpenApplication(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.SQL.Close() })
	if _, err := db.SQL.ExecContext(t.Context(), `CREATE TABLE people (id integer PRIMARY KEY, external_id text, gone integer NOT NULL DEFAULT 0)`); err != nil {
		t.Fatal(err)
	}
	var events []directory.Event
	for i := range leavers {
		name := fmt.Sprint("person", i)
		if _, err := db.SQL.ExecContext(t.Context(), `INSERT INTO people (external_id) VALUES (?)`, name); err != nil {
			t.Fatal(err)
		}
		events = append(events, directory.Event{
			ID: "event_" + name, Type: "dsync.user.deleted", Source: example.Source, Directory: example.Directory, Subject: directory.SubjectUser, Removes: true,
			Occurred: time.Date(2026, 3, 1, 8, i, 0, 0, time.UTC), User: &directory.Person{ID: "user_" + name, IDPID: name, State: "inactive"},
		})
	}
	if err := storetest.Fold(t.Context(), f.store, events); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Admit(t.Context(), mode); err != nil {
		t.Fatal(err)
	}
	if f.binder, err = app.NewBinder(c, f.store, db, zerolog.Nop(), nil); err != nil {
		t.Fatal(err)
	}
	return f
}

const byExternalID = `SELECT id FROM people WHERE external_id = @idp_id`

// Eight people left whose deactivation fails now: as soon as the statement is mended, eight lose access.
func TestTheGuardOfEnforceCountsDeactivationsThatWouldFailNow(t *testing.T) {
	t.Parallel()
	for why, a := range map[string]struct{ leave, link string }{
		"their statement touches no row": {`UPDATE people SET gone = 1 WHERE id = @app_id AND 1 = 0`, byExternalID},
		"their statement fails":          {`UPDATE people SET gone = NULL WHERE id = @app_id`, byExternalID},
		"it is not known who they are":   {`UPDATE people SET gone = 1 WHERE id = @app_id`, `SELECT id FROM people`},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			f := follows(t, store.Observe, 8, a.leave, a.link)
			enforce := func(confirm int) (string, error) {
				var out bytes.Buffer
				err := (&cli{out: &out, talk: new(bytes.Buffer)}).tellAll(t.Context(), f.config, f.binder, f.row, "enforce", wholesale{yes: true, confirm: confirm})
				return out.String(), err
			}
			for _, confirm := range []int{-1, 0, 7} {
				out, err := enforce(confirm)
				if !errors.Is(err, errCheck) || !strings.Contains(err.Error(), "8 people would lose access, which is more than application.guard allows; nothing is done\nhint: when that is right, --confirm 8 --yes") || modeOf(t, f.store) != store.Observe {
					t.Errorf("enforce --confirm %d = %v, and the directory is %q; want it refused, and 8 people named\n%s", confirm, err, modeOf(t, f.store), out)
				}
				if !strings.Contains(out, "8, 0 of them in the application, 8 not to be told at this time\n") {
					t.Errorf("enforce shows\n%swant 8 who are not to be told at this time", out)
				}
			}
			if _, err := enforce(8); err != nil || modeOf(t, f.store) != store.Enforce {
				t.Errorf("enforce --confirm 8 = %v, and the directory is %q; want it enforced", err, modeOf(t, f.store))
			}
		})
	}
}

// No silent success: whoever is linked and loses no row by their deactivation is a failure of the binding, and it is named.
func TestABindingThatTakesNothingFromALeaverIsNamedByBindingsList(t *testing.T) {
	t.Parallel()
	f := follows(t, store.Enforce, 1, `UPDATE people SET gone = 1 WHERE id = @app_id AND 1 = 0`, byExternalID)
	var out bytes.Buffer
	c := &cli{out: &out, talk: new(bytes.Buffer)}
	if err := f.binder.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := c.listBindings(t.Context(), f.store, f.binder, nil)
	if exitCode(err) != 5 || !strings.Contains(err.Error(), "1 bindings are broken or fail") {
		t.Errorf("bindings list = %v, which exits with %d; want 5", err, exitCode(err))
	}
	for line := range strings.Lines(out.String()) {
		cells := strings.Fields(line)
		switch {
		case cells[0] == "lock-out" && (cells[1] != binder.StateFailing || cells[2] != "1" || !strings.Contains(line, "lock-out touched no row of 1: nothing was taken from them")):
			t.Errorf("the binding is shown as\n%swant it failing, one change, and why", line)
		case cells[0] == "profile" && cells[1] != binder.StateOK:
			t.Errorf("another binding is shown as\n%swant it ok", line)
		}
	}
	if n := strings.Count(out.String(), "lock-out"); n != 2 {
		t.Errorf("bindings list shows\n%swant the binding in one line, and named in why it fails", out.String())
	}
}

// Whoever looks after a leaver whose access does not end reads why where the rest of their story is.
func TestTheStoryOfALeaverSaysWhyTheirChangeWaits(t *testing.T) {
	t.Parallel()
	f := follows(t, store.Enforce, 1, `UPDATE people SET gone = 1 WHERE id = @app_id AND 1 = 0`, byExternalID)
	if err := f.binder.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := &cli{out: &out, talk: new(bytes.Buffer)}
	if err := c.showAccounts(t.Context(), f.store, store.AccountFilter{Limit: 10}, binder.Owners{}); err != nil {
		t.Fatal(err)
	}
	_, waits, _ := strings.Cut(out.String(), "account.deactivated (waits)\n")
	if want := regexp.MustCompile(`^ +because of .*\n +failed 1 time, is tried again 20\S+Z: .*lock-out touched no row of 1`); !want.MatchString(waits) {
		t.Errorf("accounts show says\n%swant of the change that waits %s", out.String(), want)
	}
}

// A binding that took effect is shown although another one of the same change fails: of a leaver, what is gone.
func TestAStepThatWaitsSaysWhatTookEffectAlready(t *testing.T) {
	t.Parallel()
	var lines table
	stepJSON{
		Fails: &failureJSON{Attempts: 3, Error: "end-sessions: timeout\nhint: wait", Next: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)},
		Ran:   []ranJSON{{Binding: "lock-out", Rows: 1}},
	}.describe(&lines)
	for _, want := range []string{"failed 3 times, is tried again 2026-11-24T09:00:00.000Z: end-sessions: timeout; wait", "took effect already: lock-out 1"} {
		if !slices.ContainsFunc(lines.rows, func(row []string) bool { return row[1] == want }) {
			t.Errorf("the step is shown as %q, want %q", lines.rows, want)
		}
	}
}

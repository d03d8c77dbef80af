package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/app"
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

// Eight people left whose deactivation fails now: as soon as the statement is mended, eight lose access.
func TestTheGuardOfEnforceCountsDeactivationsThatWouldFailNow(t *testing.T) {
	t.Parallel()
	for why, a := range map[string]struct{ leave, link string }{
		"their statement touches no row": {`UPDATE people SET gone = 1 WHERE id = @app_id AND 1 = 0`, `SELECT id FROM people WHERE external_id = @idp_id`},
		"their statement fails":          {`UPDATE people SET gone = NULL WHERE id = @app_id`, `SELECT id FROM people WHERE external_id = @idp_id`},
		"it is not known who they are":   {`UPDATE people SET gone = 1 WHERE id = @app_id`, `SELECT id FROM people`},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			c := config.Default()
			c.Environment, c.Store.Path = "test", filepath.Join(t.TempDir(), "rollcall.db")
			file := filepath.Join(t.TempDir(), "app.db")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.Application.DSN = config.Sensitive("sqlite:" + file)
			c.Application.Link.SQL = a.link
			c.Application.Bindings = []config.Binding{{On: []string{"account.deactivated"}, Name: "leave", SQL: []string{a.leave}}}
			s, err := app.OpenStore(t.Context(), c, "1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			if _, err := s.Migrate(t.Context()); err != nil {
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
			for i := range 8 {
				name := fmt.Sprint("person", i)
				if _, err := db.SQL.ExecContext(t.Context(), `INSERT INTO people (external_id) VALUES (?)`, name); err != nil {
					t.Fatal(err)
				}
				events = append(events, directory.Event{
					ID: "event_" + name, Type: "dsync.user.deleted", Source: example.Source, Directory: example.Directory, Subject: directory.SubjectUser, Removes: true,
					Occurred: time.Date(2026, 3, 1, 8, i, 0, 0, time.UTC), User: &directory.Person{ID: "user_" + name, IDPID: name, State: "inactive"},
				})
			}
			if err := storetest.Fold(t.Context(), s, events); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Admit(t.Context(), store.Observe); err != nil {
				t.Fatal(err)
			}
			b, err := app.NewBinder(c, s, db, zerolog.Nop(), nil)
			if err != nil {
				t.Fatal(err)
			}
			row := store.DirectoryTally{Register: directory.Register{Scope: example}, Mode: store.Observe}
			enforce := func(confirm int) (string, error) {
				var out bytes.Buffer
				err := (&cli{out: &out, talk: new(bytes.Buffer)}).tellAll(t.Context(), c, b, row, "enforce", wholesale{yes: true, confirm: confirm})
				return out.String(), err
			}
			for _, confirm := range []int{-1, 0, 7} {
				out, err := enforce(confirm)
				if !errors.Is(err, errCheck) || !strings.Contains(err.Error(), "8 people would lose access, which is more than application.guard allows; nothing is done\nhint: when that is right, --confirm 8 --yes") || modeOf(t, s) != store.Observe {
					t.Errorf("enforce --confirm %d = %v, and the directory is %q; want it refused, and 8 people named\n%s", confirm, err, modeOf(t, s), out)
				}
				if !strings.Contains(out, "8, 0 of them in the application, 8 not to be told at this time\n") {
					t.Errorf("enforce shows\n%swant 8 who are not to be told at this time", out)
				}
			}
			if _, err := enforce(8); err != nil || modeOf(t, s) != store.Enforce {
				t.Errorf("enforce --confirm 8 = %v, and the directory is %q; want it enforced", err, modeOf(t, s))
			}
		})
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

func TestToObserveADirectoryThatAloneKeepsManyIsGuarded(t *testing.T) {
	t.Parallel()
	conf := config.Config{Environment: "test", Store: config.Store{Backend: config.BackendSQLite, Path: filepath.Join(t.TempDir(), "r.db")}}
	conf.Application.Guard = config.Guard{Accounts: 1, Percent: 100, Floor: 1}
	s, err := app.OpenStore(t.Context(), conf, "1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &cli{out: &bytes.Buffer{}}
	row := store.DirectoryTally{Register: directory.Register{Scope: directory.Scope{Source: "workos", Directory: "new"}}, Mode: store.Enforce, Accounts: 2}
	guarded := func(confirm int) (string, error) {
		var talk bytes.Buffer
		c.talk = &talk
		err := c.guardKept(t.Context(), conf, s, row, wholesale{confirm: confirm})
		return talk.String(), err
	}
	if said, err := guarded(-1); err != nil || said != "" {
		t.Errorf("guardKept() = %v, and says %q, want nothing: nobody is kept", err, said)
	}
	for i := range 2 {
		if said, err := guarded(-1); err != nil || i == 1 && !strings.Contains(said, "1 user of the application will lose access") {
			t.Errorf("guardKept() of %d = %v, and says %q, want them named, and nothing to confirm", i, err, said)
		}
		keep(t, s, fmt.Sprint("user-", i))
	}
	if _, err := guarded(1); !errors.Is(err, errCheck) || !strings.HasSuffix(err.Error(), "\nhint: when that is right, --confirm 2 --yes does it") {
		t.Errorf("guardKept() of two = %v, want their number asked for", err)
	}
	if _, err := guarded(2); err != nil {
		t.Errorf("guardKept() of two who are confirmed = %v", err)
	}
}

// keep makes somebody who left one directory, and whom another one keeps.
func keep(t *testing.T, s store.Store, name string) {
	t.Helper()
	for _, in := range []string{"old", "new"} {
		scope := directory.Scope{Source: "workos", Directory: in}
		id := directory.ID{Scope: scope, ID: name}
		delta := directory.Delta{Accounts: []directory.Account{{ID: id, Active: in == "new"}}}
		if in == "old" {
			delta.Changes = []directory.Change{{Scope: scope, Kind: directory.AccountDeactivated, Account: name, Event: "event_" + name}}
		}
		err := s.Update(t.Context(), []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
			return errors.Join(tx.Save(ctx, store.Batch{Delta: delta}), tx.SetMode(ctx, store.ModeRow{Scope: scope, Mode: store.Enforce}))
		})
		if err == nil {
			err = s.SaveLink(t.Context(), nil, store.Link{ID: id, State: store.Linked, AppID: name, Tenant: "t"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	changes, err := s.Changes(t.Context(), store.ChangeFilter{Account: name})
	if err != nil || len(changes) != 1 {
		t.Fatalf("Changes(%s) = %v, %v, want one", name, changes, err)
	}
	if err := s.Settle(t.Context(), nil, store.Bound, []store.Done{{Seq: changes[0].Seq, Result: store.ResultKept}}, nil, true); err != nil {
		t.Fatal(err)
	}
}

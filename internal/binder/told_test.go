package binder_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// becomes sets the mode of a directory as the command does.
func (r *rig) becomes(name string, mode store.Mode) {
	r.Helper()
	scope := directory.Scope{Source: "workos", Directory: name}
	err := r.store.Update(context.WithoutCancel(r.Context()), []directory.Scope{scope}, func(ctx context.Context, tx store.Tx) error {
		if mode == store.Observe {
			if _, err := tx.Discard(ctx, scope, store.ResultObserved); err != nil {
				return err
			}
		}
		return tx.SetMode(ctx, store.ModeRow{Scope: scope, Mode: mode, By: "ops"})
	})
	if err != nil {
		r.Fatalf("%s becomes %s: %v", name, mode, err)
	}
}

func TestWhatWasPostedCountsAsTold(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		rc := newReceiver(t)
		b, _ := r.start(func(c *binder.Config) { c.Link, c.Bindings = nil, []binder.Binding{rc.binding("hooks")} })
		r.fold(joins("ada"), added("group_1", "ada"), added("group_admins", "ada"), joins("bob"))
		r.posted("ada")
		r.becomes("directory_1", store.Observe)
		r.fold(removed("group_1", "ada"), removed("group_admins", "ada"), leaves("bob"))
		r.posted("ada")
		_, got := r.plan(b, false)
		want := []string{"account.deactivated bob", "grant.revoked adagroup_1", "grant.revoked adagroup_admins", "role.revoked adaadmin"}
		if !slices.Equal(got, want) {
			t.Errorf("the plan is %q, want %q: who got the posts has all of it", got, want)
		}
	})
}

func TestWhatWasLaidAsideHalfDoneCountsAsTold(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		failing := func(c *binder.Config) {
			c.Bindings = append(c.Bindings, binder.Binding{Name: "other", On: kinds("grant.added"), Statements: []string{
				`INSERT INTO app_roles (user_id, role) VALUES (@app_id, CASE WHEN CAST(@group_id AS text) = 'group_1' THEN NULL ELSE 'member' END)`,
			}})
		}
		_, stop := r.start(failing)
		r.fold(joins("ada"))
		r.settle()
		r.fold(added("group_1", "ada"))
		r.until("that one binding works and the other one fails", func() bool {
			return len(r.failures()) == 1 && len(r.rows(`SELECT 1 FROM app_members WHERE group_id = 'group_1'`)) == 1
		})
		stop()
		r.becomes("directory_1", store.Observe)
		r.fold(removed("group_1", "ada"))
		b, _ := r.start(failing)
		r.settle()
		p, got := r.plan(b, false)
		if want := "grant.revoked adagroup_1"; strings.Join(got, ", ") != want {
			t.Fatalf("the plan is %q, want %q: the application has a part of it", got, want)
		}
		if _, err := b.Tell(t.Context(), p, enforced(""), "enforce"); err != nil {
			t.Fatalf("Tell() = %v", err)
		}
		r.settle()
		r.shows(`SELECT group_id FROM app_members`)
	})
}

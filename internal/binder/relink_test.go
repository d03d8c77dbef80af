package binder_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/binder"
	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// byAddress links by the address alone, so that a test moves it.
func byAddress(c *binder.Config) {
	existing(c)
	c.Link = &binder.Link{SQL: `SELECT id FROM app_users WHERE email = @email`}
}

// More lookups fail than are made at once, and all of them are due before the one that works.
func TestLookupsThatFailKeepNoOtherFromBeingLookedUpAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`CREATE TABLE upset (id integer PRIMARY KEY, idp text)`)
		r.start(existing, func(c *binder.Config) {
			c.Link.SQL = `SELECT id FROM app_users WHERE external_id = @idp_id UNION ALL SELECT abs(0 * id - 9223372036854775807 - 1) FROM upset WHERE idp = @idp_id`
			c.Link.ByEmail = ""
			c.LinkRetry = 200 * time.Millisecond
		})
		var events []directory.Event
		for i := range 110 {
			events = append(events, joins(fmt.Sprint("upset", i)))
		}
		r.fold(events...)
		r.settle()
		for i := range 110 {
			r.exec(fmt.Sprintf(`INSERT INTO upset (id, idp) VALUES (%d, 'upset%d')`, i, i))
		}
		r.fold(joins("ada"))
		r.settle()
		r.exec(`INSERT INTO app_users (external_id) VALUES ('ada')`)
		r.until("that the one is found", func() bool { return r.link("ada").State == store.Linked })
		r.until("that a lookup which fails waits longer each time", func() bool {
			got := r.link("upset7")
			return got.State == store.Unlinked && got.Tries > 1 && got.Next.After(time.Now())
		})
	})
}

func TestWhoLeftLongAgoIsNotLinkedByAnAddressThatSomebodyActiveHas(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, email) VALUES (7, 'a@example.com')`)
		r.fold(leaves("ada", mailed("a@example.com")), joins("alan", mailed("A@example.com")))
		r.start(existing) // leavers first
		r.until("that it is known who has the row", func() bool { return r.link("alan").State == store.Linked })
		r.until("that the leaver is held", func() bool { return r.link("ada").State.Held() })
		r.until("that the row is alan's", func() bool {
			return slices.Equal(r.rows(`SELECT external_id, disabled FROM app_users`), []string{"alan 0"})
		})
		r.came("ada", "account.deactivated - -")
	})
}

func TestWhoLeftIsToldAgainWhenTheirLinkIsDroppedOrSet(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.exec(`INSERT INTO app_users (id, email) VALUES (1, 'ada@example.com')`)
		r.start(byAddress)
		r.fold(joins("ada"), leaves("ada"))
		r.settle()
		r.until("a deactivation", func() bool { return slices.Equal(r.rows(`SELECT disabled FROM app_users`), []string{"1"}) })

		r.exec(`UPDATE app_users SET email = 'eve@example.com', disabled = 0`)
		r.exec(`INSERT INTO app_users (id, email) VALUES (2, 'ada@example.com'), (3, 'other@example.com')`)
		if err := r.store.DropLink(t.Context(), account("ada")); err != nil {
			t.Fatalf("DropLink() = %v", err)
		}
		out := func(id int) bool {
			return slices.Equal(r.rows(fmt.Sprint(`SELECT disabled FROM app_users WHERE id = `, id)), []string{"1"})
		}
		r.until("that the right one is out", func() bool { return out(2) })

		set := r.link("ada")
		set.AppID, set.How, set.By, set.Next = "3", "operator", "ops", time.Now()
		if err := r.store.SaveLink(context.WithoutCancel(t.Context()), nil, set); err != nil {
			t.Fatalf("SaveLink() = %v", err)
		}
		r.until("that the one who was set is out", func() bool { return out(3) })
		r.shows(`SELECT id, disabled FROM app_users ORDER BY id`, "1 0", "2 1", "3 1")
	})
}

func TestWhatWasRevokedBeforeTheLinkWasFoundIsToldToo(t *testing.T) {
	everywhere(t, func(t *testing.T, r *rig) {
		r.start(existing)
		r.fold(joins("ada"), added("group_1", "ada"), added("group_2", "ada"), added("group_admins", "ada"), joins("bob"), added("group_1", "bob"), added("group_admins", "bob"))
		r.settle()
		r.fold(removed("group_1", "ada"), removed("group_admins", "ada"), leaves("bob"))
		r.settle()
		// They have it from before, by another way; what the directory never gave is not its to take.
		r.exec(`INSERT INTO app_members (user_id, group_id) VALUES (1, 'group_1'), (1, 'group_own'), (2, 'group_1'), (2, 'group_own')`)
		r.exec(`INSERT INTO app_roles (user_id, role) VALUES (1, 'admin'), (1, 'editor'), (2, 'admin')`)
		r.exec(`INSERT INTO app_users (id, email) VALUES (1, 'ada@example.com'), (2, 'bob@example.com')`)
		r.until("that bob is out", func() bool { return len(r.rows(`SELECT 1 FROM app_users WHERE id = 2 AND disabled = 1`)) == 1 })
		r.until("that ada has what she is in", func() bool { return len(r.rows(`SELECT 1 FROM app_members WHERE group_id = 'group_2'`)) == 1 })
		r.settle()
		r.shows(`SELECT user_id, group_id FROM app_members ORDER BY user_id, group_id`, "1 group_2", "1 group_own", "2 group_own")
		r.shows(`SELECT user_id, role FROM app_roles`, "1 editor")
		r.shows(`SELECT id, disabled FROM app_users ORDER BY id`, "1 0", "2 1")
	})
}

package inventory_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/inventory"
)

func TestWhatAListingLacksIsSaidBeforeItIsRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kind string, db *sql.DB) {
		whole := application(t, kind, db)
		for name, c := range map[string]struct {
			change  func(*inventory.Application)
			tenants bool
			want    string // in the only fault; empty: there is none
		}{
			"whole":             {func(*inventory.Application) {}, true, ""},
			"nothing is listed": {func(a *inventory.Application) { a.Accounts, a.Memberships = "", " " }, true, ""},
			"a semicolon":       {func(a *inventory.Application) { a.Accounts = "SELECT id, tenant FROM users ;\n" }, true, ""},
			"a comment":         {func(a *inventory.Application) { a.Accounts = "SELECT id, tenant FROM users -- all" }, true, ""},
			"rows before LIMIT": {func(a *inventory.Application) { a.Accounts = "SELECT id, tenant FROM users ORDER BY id LIMIT 1" }, true, ""},
			"a common table": {func(a *inventory.Application) {
				a.Accounts = "WITH u AS (SELECT * FROM users) SELECT id, tenant FROM u"
			}, true, ""},
			"one tenant":         {func(a *inventory.Application) { a.Accounts = "SELECT id FROM users" }, false, ""},
			"no tenant":          {func(a *inventory.Application) { a.Accounts = "SELECT id, tenant AS tennant FROM users" }, true, `inventory.accounts: application.inventory.accounts gives no column "tenant"; it gives id, tennant`},
			"no id":              {func(a *inventory.Application) { a.Accounts = "SELECT mail FROM users" }, false, `inventory.accounts: application.inventory.accounts gives no column "id"; it gives mail`},
			"no group":           {func(a *inventory.Application) { a.Memberships = "SELECT user_id FROM members" }, false, `inventory.memberships: application.inventory.memberships gives no column "group_id"`},
			"an unknown column":  {func(a *inventory.Application) { a.Accounts = "SELECT id, tennant FROM users" }, true, "tennant"},
			"an unknown members": {func(a *inventory.Application) { a.Memberships = "SELECT user_id, group_id FROM nothing" }, true, "prepare application.inventory.memberships: "},
		} {
			a := whole
			c.change(&a)
			faults := a.Prepare(t.Context(), c.tenants)
			switch {
			case c.want == "" && len(faults) == 0:
			case c.want != "" && len(faults) == 1 && strings.Contains(faults[0].Statement+": "+faults[0].Message, c.want):
			default:
				t.Errorf("%s: Prepare() = %v, want one with %q", name, faults, c.want)
			}
		}
	})
}

package inventory_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/inventory"
	"github.com/rollcallhq/rollcall/internal/store"
)

var (
	now   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first = directory.Scope{Source: "workos", Directory: "d1"}
	other = directory.Scope{Source: "workos", Directory: "d2"}
)

const (
	activated   = directory.AccountActivated
	deactivated = directory.AccountDeactivated
)

func account(key string) directory.ID { return directory.ID{Scope: first, ID: key} }

// person is an account of the first directory that is linked with a row of tenant t1.
func person(key, appID string, active bool, told directory.ChangeKind, grants ...store.GrantStanding) store.Standing {
	return store.Standing{ID: account(key), Email: key + "@example.com", Active: active, Told: told, Link: store.Linked, AppID: appID, Tenant: "t1", Grants: grants}
}

func unlinked(key, email string, state store.LinkState) store.Standing {
	return store.Standing{ID: account(key), Email: email, Active: true, Link: state}
}

func granted(group string, told bool) store.GrantStanding {
	return store.GrantStanding{GroupRow: store.GroupRow{ID: group, Name: "Team " + group}, Told: told}
}

func group(scope directory.Scope, id string) directory.Group {
	return directory.Group{ID: directory.ID{Scope: scope, ID: id}, Name: "Team " + id}
}

func live(scope directory.Scope, mode store.Mode, tenant string) inventory.Directory {
	return inventory.Directory{Scope: scope, Organization: "org_" + scope.Directory, Mode: mode, Tenant: tenant, Known: tenant != ""}
}

// enforced is what is known of an application with several tenants, of which t1 has a directory.
func enforced() inventory.Known {
	return inventory.Known{
		Tenants: true, Memberships: true, Now: now, Directories: []inventory.Directory{live(first, store.Enforce, "t1")},
		Groups: []directory.Group{group(first, "g1"), group(first, "g2")},
	}
}

func observed() inventory.Known {
	k := enforced()
	k.Directories[0].Mode = ""
	return k
}

func exempting(appID string, expires time.Time) inventory.Known {
	k := enforced()
	k.Exemptions = []store.Exemption{{Tenant: "t1", AppID: appID, Expires: expires}}
	return k
}

func oneTenant() inventory.Known {
	k := enforced()
	k.Tenants, k.Directories = false, []inventory.Directory{{Scope: first, Mode: store.Enforce, Known: true}}
	return k
}

func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

func row(id string) inventory.Account { return inventory.Account{ID: id, Tenant: "t1"} }

func finding(kind inventory.Kind, appID, key string) inventory.Finding {
	f := inventory.Finding{Kind: kind, Tenant: "t1", AppID: appID}
	if key != "" {
		f.Account = account(key)
	}
	return f
}

func membership(kind inventory.Kind, appID, key, group string) inventory.Finding {
	f := finding(kind, appID, key)
	f.Account.Scope, f.Group, f.GroupName = first, group, "Team "+group
	return f
}

type comparison struct {
	known       inventory.Known
	standings   []store.Standing
	protected   []string
	accounts    []inventory.Account
	memberships []inventory.Membership
	want        inventory.Report
}

func (c comparison) report() inventory.Report {
	compared := inventory.Compare(c.known)
	for _, s := range c.standings {
		compared.Standing(s)
	}
	for _, id := range c.protected {
		compared.Protected(id)
	}
	for _, a := range c.accounts {
		compared.Account(a)
	}
	for _, m := range c.memberships {
		compared.Membership(m)
	}
	return compared.Report()
}

func (c comparison) check(t *testing.T) {
	t.Helper()
	c.want.Accounts = len(c.accounts)
	got := c.report()
	for _, f := range got.Findings {
		if f.Detail == "" {
			t.Errorf("%+v says nothing of why", f)
		}
	}
	if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(inventory.Finding{}, "Detail", "Email")); diff != "" {
		t.Errorf("the report differs from what should be found (-want +got):\n%s", diff)
	}
}

func TestAccountsThatNobodyStandsBehindAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]comparison{
		"everybody is somebody": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, activated)}, accounts: []inventory.Account{row("1")},
		},
		"nobody is linked with a row": {
			known: enforced(), accounts: []inventory.Account{row("1")}, want: inventory.Report{Findings: []inventory.Finding{finding(inventory.Orphan, "1", "")}},
		},
		"a row is listed twice": {
			known: enforced(), accounts: []inventory.Account{row("1"), row("1")}, want: inventory.Report{Findings: []inventory.Finding{finding(inventory.Orphan, "1", "")}},
		},
		"somebody left, and it was told": {
			known: enforced(), standings: []store.Standing{person("ada", "1", false, deactivated)}, accounts: []inventory.Account{row("1")},
			want: inventory.Report{Findings: []inventory.Finding{finding(inventory.Reactivated, "1", "ada")}},
		},
		"somebody left, and it was not told": {
			known: enforced(), standings: []store.Standing{person("ada", "1", false, activated)}, accounts: []inventory.Account{row("1")},
			want: inventory.Report{Findings: []inventory.Finding{finding(inventory.Orphan, "1", "ada")}},
		},
		"somebody left one directory and is in another": {
			known: with(enforced(), func(k *inventory.Known) { k.Directories = append(k.Directories, live(other, store.Enforce, "t1")) }),
			standings: []store.Standing{
				person("ada", "1", false, deactivated),
				{ID: directory.ID{Scope: other, ID: "ada"}, Active: true, Told: activated, Link: store.Linked, AppID: "1", Tenant: "t1"},
			},
			accounts: []inventory.Account{row("1")},
		},
		"somebody left one directory, and is in another that is only observed and keeps nobody": {
			known: with(enforced(), func(k *inventory.Known) { k.Directories = append(k.Directories, live(other, store.Observe, "t1")) }),
			standings: []store.Standing{
				person("ada", "1", false, deactivated),
				{ID: directory.ID{Scope: other, ID: "ada"}, Active: true, Told: activated, Link: store.Linked, AppID: "1", Tenant: "t1"},
				person("bob", "2", false, deactivated),
				{ID: directory.ID{Scope: other, ID: "bob"}, Active: true, Told: activated, Link: store.Linked, AppID: "2", Tenant: "t1"},
			},
			accounts: []inventory.Account{row("1")},
			want:     inventory.Report{Findings: []inventory.Finding{finding(inventory.Reactivated, "1", "ada")}},
		},
		"somebody came back, and it was not told yet": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, deactivated)}, accounts: []inventory.Account{row("1")},
		},
		"the row of another tenant has the same id": {
			known:     with(enforced(), func(k *inventory.Known) { k.Directories = append(k.Directories, live(other, store.Enforce, "t2")) }),
			standings: []store.Standing{person("ada", "1", true, activated)}, accounts: []inventory.Account{row("1"), {ID: "1", Tenant: "t2"}},
			want: inventory.Report{Findings: []inventory.Finding{{Kind: inventory.Orphan, Tenant: "t2", AppID: "1"}}},
		},
		"a tenant has no directory": {
			known: enforced(), accounts: []inventory.Account{{ID: "1", Tenant: "t9"}}, want: inventory.Report{Outside: 1},
		},
		"a tenant's directory ended, and somebody was told to be inactive": {
			known:     with(enforced(), func(k *inventory.Known) { k.Directories[0].Ended = true }),
			standings: []store.Standing{person("ada", "1", false, deactivated)}, accounts: []inventory.Account{row("1"), row("2")},
			want: inventory.Report{Outside: 1, Findings: []inventory.Finding{finding(inventory.Reactivated, "1", "ada")}},
		},
		"an account is like the row, and was looked up": {
			known: enforced(), standings: []store.Standing{unlinked("ada", "Ada@example.com", store.Unlinked)},
			accounts: []inventory.Account{{ID: "1", Tenant: "t1", Email: "ADA@example.com"}},
			want:     inventory.Report{Findings: []inventory.Finding{finding(inventory.Orphan, "1", "ada")}},
		},
		"ids that are protected are marked": {
			known: enforced(), protected: []string{"1"}, accounts: []inventory.Account{row("1"), row("2")},
			want: inventory.Report{Findings: []inventory.Finding{
				with(finding(inventory.Orphan, "1", ""), func(f *inventory.Finding) { f.Protected = true }), finding(inventory.Orphan, "2", ""),
			}},
		},
		"one tenant, whatever the rows say": {
			known: oneTenant(), standings: []store.Standing{person("ada", "1", true, activated)}, accounts: []inventory.Account{row("1"), {ID: "2", Tenant: "t7"}, {ID: "3"}},
			want: inventory.Report{Findings: []inventory.Finding{{Kind: inventory.Orphan, AppID: "2"}, {Kind: inventory.Orphan, AppID: "3"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func TestWhomSomebodyAnswersForIsLeftOutAndCounted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]comparison{
		"an orphan": {
			known: exempting("1", now.Add(time.Second)), accounts: []inventory.Account{row("1")}, want: inventory.Report{Exempt: 1},
		},
		"an orphan's membership": {
			known: exempting("1", now.Add(time.Second)), accounts: []inventory.Account{row("1")}, memberships: []inventory.Membership{{User: "1", Group: "g1"}},
			want: inventory.Report{Exempt: 1, Memberships: 1},
		},
		"somebody who was activated again": {
			known: exempting("1", now.Add(time.Second)), standings: []store.Standing{person("ada", "1", false, deactivated)}, accounts: []inventory.Account{row("1")},
			want: inventory.Report{Exempt: 1},
		},
		"the moment that an exemption ends": {
			known: exempting("1", now), accounts: []inventory.Account{row("1")},
			want: inventory.Report{Findings: []inventory.Finding{finding(inventory.Orphan, "1", "")}},
		},
		"the same id in another tenant": {
			known:    with(exempting("1", now.Add(time.Hour)), func(k *inventory.Known) { k.Exemptions[0].Tenant = "t2" }),
			accounts: []inventory.Account{row("1")},
			want:     inventory.Report{Findings: []inventory.Finding{finding(inventory.Orphan, "1", "")}},
		},
		"somebody with an account is still in too many groups": {
			known: exempting("1", now.Add(time.Hour)), standings: []store.Standing{person("ada", "1", true, activated)}, accounts: []inventory.Account{row("1")},
			memberships: []inventory.Membership{{User: "1", Group: "g1"}},
			want:        inventory.Report{Memberships: 1, Findings: []inventory.Finding{membership(inventory.ExtraMembership, "1", "ada", "g1")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func TestWhatCannotBeJudgedIsNeitherFoundNorClean(t *testing.T) {
	t.Parallel()
	const observing = "directory d1 is only observed, so that its accounts are not linked yet"
	const held = "the link of an active account that it may be is not known: `rollcall links list --held`"
	for name, c := range map[string]comparison{
		"a row says no tenant": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, activated)}, accounts: []inventory.Account{{ID: "1"}, {ID: "2"}},
			want: inventory.Report{Unknown: []inventory.Unknown{{Reason: "application.inventory.accounts gives no tenant for the row", Count: 2}}},
		},
		"an organization has no tenant": {
			known: with(enforced(), func(k *inventory.Known) { k.Directories = append(k.Directories, live(other, store.Enforce, "")) }),
			want:  inventory.Report{Unknown: []inventory.Unknown{{Reason: "the application knows no tenant for organization org_d2 of directory d2", Count: 1}}},
		},
		"the directory is only observed": {
			known: observed(), standings: []store.Standing{unlinked("ada", "ada@example.com", "")}, accounts: []inventory.Account{row("1"), row("2")},
			want: inventory.Report{Unknown: []inventory.Unknown{{Reason: observing, Count: 2}}},
		},
		"the link of somebody with this address is held": {
			known: enforced(), standings: []store.Standing{unlinked("ada", "ada@example.com", store.Ambiguous)},
			accounts: []inventory.Account{{ID: "1", Tenant: "t1", Email: "Ada@Example.com"}},
			want:     inventory.Report{Unknown: []inventory.Unknown{{Reason: held, Count: 1}}},
		},
		"nobody has looked yet for whom the row names": {
			known: enforced(), standings: []store.Standing{unlinked("ada", "", "")}, accounts: []inventory.Account{{ID: "1", Tenant: "t1", External: "ada"}},
			memberships: []inventory.Membership{{User: "1", Group: "g1"}},
			want: inventory.Report{Memberships: 1, Unknown: []inventory.Unknown{
				{Reason: "a membership is of an account that could not be judged", Count: 1}, {Reason: held, Count: 1},
			}},
		},
		"a group is nobody's": {
			known: enforced(), memberships: []inventory.Membership{{User: "1", Group: "g9"}},
			want: inventory.Report{Memberships: 1, Unknown: []inventory.Unknown{{Reason: "a membership is of a group that no directory has said anything of", Count: 1}}},
		},
		"a group's directory is only observed": {
			known: observed(), memberships: []inventory.Membership{{User: "1", Group: "g1"}},
			want: inventory.Report{Memberships: 1, Unknown: []inventory.Unknown{{Reason: "a membership is of a group of directory d1, which is only observed", Count: 1}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
			if c.report().Clean() {
				t.Error("the report is clean")
			}
		})
	}
}

func TestAccountsThatTheApplicationLostAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]comparison{
		"somebody it was told of": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, activated, granted("g1", true))},
			want: inventory.Report{Findings: []inventory.Finding{finding(inventory.Missing, "1", "ada")}},
		},
		"somebody it was not told of yet": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, "")},
		},
		"somebody who left": {
			known: enforced(), standings: []store.Standing{person("ada", "1", false, deactivated), person("bob", "2", false, activated)},
		},
		"somebody who was listed without a tenant": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, activated), person("bob", "2", true, activated)}, accounts: []inventory.Account{{ID: "1"}},
			want: inventory.Report{
				Findings: []inventory.Finding{finding(inventory.Missing, "2", "bob")},
				Unknown:  []inventory.Unknown{{Reason: "application.inventory.accounts gives no tenant for the row", Count: 1}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func TestMembershipsThatDifferAreFound(t *testing.T) {
	t.Parallel()
	ada := person("ada", "1", true, activated, granted("g1", true))
	for name, c := range map[string]comparison{
		"none": {
			known: enforced(), standings: []store.Standing{ada}, accounts: []inventory.Account{row("1")},
			memberships: []inventory.Membership{{User: "1", Group: "g1"}, {User: "1", Group: ""}}, want: inventory.Report{Memberships: 1},
		},
		"one is not granted": {
			known: enforced(), standings: []store.Standing{ada}, accounts: []inventory.Account{row("1")},
			memberships: []inventory.Membership{{User: "1", Group: "g1"}, {User: "1", Group: "g2"}},
			want:        inventory.Report{Memberships: 2, Findings: []inventory.Finding{membership(inventory.ExtraMembership, "1", "ada", "g2")}},
		},
		"one is left of somebody who left": {
			known: enforced(), standings: []store.Standing{person("ada", "1", false, deactivated)}, memberships: []inventory.Membership{{User: "1", Group: "g1"}},
			want: inventory.Report{Memberships: 1, Findings: []inventory.Finding{membership(inventory.ExtraMembership, "1", "ada", "g1")}},
		},
		"one is nobody's": {
			known: enforced(), memberships: []inventory.Membership{{User: "9", Group: "g1"}},
			want: inventory.Report{Memberships: 1, Findings: []inventory.Finding{membership(inventory.ExtraMembership, "9", "", "g1")}},
		},
		"one that was told is not there": {
			known: enforced(), standings: []store.Standing{ada}, accounts: []inventory.Account{row("1")},
			want: inventory.Report{Findings: []inventory.Finding{membership(inventory.MissingMembership, "1", "ada", "g1")}},
		},
		"one that was not told yet is not there": {
			known: enforced(), standings: []store.Standing{person("ada", "1", true, activated, granted("g1", false))}, accounts: []inventory.Account{row("1")},
		},
		"memberships are not listed at all": {
			known: with(enforced(), func(k *inventory.Known) { k.Memberships = false }), standings: []store.Standing{ada}, accounts: []inventory.Account{row("1")},
		},
		"two directories have a group of one id, and the row says which": {
			known: with(enforced(), func(k *inventory.Known) {
				k.Directories, k.Groups = append(k.Directories, live(other, store.Enforce, "t1")), append(k.Groups, group(other, "g1"))
			}),
			standings: []store.Standing{ada}, accounts: []inventory.Account{row("1")},
			memberships: []inventory.Membership{{User: "1", Group: "g1", Directory: "d1"}, {User: "1", Group: "g1", Directory: "d2"}},
			want:        inventory.Report{Memberships: 2, Findings: []inventory.Finding{membership(inventory.ExtraMembership, "1", "ada", "g1")}},
		},
		"a group is known by its grants alone": {
			known: with(enforced(), func(k *inventory.Known) { k.Groups = nil }), standings: []store.Standing{ada}, accounts: []inventory.Account{row("1")},
			memberships: []inventory.Membership{{User: "1", Group: "g1"}, {User: "8", Group: "g1"}},
			want:        inventory.Report{Memberships: 2, Findings: []inventory.Finding{membership(inventory.ExtraMembership, "8", "", "g1")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func TestFindingsComeInTheSameOrderWhateverTheRowsDo(t *testing.T) {
	t.Parallel()
	c := comparison{
		known: enforced(),
		standings: []store.Standing{
			person("ada", "1", false, deactivated), person("bob", "2", true, activated, granted("g1", true), granted("g2", true)), person("cyd", "3", true, activated),
		},
		accounts:    []inventory.Account{row("9"), row("2"), row("1"), row("7")},
		memberships: []inventory.Membership{{User: "9", Group: "g2"}, {User: "1", Group: "g1"}},
		want: inventory.Report{Memberships: 2, Findings: []inventory.Finding{
			finding(inventory.Reactivated, "1", "ada"), finding(inventory.Orphan, "7", ""), finding(inventory.Orphan, "9", ""),
			membership(inventory.ExtraMembership, "1", "ada", "g1"), membership(inventory.ExtraMembership, "9", "", "g2"), finding(inventory.Missing, "3", "cyd"),
			membership(inventory.MissingMembership, "2", "bob", "g1"), membership(inventory.MissingMembership, "2", "bob", "g2"),
		}},
	}
	for range 20 {
		c.check(t)
	}
}

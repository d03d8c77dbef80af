package simulator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Expectation is what must be true once all deliveries so far were folded.
type Expectation struct {
	Source   string
	Accounts map[directory.ID]Account // everybody ever, by account key
	Groups   map[directory.ID]Group   // all there ever were
	Ended    []directory.Scope        // directories that were deleted; what was in them stands as it was
}

// Account is what must be true of a person.
type Account struct {
	Name   string
	Email  string
	Active bool
	Groups map[string]string // id → name; of an account that is not active, none
}

// Group is what must be true of a group.
type Group struct {
	Name string
	Live bool
}

// Expected returns what must be true by now. It does not change with the directory afterwards.
func (d *Directory) Expected() Expectation {
	e := Expectation{Source: d.config.Source, Accounts: map[directory.ID]Account{}, Groups: map[directory.ID]Group{}}
	for _, c := range d.all {
		scope := directory.Scope{Source: d.config.Source, Directory: c.id}
		for _, g := range c.groups {
			e.Groups[directory.ID{Scope: scope, ID: g.id}] = Group{g.name, g.live}
		}
		for _, p := range c.people {
			e.Accounts[directory.ID{Scope: scope, ID: p.key()}] = p.account()
		}
	}
	return e
}

func (p *person) key() string { return accountKey(p.idp) }

// accountKey is the idp_id, which everybody has here, marked where it could be taken for another kind.
func accountKey(idp string) string {
	if strings.HasPrefix(idp, "id:") {
		return "idp:" + idp
	}
	return idp
}

func (p *person) account() Account {
	a := Account{Name: p.name(), Email: p.email, Active: p.state == active, Groups: map[string]string{}}
	if a.Active {
		for _, g := range p.groups {
			a.Groups[g.id] = g.name
		}
	}
	return a
}

// Active returns how many accounts must be active.
func (e Expectation) Active() int {
	n := 0
	for _, a := range e.Accounts {
		if a.Active {
			n++
		}
	}
	return n
}

// Diff compares with a store's dump, all of whose expansions are finished, and returns what differs, a line each,
// sorted; nothing when all is as it must be. Other sources do not count.
func (e Expectation) Diff(dump directory.Delta) []string {
	got, names := map[directory.ID]Account{}, map[directory.ID]string{}
	lines := e.diffGroups(dump.Groups)
	for _, g := range dump.Groups {
		names[g.ID] = g.Name
	}
	for _, a := range dump.Accounts {
		got[a.ID] = Account{Name: a.Name, Email: a.Email, Active: a.Active, Groups: map[string]string{}}
	}
	for _, g := range dump.Granted {
		account, ok := got[directory.ID{Scope: g.Scope, ID: g.Account}]
		if !ok {
			lines = append(lines, fmt.Sprintf("%s/%s: granted %s without an account", g.Directory, g.Account, g.Group))
			continue
		}
		account.Groups[g.Group] = names[directory.ID{Scope: g.Scope, ID: g.Group}]
	}
	lines = append(lines, e.diffAccounts(got)...)
	slices.Sort(lines)
	return lines
}

// DiffRows does the same with a store's accounts, all of them, as its views say them.
func (e Expectation) DiffRows(rows []store.AccountRow) []string {
	got := map[directory.ID]Account{}
	for _, r := range rows {
		a := Account{Name: r.Name, Email: r.Email, Active: r.EffectivelyActive, Groups: map[string]string{}}
		for _, g := range r.Groups {
			a.Groups[g.ID] = g.Name
		}
		got[r.ID] = a
	}
	lines := e.diffAccounts(got)
	slices.Sort(lines)
	return lines
}

func (e Expectation) diffGroups(groups []directory.Group) (lines []string) {
	got := map[directory.ID]Group{}
	for _, g := range groups {
		got[g.ID] = Group{g.Name, !g.Removed}
		if _, known := e.Groups[g.ID]; !known && g.Source == e.Source {
			lines = append(lines, fmt.Sprintf("%s/%s (%s): a group in the database, never in the directory", g.Directory, g.ID.ID, g.Name))
		}
	}
	for id, want := range e.Groups {
		who := fmt.Sprintf("%s/%s (%s)", id.Directory, id.ID, want.Name)
		switch g, ok := got[id]; {
		case !ok:
			lines = append(lines, who+": a group in the directory, not in the database")
		case g.Live != want.Live:
			lines = append(lines, fmt.Sprintf("%s: the group is %s in the directory, %s in the database", who, word(want.Live, "live", "deleted"), word(g.Live, "live", "deleted")))
		case g.Name != want.Name:
			lines = append(lines, fmt.Sprintf("%s: the group is %q in the database", who, g.Name))
		}
	}
	return lines
}

func (e Expectation) diffAccounts(got map[directory.ID]Account) (lines []string) {
	for id, a := range got {
		if _, known := e.Accounts[id]; !known && id.Source == e.Source {
			lines = append(lines, fmt.Sprintf("%s/%s (%s): in the database, never in the directory", id.Directory, id.ID, a.Email))
		}
	}
	for id, want := range e.Accounts {
		who := fmt.Sprintf("%s/%s (%s)", id.Directory, id.ID, want.Name)
		if have, ok := got[id]; ok {
			lines = append(lines, want.diff(who, have)...)
		} else {
			lines = append(lines, who+": in the directory, not in the database")
		}
	}
	return lines
}

func (a Account) diff(who string, got Account) (lines []string) {
	if got.Active != a.Active {
		lines = append(lines, fmt.Sprintf("%s: %s in the directory, %s in the database", who, word(a.Active, "active", "not active"), word(got.Active, "active", "not active")))
	}
	if got.Email != a.Email || got.Name != a.Name {
		lines = append(lines, fmt.Sprintf("%s: %s <%s> in the directory, %s <%s> in the database", who, a.Name, a.Email, got.Name, got.Email))
	}
	for id, name := range a.Groups {
		switch had, ok := got.Groups[id]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s: in %s in the directory, not in the database", who, name))
		case had != name:
			lines = append(lines, fmt.Sprintf("%s: in %s in the directory, it is called %q in the database", who, name, had))
		}
	}
	for id, name := range got.Groups {
		if _, ok := a.Groups[id]; !ok {
			lines = append(lines, fmt.Sprintf("%s: in %s (%s) in the database, not in the directory", who, name, id))
		}
	}
	return lines
}

func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

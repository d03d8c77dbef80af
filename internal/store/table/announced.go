package table

import (
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Telling gathers what was announced of a directory, and what an application was told of it.
type Telling struct {
	scope           directory.Scope
	Announced, Told directory.Announced
	roles           map[string][]string // told, by account
	faces           map[string]*directory.Face
}

// Question is a statement about a directory, by source and directory, and what to do with each of its rows.
type Question struct {
	Text string
	Row  func(Scanner) error
}

// NewTelling begins one.
func NewTelling(scope directory.Scope) *Telling {
	return &Telling{scope: scope, roles: map[string][]string{}, faces: map[string]*directory.Face{}}
}

// What an application may know: what took effect by either way, or may have done so in part before it was laid aside. And what
// it was ever given, as far as anybody knows.
const (
	ToldByEither = `(bound_result = '` + store.ResultBound + `' OR posted_result IN ('` + store.ResultBound + `', '` + store.ResultDead + `') OR bound_result = '` + store.ResultObserved + `' AND bound_attempts > 0)`
	EverGiven    = `kind IN ('grant.added', 'role.added', 'group.created', 'group.updated')`
)

// Questions are what has to be asked, all at one moment; which chooses the changes that were told.
func (t *Telling) Questions(d Dialect, which string) []Question {
	const of = ` WHERE source = %1 AND directory = %2`
	text := strings.NewReplacer("%.", d.Schema, "%1", d.Mark(1), "%2", d.Mark(2)).Replace
	return []Question{
		{text(`SELECT ` + DirectoryColumns + ` FROM %.directories` + of + ` AND EXISTS (SELECT 1 FROM %.changes c WHERE c.source = %1 AND c.directory = %2
			AND c.account_key = '' AND c.kind IN ('directory.activated', 'directory.ended'))`), func(row Scanner) error {
			r, err := ScanDirectory(row)
			t.Announced.Directory = &r
			return err
		}},
		{text(`SELECT ` + GroupColumns + ` FROM %.groups` + of + ` AND version <> '' AND NOT removed ORDER BY group_id`), into(&t.Announced.Groups, ScanGroup)},
		{text(`SELECT ` + AccountColumns + ` FROM %.accounts` + of + ` ORDER BY account_key`), into(&t.Announced.Accounts, ScanAccount)},
		{text(`SELECT ` + GrantColumns + ` FROM %.grants` + of + ` ORDER BY account_key, group_id`), into(&t.Announced.Grants, ScanGrant)},
		// An account, a grant, a role, a group and the directory itself differ in which of the three they name.
		{text(`SELECT ` + Prefix("c", "seq, at, "+ChangeColumns) + ` FROM (SELECT max(seq) AS seq FROM %.changes` + of + ` AND ` + which + `
			GROUP BY account_key, group_id, role) l JOIN %.changes c ON c.seq = l.seq ORDER BY c.account_key, c.group_id, c.role`), func(row Scanner) error {
			c, err := ScanChange(row)
			if err == nil {
				t.told(c.Change)
			}
			return err
		}},
	}
}

func into[T any](list *[]T, scan func(Scanner) (T, error)) func(Scanner) error {
	return func(row Scanner) error {
		v, err := scan(row)
		*list = append(*list, v)
		return err
	}
}

// told takes the last bound change of something.
func (t *Telling) told(c directory.Change) {
	id := directory.ID{Scope: c.Scope, ID: c.Account}
	face := c.After
	if face == nil {
		face = c.Before
	}
	if face == nil {
		face = &directory.Face{}
	}
	switch c.Kind {
	case directory.AccountActivated, directory.AccountUpdated, directory.AccountDeactivated:
		t.Told.Accounts = append(t.Told.Accounts, accountOf(id, face, c.Kind != directory.AccountDeactivated))
	case directory.GrantAdded:
		t.Told.Grants = append(t.Told.Grants, directory.Grant{GrantID: directory.GrantID{Scope: c.Scope, Account: c.Account, Group: c.Group}})
	case directory.RoleAdded:
		t.roles[c.Account] = append(t.roles[c.Account], c.Role)
		t.faces[c.Account] = face
	case directory.GroupCreated, directory.GroupUpdated:
		t.Told.Groups = append(t.Told.Groups, directory.Group{
			ID: directory.ID{Scope: c.Scope, ID: c.Group}, Organization: face.Organization, IDPID: face.IDPID, Name: face.GroupName,
		})
	case directory.DirectoryActivated, directory.DirectoryEnded:
		t.Told.Directory = &directory.Register{
			Scope: c.Scope, Organization: face.Organization, Connection: directory.Connection{Name: face.Name, State: face.State}, Ended: c.Kind == directory.DirectoryEnded,
		}
	default: // what was taken away is not there
	}
}

func accountOf(id directory.ID, f *directory.Face, active bool) directory.Account {
	return directory.Account{ID: id, User: f.User, Organization: f.Organization, IDPID: f.IDPID, State: f.State, Profile: f.Profile, Active: active}
}

// Finish puts the roles that were told to the accounts. One of which nothing else was told is active, as far as anybody knows.
func (t *Telling) Finish() (announced, told directory.Announced) {
	for i := range t.Told.Accounts {
		key := t.Told.Accounts[i].ID.ID
		t.Told.Accounts[i].Roles = t.roles[key]
		delete(t.roles, key)
	}
	for key, roles := range t.roles {
		a := accountOf(directory.ID{Scope: t.scope, ID: key}, t.faces[key], true)
		a.Roles = roles
		t.Told.Accounts = append(t.Told.Accounts, a)
	}
	slices.SortFunc(t.Told.Accounts, func(a, b directory.Account) int { return strings.Compare(a.ID.ID, b.ID.ID) })
	return t.Announced, t.Told
}

package directory

import "time"

// ChangeKind says what a change is.
type ChangeKind string

// The kinds of changes.
const (
	AccountActivated   ChangeKind = "account.activated"
	AccountUpdated     ChangeKind = "account.updated"
	AccountDeactivated ChangeKind = "account.deactivated"
	GrantAdded         ChangeKind = "grant.added"
	GrantRevoked       ChangeKind = "grant.revoked"
	GroupCreated       ChangeKind = "group.created"
	GroupUpdated       ChangeKind = "group.updated"
	GroupEnded         ChangeKind = "group.ended"
	RoleAdded          ChangeKind = "role.added"
	RoleRevoked        ChangeKind = "role.revoked"
	DirectoryActivated ChangeKind = "directory.activated"
	DirectoryEnded     ChangeKind = "directory.ended"
)

// Removes reports whether somebody lost something by the change.
func (k ChangeKind) Removes() bool {
	return k == AccountDeactivated || k == GrantRevoked || k == RoleRevoked
}

// Change is one transition of an account, grant, role, group or directory, with the event that caused it.
type Change struct {
	Scope
	Kind     ChangeKind
	Account  string // the account key; empty for groups and directories
	Group    string
	Role     string    // the application's; of role.added and role.revoked
	Event    string    // the id of the event that caused it
	Occurred time.Time // of that event
	Before   *Face     // what was; nil when there was nothing
	After    *Face     // what is; nil when there is nothing
}

// Face is how an account, grant, role, group or directory looks from outside, as JSON in the database.
type Face struct {
	User         string `json:"user,omitempty"`
	IDPID        string `json:"idp_id,omitempty"`
	Organization string `json:"organization,omitempty"`
	State        string `json:"state,omitempty"`
	Active       bool   `json:"active"`
	GroupName    string `json:"group_name,omitempty"`
	Profile
}

// Expansion is a change of a group or directory that touches more accounts than one transaction should: its members
// are evaluated again in chunks. Group is empty for a whole directory.
type Expansion struct {
	Scope
	Group    string
	Event    string
	Occurred time.Time
}

func (a *Account) face() *Face {
	return &Face{User: a.User, IDPID: a.IDPID, Organization: a.Organization, State: a.State, Active: a.Active, Profile: a.Profile}
}

func (g *Group) face() *Face {
	return &Face{IDPID: g.IDPID, Organization: g.Organization, Active: !g.Removed, GroupName: g.Name}
}

func (r *Register) face() *Face {
	return &Face{Organization: r.Organization, State: r.State, Active: !r.Ended, Profile: Profile{Name: r.Name}}
}

package directory

import (
	"maps"
	"strings"
	"time"
)

// Scope is one directory of one source. Everything in this package happens within a scope.
type Scope struct{ Source, Directory string }

// ID names an object within its scope: a user, a group, or an account by its key.
type ID struct {
	Scope
	ID string
}

// EdgeID names one membership edge.
type EdgeID struct {
	Scope
	Group, User string
}

// GrantID names what an account has by a group.
type GrantID struct {
	Scope
	Account, Group string
}

// Register is a directory's last word on itself.
type Register struct {
	Scope
	Organization string
	Connection
	Version Version // the greatest of its events
	Removed bool    // the event of Version ended it
	Floor   Version // the greatest version that ended it; kept when it comes back

	Decision        Decision
	DecisionVersion Version

	// Ended and EndFloor are what Removed and Floor come to by policy and decision; the fold keeps them.
	Ended    bool
	EndFloor Version
}

// Held reports that the directory was ended and still counts as live until an operator decides.
func (r *Register) Held() bool {
	return r.Removed && !r.Ended && (r.Decision == DecisionNone || r.DecisionVersion <= r.Floor)
}

// decide takes a decision as the last one. One that takes the one before it back leaves none, but its version stays:
// what it took back, arriving later, does not count again.
func (r *Register) decide(d Decision, v Version) {
	if d == DecisionRelease {
		d = DecisionNone
	}
	r.Decision, r.DecisionVersion = d, v
}

// Decided is the register as the decision would leave it, made now.
func (r Register) Decided(d, policy Decision) Register {
	r.decide(d, max(r.Floor, r.DecisionVersion)+"~")
	r.settle(policy)
	return r
}

// settle works out what the register's end means. A decision counts for the ends before it; deprovision counts for later
// ones, too, until somebody decides otherwise: were they held, the end would give back what an earlier one had taken.
func (r *Register) settle(policy Decision) {
	verdict := policy
	if r.Decision != DecisionNone && (r.DecisionVersion > r.Floor || r.Decision == DecisionDeprovision) {
		verdict = r.Decision
	}
	r.Ended, r.EndFloor = false, ""
	if verdict == DecisionDeprovision {
		r.Ended, r.EndFloor = r.Removed, r.Floor
	}
}

// User is the last word on one directory user.
//
// It is two registers in one. Version keeps the state and the profile. Identity keeps which person it is: the
// greatest event that is no removal, that names an idp_id, in this order, so that a removal that says less, or
// something else, never moves a user to another account.
type User struct {
	ID
	Organization string
	Version      Version
	Active       bool
	State        string
	Profile

	Identity string // compared bytewise, like a Version
	IDPID    string
	Created  time.Time // of the object at the provider, UTC, µs; the id's own time when the payload has none
}

// AccountKey is the key of the account that this user bears: the idp_id, or "id:" and the provider's id.
func (u *User) AccountKey() string { return accountKey(u.IDPID, u.ID.ID) }

// accountKey maps ids to keys without two ever meeting: an idp_id that looks like one of the prefixes gets "idp:".
func accountKey(idpID, id string) string {
	switch {
	case idpID == "":
		return "id:" + id
	case strings.HasPrefix(idpID, "id:"), strings.HasPrefix(idpID, "idp:"):
		return "idp:" + idpID
	default:
		return idpID
	}
}

func identity(e *Event) string {
	rank := "1"
	if e.Removes {
		rank = "0"
	}
	named := "0"
	if e.User.IDPID != "" {
		named = "1"
	}
	return rank + named + string(e.Version())
}

// seniority orders the users under one account key: the greatest governs.
type seniority struct {
	created time.Time
	user    string
}

func (u *User) seniority() seniority { return seniority{u.Created, u.ID.ID} }

func (s seniority) less(o seniority) bool {
	if !s.created.Equal(o.created) {
		return s.created.Before(o.created)
	}
	return s.user < o.user
}

// Group is the last word on one directory group. A group known only from memberships has an empty Version, and
// counts as live.
type Group struct {
	ID
	Organization string
	IDPID        string
	Version      Version
	Removed      bool
	Floor        Version // the greatest removal: memberships below it are gone
	Name         string  // as its own events say, or, while none did, others that mention it
	NameVersion  Version // of the event that said the name, or hearsay of the one that mentioned it
}

// hearsay is the version of what an event mentions of something that it does not assert. It is less than any event's own.
func hearsay(v Version) Version { return "-" + v }

// title is the name that the group's own events give it, or "". Who may rename a group may give its roles; what a
// membership or a removal mentions gives nothing.
func (g *Group) title() string {
	if strings.HasPrefix(string(g.NameVersion), "-") {
		return ""
	}
	return g.Name
}

func (g *Group) live() bool { return g.Version != "" && !g.Removed }

// Edge is the last word on one membership.
type Edge struct {
	EdgeID
	Version Version
	Present bool
}

// Account is a person or non-human identity as the application should see it.
//
// It is a function of the users that bear its key, of its directory, and of the removals that ever named its key.
type Account struct {
	ID                  // ID.ID is the account key
	User         string // the governing user's id; empty when no user bears the key any more
	Organization string
	IDPID        string
	State        string
	Profile
	Active  bool
	Version Version  // the governing user's
	Roles   []string // the application's roles that changes have announced, sorted; nil when there are none

	// Tomb is the most senior user that a removal named under this key. No lesser user can bring the account back.
	TombUser    string
	TombCreated time.Time
}

func (a *Account) tomb() seniority { return seniority{a.TombCreated, a.TombUser} }

// same reports whether the two would be stored alike, but for their roles, which are announced apart.
func (a *Account) same(b *Account) bool {
	return a.sameFace(b) && a.Active == b.Active && a.Version == b.Version && a.TombUser == b.TombUser && a.TombCreated.Equal(b.TombCreated)
}

// sameFace reports whether the two look alike from outside.
func (a *Account) sameFace(b *Account) bool {
	return a.User == b.User && a.Organization == b.Organization && a.IDPID == b.IDPID && a.State == b.State && a.Profile.equal(b.Profile)
}

func (p Profile) equal(o Profile) bool {
	return p.Email == o.Email && p.FirstName == o.FirstName && p.LastName == o.LastName && p.Name == o.Name && maps.Equal(p.Attributes, o.Attributes)
}

// Grant is an effective membership that a change has announced.
type Grant struct {
	GrantID
	Roles []string // that the group gave when this was announced last, sorted; nil when there are none
}

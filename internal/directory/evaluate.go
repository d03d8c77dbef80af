package directory

import (
	"maps"
	"slices"
	"time"
)

// cause is the event that a change goes back to.
type cause struct {
	Scope
	event    string
	occurred time.Time
}

func causeOf(e *Event) cause { return cause{e.Scope(), e.ID, e.Occurred.UTC()} }

func (s *State) change(c cause, change Change) {
	change.Scope, change.Event, change.Occurred = c.Scope, c.event, c.occurred
	s.dirty.changes = append(s.dirty.changes, change)
}

func (s *State) expand(c cause, group string) {
	s.dirty.expansions = append(s.dirty.expansions, Expansion{Scope: c.Scope, Group: group, Event: c.event, Occurred: c.occurred})
}

// EvaluateAccounts continues the expansion of a directory: it compares what was announced of these accounts, and of
// their grants, with what the registers now say. The state must hold all that a user's own event would need.
func (s *State) EvaluateAccounts(x Expansion, keys []string) {
	for _, key := range keys {
		s.evaluateAccount(x.cause(), ID{x.Scope, key}, seniority{})
	}
}

// EvaluateMembers continues the expansion of a group: it compares the grants that these users have by it with what the
// registers now say. The state must hold all that a membership event of each would need.
func (s *State) EvaluateMembers(x Expansion, users []string) {
	for _, user := range users {
		if u := s.users[ID{x.Scope, user}]; u != nil {
			s.evaluateMember(x.cause(), ID{x.Scope, u.AccountKey()}, x.Group)
		}
	}
}

func (x Expansion) cause() cause { return cause{x.Scope, x.Event, x.Occurred} }

// evaluateAccount compares what was announced under a key with what the registers say, and announces the difference:
// first of the account, then of its grants, then of its roles. A removal that names the key leaves a tomb: from then on no lesser user
// brings the account back, not even when the removed one moves to another key. It reports whether the account moved.
func (s *State) evaluateAccount(c cause, key ID, tomb seniority) bool {
	announced := s.accounts[key]
	next := Account{ID: key}
	if announced != nil {
		next.TombUser, next.TombCreated, next.Roles = announced.TombUser, announced.TombCreated, announced.Roles
	}
	if next.tomb().less(tomb) {
		next.TombUser, next.TombCreated = tomb.user, tomb.created
	}
	if u := s.governing(key); u != nil {
		next.User, next.Organization, next.IDPID = u.ID.ID, u.Organization, u.IDPID
		next.State, next.Profile, next.Version = u.State, u.Profile, u.Version
		next.Active = s.entitled(u, &next)
	}
	moved := announced == nil || !announced.same(&next)
	if moved {
		s.accounts[key] = &next
		s.dirty.accounts[key] = true
		s.announceAccount(c, announced, &next)
	}
	for _, group := range s.groupsOf(&next) {
		s.evaluateGrant(c, key, group)
	}
	s.evaluateRoles(c, key)
	return moved
}

// groupsOf returns the groups that the account has been granted, or may have to be.
func (s *State) groupsOf(a *Account) []string {
	groups := slices.Collect(maps.Keys(s.granted[a.ID]))
	if a.Active {
		groups = slices.AppendSeq(groups, maps.Keys(s.edgesOf[ID{a.Scope, a.User}]))
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

func (s *State) announceAccount(c cause, before, after *Account) {
	change := Change{Account: after.ID.ID, After: after.face()}
	if before != nil {
		change.Before = before.face()
	}
	was := before != nil && before.Active
	switch {
	case after.Active && !was:
		change.Kind = AccountActivated
	case !after.Active && (was || before == nil):
		change.Kind = AccountDeactivated
	case after.Active && !before.sameFace(after):
		change.Kind = AccountUpdated
	default:
		return
	}
	s.change(c, change)
}

// evaluateMember evaluates what an account has by one group.
func (s *State) evaluateMember(c cause, key ID, group string) {
	s.evaluateGrant(c, key, group)
	s.evaluateRoles(c, key)
}

// evaluateGrant compares whether an account was granted a group with whether the registers say so. The roles that the
// group gives are kept with the grant: an event that concerns another group of the account does not load this one.
func (s *State) evaluateGrant(c cause, key ID, group string) {
	id := GrantID{key.Scope, key.ID, group}
	account := s.accounts[key]
	if account == nil {
		return
	}
	grant, next := s.grants[id], Grant{GrantID: id}
	should := s.effective(account, group)
	if should {
		next.Roles = s.ofGroup(s.group(ID{key.Scope, group}))
	}
	switch {
	case should && grant == nil:
		s.PutGrant(next)
		s.dirty.grants[id] = true
		s.change(c, Change{Kind: GrantAdded, Account: key.ID, Group: group, After: s.grantFace(account, group)})
	case should && !slices.Equal(grant.Roles, next.Roles):
		s.PutGrant(next)
		s.dirty.grants[id] = true
	case grant != nil && !should:
		delete(s.grants, id)
		delete(s.granted[key], group)
		s.dirty.grants[id] = true
		s.change(c, Change{Kind: GrantRevoked, Account: key.ID, Group: group, Before: s.grantFace(account, group)})
	}
}

func (s *State) grantFace(a *Account, group string) *Face {
	face := a.face()
	face.GroupName = s.group(ID{a.Scope, group}).Name
	return face
}

// governing returns the most senior user that bears the key, or nil: only its state and its edges count.
func (s *State) governing(key ID) *User {
	var first *User
	for id := range s.bearers[key] {
		if u := s.users[ID{key.Scope, id}]; first == nil || first.seniority().less(u.seniority()) {
			first = u
		}
	}
	return first
}

// entitled reports whether the governing user makes the account active. Nobody's way back is barred by a tomb of their
// own, which may be of another age when the removal said less than the object does.
func (s *State) entitled(u *User, a *Account) bool {
	if !u.Active || a.TombUser != u.ID.ID && u.seniority().less(a.tomb()) {
		return false
	}
	r := s.directories[u.Scope]
	return r == nil || !r.Ended && u.Version > r.EndFloor
}

// effective reports whether an announced account has a group: its own governing user's edge is there and newer than
// the ends of its group and directory, and all of them live. An absent group or directory counts as live.
func (s *State) effective(a *Account, group string) bool {
	if !a.Active {
		return false
	}
	u := s.governing(a.ID)
	if u == nil || !s.entitled(u, a) {
		return false
	}
	edge := s.edges[EdgeID{a.Scope, group, u.ID.ID}]
	if edge == nil || !edge.Present {
		return false
	}
	if r := s.directories[a.Scope]; r != nil && edge.Version <= r.EndFloor {
		return false
	}
	g := s.group(ID{a.Scope, group})
	return !g.Removed && edge.Version > g.Floor
}

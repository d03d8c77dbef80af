package directory

import (
	"slices"
	"strings"
	"time"
)

// Fold takes the events into the state in the order of their versions and returns, for each of them, in the order
// given, whether it won: true when it moved a register, false when something greater had been said already.
//
// The state must hold all that [NeedOf] names for these events. Folding an event again moves nothing. The events must
// be valid; see Event.Validate.
func (s *State) Fold(events []Event) []bool {
	order := make([]int, len(events))
	versions := make([]Version, len(events))
	for i := range events {
		order[i], versions[i] = i, events[i].Version()
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(string(versions[a]), string(versions[b])) })
	won := make([]bool, len(events))
	for _, i := range order {
		won[i] = s.fold(&events[i], versions[i])
	}
	return won
}

func (s *State) fold(e *Event, v Version) bool {
	switch e.Subject {
	case SubjectDirectory:
		return s.foldDirectory(e, v)
	case SubjectDecision:
		return s.foldDecision(e, v)
	case SubjectUser:
		return s.foldUser(e, v)
	case SubjectGroup:
		return s.foldGroup(e, v)
	case SubjectMembership:
		return s.foldMembership(e, v)
	default:
		return false
	}
}

func (s *State) foldDirectory(e *Event, v Version) bool {
	return s.moveDirectory(e, func(r *Register) bool {
		moved := false
		if e.Removes && v > r.Floor {
			r.Floor, moved = v, true
		}
		if v > r.Version {
			r.Version, r.Removed, r.Connection, r.Organization, moved = v, e.Removes, *e.Connection, e.Organization, true
		}
		return moved
	})
}

func (s *State) foldDecision(e *Event, v Version) bool {
	return s.moveDirectory(e, func(r *Register) bool {
		if v <= r.DecisionVersion {
			return false
		}
		r.decide(e.Decision, v)
		return true
	})
}

// moveDirectory changes the directory's register, says what that means for the outside, and asks for its accounts to
// be evaluated again when its end, or the end of its end, reaches them.
func (s *State) moveDirectory(e *Event, move func(*Register) bool) bool {
	r := s.directories[e.Scope()]
	if r == nil {
		r = &Register{Scope: e.Scope()}
		r.settle(s.policy(e.Source))
	}
	before := *r
	if !move(r) {
		return false
	}
	r.settle(s.policy(e.Source))
	s.directories[r.Scope] = r
	s.dirty.directories[r.Scope] = true

	came := !r.Removed && (before.Version == "" || before.Removed)
	switch {
	case r.Ended && !before.Ended:
		s.change(causeOf(e), Change{Kind: DirectoryEnded, Before: before.face(), After: r.face()})
	case r.Version != "" && !r.Ended && (before.Ended || came):
		s.change(causeOf(e), Change{Kind: DirectoryActivated, After: r.face()})
	}
	if r.Ended != before.Ended || r.EndFloor != before.EndFloor {
		s.expand(causeOf(e), "")
	}
	return true
}

func (s *State) foldGroup(e *Event, v Version) bool {
	g := s.group(ID{e.Scope(), e.Group.ID})
	before, moved := *g, false
	if e.Removes && v > g.Floor {
		g.Floor, moved = v, true
	}
	if v > g.Version {
		g.Version, g.Removed, g.IDPID, g.Organization, moved = v, e.Removes, e.Group.IDPID, e.Organization, true
	}
	named := v
	if e.Removes {
		named = hearsay(v)
	}
	moved = g.rename(e.Group.Name, named) || moved
	if !moved {
		return false
	}
	s.saveGroup(e, before, g)
	return true
}

// rename takes a name of this version; an empty one says nothing.
func (g *Group) rename(name string, v Version) bool {
	if name == "" || v <= g.NameVersion {
		return false
	}
	g.Name, g.NameVersion = name, v
	return true
}

// saveGroup keeps the group, says what that means for the outside, and asks for its members to be evaluated again when its
// end, or a change of the roles that it gives, reaches them.
func (s *State) saveGroup(e *Event, before Group, g *Group) {
	s.groups[g.ID] = g
	s.dirty.groups[g.ID] = true
	switch {
	case g.Removed && !before.Removed:
		s.change(causeOf(e), Change{Kind: GroupEnded, Group: g.ID.ID, Before: before.face(), After: g.face()})
	case g.live() && !before.live():
		s.change(causeOf(e), Change{Kind: GroupCreated, Group: g.ID.ID, After: g.face()})
	case g.live() && (g.Name != before.Name || g.IDPID != before.IDPID):
		s.change(causeOf(e), Change{Kind: GroupUpdated, Group: g.ID.ID, Before: before.face(), After: g.face()})
	}
	if g.Removed != before.Removed || g.Floor != before.Floor || !slices.Equal(s.ofGroup(&before), s.ofGroup(g)) {
		s.expand(causeOf(e), g.ID.ID)
	}
}

func (s *State) group(id ID) *Group {
	if g := s.groups[id]; g != nil {
		return g
	}
	return &Group{ID: id}
}

func (s *State) foldMembership(e *Event, v Version) bool {
	scope, m := e.Scope(), e.Membership
	g := s.group(ID{scope, m.Group})
	if before := *g; g.rename(m.GroupName, hearsay(v)) {
		s.saveGroup(e, before, g)
	}
	id := EdgeID{scope, m.Group, m.User}
	edge := s.edges[id]
	if edge == nil {
		edge = &Edge{EdgeID: id}
	}
	if v <= edge.Version {
		return false
	}
	edge.Version, edge.Present = v, !e.Removes
	s.PutEdge(*edge)
	s.dirty.edges[id] = true

	if u := s.users[ID{scope, m.User}]; u != nil {
		s.evaluateMember(causeOf(e), ID{scope, u.AccountKey()}, m.Group)
	}
	return true
}

// foldUser moves the user's two registers and evaluates every account key that the event, or the user before or after
// it, names.
func (s *State) foldUser(e *Event, v Version) bool {
	scope := e.Scope()
	named := ID{scope, accountKey(e.User.IDPID, e.User.ID)}
	keys := []ID{named}

	u := User{ID: ID{scope, e.User.ID}}
	if known := s.users[u.ID]; known != nil {
		u = *known
		key := ID{scope, u.AccountKey()}
		keys = append(keys, key)
		delete(s.bearers[key], u.ID.ID)
	}
	moved := u.take(e, v)
	if moved {
		s.dirty.users[u.ID] = true
	}
	s.PutUser(u)
	for _, key := range distinct(append(keys, ID{scope, u.AccountKey()}), compareIDs) {
		var tomb seniority
		if e.Removes && key == named {
			tomb = seniority{e.User.created(), e.User.ID}
		}
		moved = s.evaluateAccount(causeOf(e), key, tomb) || moved
	}
	return moved
}

// take moves either register of the user that the event is greater than.
func (u *User) take(e *Event, v Version) (moved bool) {
	if v > u.Version {
		u.Version, u.Active, u.State, u.Profile, u.Organization = v, !e.Removes, e.User.State, e.User.Profile, e.Organization
		moved = true
	}
	if i := identity(e); i > u.Identity {
		u.Identity, u.IDPID, u.Created = i, e.User.IDPID, e.User.created()
		moved = true
	}
	return moved
}

// created is the age of the object at the provider: what the payload says, else the time in its id.
func (p *Person) created() time.Time {
	if !p.Created.IsZero() {
		return p.Created.UTC().Truncate(time.Microsecond)
	}
	t, _ := ULIDTime(p.ID)
	return t
}

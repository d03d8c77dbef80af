package directory

// Announced is what was announced of one directory, as changes said it: of itself, its groups, its accounts with their
// roles, and their grants. What an application was told of it is of the same form.
type Announced struct {
	Directory *Register // nil when nothing was said of it
	Groups    []Group   // that are live, by id
	Accounts  []Account // by key; inactive ones, too
	Grants    []Grant   // by account and group
}

// Difference returns the changes that tell an application that was told of one directory what was announced of it: who and
// what is gone first, each leaver with all that was theirs. Somebody who is not active and whom it was never told of is
// deactivated too: they may be in the application from before. The caller fills Event and Occurred.
func Difference(announced, told Announced) []Change {
	d := newDifference(announced, told)
	d.leavers()
	d.revocations()
	d.ends()
	d.begins()
	d.accounts()
	d.additions()
	return d.changes
}

// differing is a difference in the making.
type differing struct {
	announced, told Announced
	is, was         map[string]*Account // by key: announced, and told
	has, had        map[GrantID]bool    // announced, and told
	groups, known   map[string]*Group   // by id: announced, and told
	left            map[string]bool     // whose deactivation is among the changes
	changes         []Change
}

func newDifference(announced, told Announced) *differing {
	return &differing{
		announced: announced, told: told,
		is: byKey(announced.Accounts), was: byKey(told.Accounts), has: byID(announced.Grants), had: byID(told.Grants),
		groups: byGroup(announced.Groups), known: byGroup(told.Groups), left: map[string]bool{},
	}
}

func byKey(accounts []Account) map[string]*Account {
	m := make(map[string]*Account, len(accounts))
	for i := range accounts {
		m[accounts[i].ID.ID] = &accounts[i]
	}
	return m
}

func byID(grants []Grant) map[GrantID]bool {
	m := make(map[GrantID]bool, len(grants))
	for _, g := range grants {
		m[g.GrantID] = true
	}
	return m
}

func byGroup(groups []Group) map[string]*Group {
	m := make(map[string]*Group, len(groups))
	for i := range groups {
		m[groups[i].ID.ID] = &groups[i]
	}
	return m
}

func (d *differing) add(scope Scope, c Change) {
	c.Scope = scope
	d.changes = append(d.changes, c)
}

// leavers says who is not active any more, or is not and may never have been known, each with their grants and roles.
func (d *differing) leavers() {
	theirs := map[string][]Grant{}
	for _, g := range d.told.Grants {
		theirs[g.Account] = append(theirs[g.Account], g)
	}
	leave := func(scope Scope, key string, before, after *Face) {
		d.left[key] = true
		d.add(scope, Change{Kind: AccountDeactivated, Account: key, Before: before, After: after})
		for _, g := range theirs[key] {
			d.revoke(g)
		}
		d.revokeRoles(key)
	}
	for _, a := range d.announced.Accounts {
		was := d.was[a.ID.ID]
		switch {
		case a.Active, was != nil && !was.Active:
		case was == nil:
			leave(a.Scope, a.ID.ID, nil, a.face())
		default:
			leave(a.Scope, a.ID.ID, was.face(), a.face())
		}
	}
	for _, was := range d.told.Accounts {
		if was.Active && d.is[was.ID.ID] == nil {
			leave(was.Scope, was.ID.ID, was.face(), nil)
		}
	}
}

// revocations says what others have lost.
func (d *differing) revocations() {
	for _, g := range d.told.Grants {
		if !d.has[g.GrantID] && !d.left[g.Account] {
			d.revoke(g)
		}
	}
	for _, was := range d.told.Accounts {
		if !d.left[was.ID.ID] {
			d.revokeRoles(was.ID.ID)
		}
	}
}

func (d *differing) revoke(g Grant) {
	d.add(g.Scope, Change{Kind: GrantRevoked, Account: g.Account, Group: g.Group, Before: d.grantFace(g.Account, g.Group)})
}

// revokeRoles says which of the roles that an account was told to have it has not.
func (d *differing) revokeRoles(key string) {
	was, is := d.was[key], d.is[key]
	if was == nil {
		return
	}
	for _, role := range difference(was.Roles, is.roles()) {
		d.add(was.Scope, Change{Kind: RoleRevoked, Account: key, Role: role, Before: d.faceOf(key)})
	}
}

// ends says which groups are gone, and whether the directory is.
func (d *differing) ends() {
	for _, g := range d.told.Groups {
		if d.groups[g.ID.ID] == nil {
			after := g
			after.Removed = true
			d.add(g.Scope, Change{Kind: GroupEnded, Group: g.ID.ID, Before: g.face(), After: after.face()})
		}
	}
	if r, was := d.announced.Directory, d.told.Directory; r != nil && r.Ended && (was == nil || !was.Ended) {
		end := Change{Kind: DirectoryEnded, After: r.face()}
		if was != nil {
			end.Before = was.face()
		}
		d.add(r.Scope, end)
	}
}

// begins says that the directory is there, and which groups are.
func (d *differing) begins() {
	if r, was := d.announced.Directory, d.told.Directory; r != nil && !r.Ended && (was == nil || was.Ended) {
		d.add(r.Scope, Change{Kind: DirectoryActivated, After: r.face()})
	}
	for _, g := range d.announced.Groups {
		switch was := d.known[g.ID.ID]; {
		case was == nil:
			d.add(g.Scope, Change{Kind: GroupCreated, Group: g.ID.ID, After: g.face()})
		case was.Name != g.Name || was.IDPID != g.IDPID:
			d.add(g.Scope, Change{Kind: GroupUpdated, Group: g.ID.ID, Before: was.face(), After: g.face()})
		}
	}
}

// accounts says who is active, and who looks different.
func (d *differing) accounts() {
	for _, a := range d.announced.Accounts {
		was := d.was[a.ID.ID]
		switch {
		case !a.Active, was != nil && was.Active && was.sameFace(&a):
		case was == nil:
			d.add(a.Scope, Change{Kind: AccountActivated, Account: a.ID.ID, After: a.face()})
		case !was.Active:
			d.add(a.Scope, Change{Kind: AccountActivated, Account: a.ID.ID, Before: was.face(), After: a.face()})
		default:
			d.add(a.Scope, Change{Kind: AccountUpdated, Account: a.ID.ID, Before: was.face(), After: a.face()})
		}
	}
}

// additions says what accounts have won: grants, then roles.
func (d *differing) additions() {
	for _, g := range d.announced.Grants {
		if !d.had[g.GrantID] {
			d.add(g.Scope, Change{Kind: GrantAdded, Account: g.Account, Group: g.Group, After: d.grantFace(g.Account, g.Group)})
		}
	}
	for _, a := range d.announced.Accounts {
		for _, role := range difference(a.roles(), d.was[a.ID.ID].roles()) {
			d.add(a.Scope, Change{Kind: RoleAdded, Account: a.ID.ID, Role: role, After: a.face()})
		}
	}
}

// faceOf is how an account looks now, or was said to look when nothing else is known.
func (d *differing) faceOf(key string) *Face {
	switch {
	case d.is[key] != nil:
		return d.is[key].face()
	case d.was[key] != nil:
		return d.was[key].face()
	default:
		return &Face{}
	}
}

func (d *differing) grantFace(key, group string) *Face {
	face := d.faceOf(key)
	switch {
	case d.groups[group] != nil:
		face.GroupName = d.groups[group].Name
	case d.known[group] != nil:
		face.GroupName = d.known[group].Name
	}
	return face
}

// roles are an account's announced roles; an absent one has none.
func (a *Account) roles() []string {
	if a == nil {
		return nil
	}
	return a.Roles
}

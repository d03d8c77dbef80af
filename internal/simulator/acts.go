package simulator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// OpenDirectory connects a new directory, which is empty, and returns its id.
func (w *World) OpenDirectory() (id string) {
	w.act(func() bool {
		id = w.open().id
		return true
	})
	return id
}

func (w *World) open() *realm {
	n := len(w.directories)
	f := founders[n%len(founders)]
	r := &realm{
		id: "directory_" + w.ids.at(w.now), organization: "org_" + w.ids.at(w.now), name: f.name, kind: f.kind, domain: f.domain, idpID: f.idpID,
		external: letters(w.random, 16), created: w.now, updated: w.now,
		people: map[string]*human{}, holders: map[string]*user{}, numbers: map[string]int{},
	}
	if round := n / len(founders); round > 0 {
		r.name, r.domain = fmt.Sprintf("%s %d", r.name, round+1), fmt.Sprintf("%d.%s", round+1, r.domain)
	}
	w.directories = append(w.directories, r)
	w.realms[r.id] = r
	w.tell(entry{kind: directoryActivated, realm: r})
	return r
}

// DeleteDirectory ends a directory. There is no word of what is in it, then or later.
func (w *World) DeleteDirectory(directoryID string) bool {
	return w.act(func() bool {
		r := w.realm(directoryID)
		if r == nil {
			return false
		}
		r.ended = true
		w.tell(entry{kind: directoryDeleted, realm: r})
		return true
	})
}

// realm returns a directory that did not end, or nil.
func (w *World) realm(id string) *realm {
	if r := w.realms[id]; r != nil && !r.ended {
		return r
	}
	return nil
}

// user returns a record that is not deleted, of a directory that did not end, or nil.
func (w *World) user(id string) *user {
	if u := w.users[id]; u != nil && !u.realm.ended && u.says.state != deleted {
		return u
	}
	return nil
}

// active returns a record of somebody who is active, or nil.
func (w *World) active(id string) *user {
	if u := w.user(id); u != nil && u.says.state == active {
		return u
	}
	return nil
}

// leaver returns the last record of somebody who is not active, or nil.
func (w *World) leaver(id string) *user {
	if u := w.users[id]; u != nil && !u.realm.ended && u.says.state != active && u.human.last() == u {
		return u
	}
	return nil
}

// team returns a group that did not end, or nil.
func (w *World) team(id string) *team {
	if t := w.teams[id]; t != nil && !t.ended && !t.realm.ended {
		return t
	}
	return nil
}

// Hire is a newcomer, put into these groups of the directory. It returns the user's id.
func (w *World) Hire(directoryID string, groupIDs ...string) (id string) {
	w.act(func() bool {
		r := w.realm(directoryID)
		if r == nil {
			return false
		}
		u := w.hire(r, w.newcomer(r), pick(w.random, firstNames), pick(w.random, lastNames), "")
		w.welcome(u, groupIDs)
		id = u.id
		return true
	})
	return id
}

// newcomer is somebody with an idp_id that nobody had.
func (w *World) newcomer(r *realm) *human {
	idp := r.idpID(w.random, len(r.people))
	for r.people[idp] != nil {
		idp = r.idpID(w.random, len(r.people))
	}
	h := &human{idp: idp}
	r.people[idp] = h
	return h
}

// hire gives a person a new record, which governs from then on, and says so. No address is one that is free.
func (w *World) hire(r *realm, h *human, first, last, email string) *user {
	u := &user{id: "directory_user_" + w.ids.at(w.now), realm: r, human: h, created: w.now}
	h.users = append(h.users, u)
	r.users = append(r.users, u)
	w.users[u.id] = u
	if email == "" {
		email = r.free(first, last)
	}
	u.says = &profile{first: first, last: last, email: email, department: pick(w.random, groupNames), state: active, updated: w.now}
	u.place = len(r.present)
	r.present = append(r.present, u)
	r.holders[u.says.email] = u
	w.tell(entry{kind: userCreated, realm: r, user: u})
	return u
}

// welcome puts somebody into groups. Entra says everything of a newcomer twice.
func (w *World) welcome(u *user, groupIDs []string) {
	for _, id := range groupIDs {
		if t := w.team(id); t != nil {
			w.join(u, t)
		}
	}
	if u.realm.kind == "azure scim v2.0" {
		w.tell(entry{kind: userUpdated, realm: u.realm, user: u, previous: changes{}})
	}
}

// free returns an address that nobody has.
func (r *realm) free(first, last string) string {
	base := asciiOf(first) + "." + asciiOf(last)
	for {
		r.numbers[base]++
		email := base + "@" + r.domain
		if n := r.numbers[base]; n > 1 {
			email = fmt.Sprintf("%s%d@%s", base, n, r.domain)
		}
		if r.holders[email] == nil {
			return email
		}
	}
}

// Leave is somebody leaving, as the provider's environment has it.
func (w *World) Leave(userID string) bool {
	if w.config.Leavers == StyleInactive {
		return w.Deactivate(userID)
	}
	return w.Delete(userID)
}

// Deactivate is somebody active who becomes inactive: dsync.user.updated. The record stays, and its memberships with it.
func (w *World) Deactivate(userID string) bool { return w.disappear(userID, inactive) }

// Suspend is somebody active who is suspended: dsync.user.updated. The record stays, and its memberships with it.
func (w *World) Suspend(userID string) bool { return w.disappear(userID, suspended) }

func (w *World) disappear(userID, state string) bool {
	return w.act(func() bool {
		u := w.active(userID)
		if u == nil {
			return false
		}
		w.end(u, state)
		w.tell(entry{kind: userUpdated, realm: u.realm, user: u, previous: changes{"state": active}})
		return true
	})
}

// Delete is the deletion of a record, whatever its state: dsync.user.deleted. There is no word of its memberships.
func (w *World) Delete(userID string) bool {
	return w.act(func() bool {
		u := w.user(userID)
		if u == nil {
			return false
		}
		w.remove(u)
		return true
	})
}

func (w *World) remove(u *user) {
	w.end(u, deleted)
	u.realm.gone++
	for _, t := range slices.Clone(u.teams) {
		u.quit(t)
	}
	w.tell(entry{kind: userDeleted, realm: u.realm, user: u})
}

// end makes a record not active, and its address free for others.
func (w *World) end(u *user, state string) {
	if u.says.state == active {
		u.before = u.says
		delete(u.realm.holders, u.says.email)
		u.transfer(&u.realm.present, &u.realm.away)
	}
	u.change(w, func(p *profile) { p.state = state })
}

// change replaces what a record says.
func (u *user) change(w *World, how func(*profile)) {
	says := *u.says
	how(&says)
	says.updated = w.now
	u.says = &says
}

// transfer moves a record between the lists of who is present and who is away.
func (u *user) transfer(from, to *[]*user) {
	last := len(*from) - 1
	(*from)[u.place] = (*from)[last]
	(*from)[u.place].place = u.place
	*from = (*from)[:last]
	u.place = len(*to)
	*to = append(*to, u)
}

// Return is somebody coming back under the same record, which was suspended or made inactive, into the groups that were never taken away.
func (w *World) Return(userID string) bool {
	return w.act(func() bool {
		u := w.leaver(userID)
		if u == nil || u.says.state == deleted {
			return false
		}
		previous, email := changes{"state": u.says.state}, u.says.email
		if u.realm.holders[email] != nil {
			previous["email"], email = email, u.realm.free(u.says.first, u.says.last)
		}
		u.change(w, func(p *profile) { p.state, p.email = active, email })
		u.realm.holders[email] = u
		u.transfer(&u.realm.away, &u.realm.present)
		w.tell(entry{kind: userUpdated, realm: u.realm, user: u, previous: previous})
		return true
	})
}

// Rehire is somebody who left coming back under a new record with the old idp_id, in these groups and no others. A record that was
// left behind inactive is deleted then. It returns the new user's id.
func (w *World) Rehire(userID string, groupIDs ...string) (id string) {
	w.act(func() bool {
		old := w.leaver(userID)
		if old == nil {
			return false
		}
		r, email := old.realm, old.says.email
		if r.holders[email] != nil {
			email = ""
		}
		last := len(r.away) - 1 // old is no longer the last record
		r.away[old.place] = r.away[last]
		r.away[old.place].place = old.place
		r.away = r.away[:last]
		u := w.hire(r, old.human, old.says.first, old.says.last, email)
		w.welcome(u, groupIDs)
		if old.says.state != deleted {
			w.remove(old)
		}
		id = u.id
		return true
	})
	return id
}

// Recycle is a newcomer, with an idp_id that nobody had, who gets the address of somebody who left. It returns the new user's id.
func (w *World) Recycle(userID string, groupIDs ...string) (id string) {
	w.act(func() bool {
		old := w.leaver(userID)
		if old == nil || old.realm.holders[old.says.email] != nil {
			return false
		}
		u := w.hire(old.realm, w.newcomer(old.realm), old.says.first, old.says.last, old.says.email)
		w.welcome(u, groupIDs)
		id = u.id
		return true
	})
	return id
}

// Rename is somebody active who takes another last name, and so another address.
func (w *World) Rename(userID, last string) bool {
	return w.act(func() bool {
		u := w.active(userID)
		if u == nil || u.says.last == last || strings.TrimSpace(last) == "" {
			return false
		}
		previous := changes{"last_name": u.says.last, "name": u.says.name(), "email": u.says.email}
		delete(u.realm.holders, u.says.email)
		u.change(w, func(p *profile) { p.last, p.email = last, u.realm.free(p.first, last) })
		u.realm.holders[u.says.email] = u
		w.tell(entry{kind: userUpdated, realm: u.realm, user: u, previous: previous})
		return true
	})
}

// JoinGroup puts somebody into a group of the same directory, who may be away.
func (w *World) JoinGroup(userID, groupID string) bool {
	return w.act(func() bool {
		u, t := w.user(userID), w.team(groupID)
		return u != nil && t != nil && u.realm == t.realm && w.join(u, t)
	})
}

// LeaveGroup takes somebody out of a group, who may be away.
func (w *World) LeaveGroup(userID, groupID string) bool {
	return w.act(func() bool {
		u, t := w.user(userID), w.team(groupID)
		if u == nil || t == nil || !u.quit(t) {
			return false
		}
		w.tell(entry{kind: memberRemoved, realm: u.realm, user: u, profile: u.stale(), team: t})
		return true
	})
}

func (w *World) join(u *user, t *team) bool {
	i, in := u.in(t)
	if in {
		return false
	}
	u.teams = slices.Insert(u.teams, i, t)
	i, _ = t.has(u)
	t.members = slices.Insert(t.members, i, u)
	t.realm.members++
	w.tell(entry{kind: memberAdded, realm: u.realm, user: u, profile: u.stale(), team: t})
	return true
}

// stale is what membership events say of a user: of who is away, what was true before. It must count for nothing.
func (u *user) stale() *profile {
	if u.says.state != active && u.before != nil {
		return u.before
	}
	return u.says
}

// quit ends a membership without a word, or returns false.
func (u *user) quit(t *team) bool {
	i, in := u.in(t)
	if !in {
		return false
	}
	u.teams = slices.Delete(u.teams, i, i+1)
	i, _ = t.has(u)
	t.members = slices.Delete(t.members, i, i+1)
	t.realm.members--
	return true
}

func (u *user) in(t *team) (int, bool) {
	return slices.BinarySearchFunc(u.teams, t.id, func(o *team, id string) int { return strings.Compare(o.id, id) })
}

func (t *team) has(u *user) (int, bool) {
	return slices.BinarySearchFunc(t.members, u.id, func(o *user, id string) int { return strings.Compare(o.id, id) })
}

// OpenGroup makes a group, which is empty, and returns its id. No name is one of many.
func (w *World) OpenGroup(directoryID, name string) (id string) {
	w.act(func() bool {
		r := w.realm(directoryID)
		if r == nil {
			return false
		}
		id = w.openGroup(r, name).id
		return true
	})
	return id
}

func (w *World) openGroup(r *realm, name string) *team {
	if name == "" {
		n := len(r.teams)
		if name = groupNames[n%len(groupNames)]; n >= len(groupNames) {
			name = fmt.Sprintf("%s %d", name, n/len(groupNames)+1)
		}
	}
	t := &team{id: "directory_group_" + w.ids.at(w.now), idp: "0" + letters(w.random, 14), realm: r, created: w.now, says: &title{name, w.now}}
	r.teams = append(r.teams, t)
	r.live = append(r.live, t)
	w.teams[t.id] = t
	w.tell(entry{kind: groupCreated, realm: r, team: t})
	return t
}

// RenameGroup gives a group another name.
func (w *World) RenameGroup(groupID, name string) bool {
	return w.act(func() bool {
		t := w.team(groupID)
		if t == nil || t.says.name == name || strings.TrimSpace(name) == "" {
			return false
		}
		previous := changes{"name": t.says.name}
		t.says = &title{name, w.now}
		w.tell(entry{kind: groupUpdated, realm: t.realm, team: t, previous: previous})
		return true
	})
}

// DeleteGroup ends a group and all memberships of it, of those who are away too. There is no word of its members.
func (w *World) DeleteGroup(groupID string) bool {
	return w.act(func() bool {
		t := w.team(groupID)
		if t == nil {
			return false
		}
		t.ended = true
		for _, u := range slices.Clone(t.members) {
			u.quit(t)
		}
		t.realm.live = slices.DeleteFunc(t.realm.live, func(o *team) bool { return o == t })
		w.tell(entry{kind: groupDeleted, realm: t.realm, team: t})
		return true
	})
}

// FirstSync connects a directory of so many people and groups, each of them in so many groups, and announces all of it:
// the people, the groups, the memberships, as WorkOS does. It returns the directory's id.
func (w *World) FirstSync(people, groups, memberships int) (id string) {
	w.act(func() bool {
		r := w.open()
		id = r.id
		for range people {
			w.pace()
			w.hire(r, w.newcomer(r), pick(w.random, firstNames), pick(w.random, lastNames), "")
		}
		for range groups {
			w.pace()
			w.openGroup(r, "")
		}
		for _, u := range r.users {
			if groups > 0 {
				w.enrol(u, w.random.IntN(groups), min(memberships, groups))
			}
		}
		return true
	})
	return id
}

// enrol puts somebody into so many groups, from the first of them on.
func (w *World) enrol(u *user, first, n int) {
	for i := range n {
		w.pace()
		w.join(u, u.realm.teams[(first+i)%len(u.realm.teams)])
	}
}

// pace moves the clock of a first sync on: a millisecond every few events, but not beyond a live clock.
func (w *World) pace() {
	if w.config.Now == nil && w.log.len()%10 == 0 {
		w.now = w.now.Add(time.Millisecond)
		w.clock = w.now
	} else if now := w.present().Truncate(time.Millisecond); now.After(w.now) {
		w.now = now
	}
}

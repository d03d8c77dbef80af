package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"sort"
	"time"
)

// The shapes of https://workos.com/docs/reference/directory-sync, where they differ from those of events.

type directoryData struct {
	Object         string    `json:"object"`
	ID             string    `json:"id"`
	OrganizationID string    `json:"organization_id"`
	ExternalKey    string    `json:"external_key"`
	Type           string    `json:"type"`
	State          string    `json:"state"`
	Name           string    `json:"name"`
	Domain         string    `json:"domain"`
	Metadata       *metadata `json:"metadata,omitempty"`
	CreatedAt      string    `json:"created_at"`
	UpdatedAt      string    `json:"updated_at"`
}

type metadata struct {
	Users struct {
		Active   int `json:"active"`
		Inactive int `json:"inactive"`
	} `json:"users"`
	Groups int `json:"groups"`
}

type listedUser struct {
	userData
	Emails   []struct{} `json:"emails"`
	Username *string    `json:"username"`
	JobTitle *string    `json:"job_title"`
	Groups   []struct{} `json:"groups"` // of nobody
}

// listData is the list_metadata of listings.
type listData struct {
	Before *string `json:"before"`
	After  *string `json:"after"`
}

// paging is what a listing is asked for.
type paging struct {
	before, after string
	limit         int
	ascending     bool
}

// pagingOf reads the parameters; ok is false when they were answered as invalid.
func pagingOf(w http.ResponseWriter, r *http.Request) (p paging, ok bool) {
	query := r.URL.Query()
	p = paging{before: query.Get("before"), after: query.Get("after")}
	switch query.Get("order") {
	case "", "desc":
	case "asc", "normal":
		p.ascending = true
	default:
		invalid(w, field{"order", "order must be asc, desc or normal"})
		return p, false
	}
	p.limit, ok = limitOf(w, r)
	return p, ok
}

// cut returns a page of what is listed, in the listing's order, and its cursors. The list ascends by id.
func cut[T any](all []T, id func(T) string, listed func(T) bool, p paging) (page []T, data listData) {
	from, to := 0, len(all)
	behind := func(cursor string) int { return sort.Search(len(all), func(i int) bool { return id(all[i]) > cursor }) }
	upTo := func(cursor string) int {
		return sort.Search(len(all), func(i int) bool { return id(all[i]) >= cursor })
	}
	lower, upper := p.after, p.before
	if !p.ascending {
		lower, upper = upper, lower
	}
	if lower != "" {
		from = behind(lower)
	}
	if upper != "" {
		to = max(from, upTo(upper))
	}
	forward := p.before == "" || p.after != "" // else the page ends at the cursor
	first, last := -1, -1
	for i := range to - from {
		at := from + i
		if p.ascending != forward {
			at = to - 1 - i
		}
		if len(page) == p.limit {
			break
		}
		if !listed(all[at]) {
			continue
		}
		if first < 0 {
			first = at
		}
		last = at
		page = append(page, all[at])
	}
	if len(page) == 0 {
		return nil, data
	}
	if !forward {
		slices.Reverse(page)
	}
	low, high := min(first, last), max(first, last)
	lowID, highID := id(all[low]), id(all[high])
	if slices.ContainsFunc(all[:low], listed) {
		data.Before = &lowID
	}
	if slices.ContainsFunc(all[high+1:], listed) {
		data.After = &highID
	}
	if !p.ascending {
		data.Before, data.After = data.After, data.Before
	}
	return page, data
}

func (a *API) listDirectories(w http.ResponseWriter, r *http.Request) {
	p, ok := pagingOf(w, r)
	if !ok {
		return
	}
	organization := r.URL.Query().Get("organization_id")
	a.world.mu.RLock()
	page, data := cut(a.world.directories, func(r *realm) string { return r.id }, func(r *realm) bool {
		return !r.ended && (organization == "" || r.organization == organization)
	}, p)
	bodies := make([]any, len(page))
	for i, r := range page {
		bodies[i] = r.listed()
	}
	a.world.mu.RUnlock()
	answer(w, http.StatusOK, list{"list", bodies, data})
}

func (r *realm) listed() directoryData {
	return directoryData{
		Object: "directory", ID: r.id, OrganizationID: r.organization, ExternalKey: r.external, Type: r.kind, State: "linked", Name: r.name, Domain: r.domain,
		CreatedAt: stamp(r.created), UpdatedAt: stamp(r.updated),
	}
}

func (a *API) getDirectory(w http.ResponseWriter, request *http.Request) {
	config := a.settings()
	a.world.mu.RLock()
	r := a.world.realm(request.PathValue("id"))
	var data directoryData
	if r != nil {
		data = r.listed()
		data.Metadata = r.counts(config)
	}
	a.world.mu.RUnlock()
	if r == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, data)
}

func (r *realm) counts(config APIConfig) *metadata {
	m := &metadata{Groups: len(r.live)}
	m.Users.Active, m.Users.Inactive = len(r.present), len(r.users)-r.gone-len(r.present)
	if !config.Faults.CountsToo {
		return m
	}
	m.Users.Active, m.Users.Inactive = 0, 0
	for _, u := range r.users {
		switch says := config.sees(u); {
		case says == nil:
		case says.state == active:
			m.Users.Active++
		default:
			m.Users.Inactive++
		}
	}
	return m
}

// sees is what a listing says of a user; nil when it says nothing.
func (c APIConfig) sees(u *user) *profile {
	switch {
	case c.Faults.Lacking > 0 && chance(c.Seed, "lacking", u.id) < c.Faults.Lacking:
		return nil
	case u.says.state != active && u.before != nil && c.Faults.Ghosts > 0 && chance(c.Seed, "ghost", u.id) < c.Faults.Ghosts:
		return u.before
	case u.says.state == deleted:
		return nil
	}
	return u.says
}

func (a *API) listUsers(w http.ResponseWriter, r *http.Request) {
	p, ok := pagingOf(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	directoryID, groupID := query.Get("directory"), query.Get("group")
	if directoryID == "" && groupID == "" {
		const why = `Please provide either "directory" or "group" parameters.`
		invalid(w, field{"directory", why}, field{"group", why})
		return
	}
	config := a.settings()
	a.world.mu.RLock()
	defer a.world.mu.RUnlock()
	of, users := a.world.usersOf(directoryID, groupID)
	switch {
	case of == nil:
		notFound(w)
		return
	case !a.allows("users of "+of.id, 4, time.Second):
		throttle(w)
		return
	}
	page, data := cut(users, func(u *user) string { return u.id }, func(u *user) bool {
		return config.sees(u) != nil && matches(query.Get("idp_id"), u.human.idp) && matches(query.Get("email"), u.says.email)
	}, p)
	bodies := []any{}
	for _, u := range page {
		bodies = append(bodies, u.listed(config.sees(u)))
	}
	a.tell(w, bodies, data, config)
}

func matches(want, value string) bool { return want == "" || want == value }

// usersOf are the users of a directory or a group, and whose they are; nil when there is no such thing.
func (w *World) usersOf(directoryID, groupID string) (*realm, []*user) {
	if groupID == "" {
		if r := w.realm(directoryID); r != nil {
			return r, r.users
		}
		return nil, nil
	}
	if t := w.team(groupID); t != nil {
		return t.realm, t.members
	}
	return nil, nil
}

func (u *user) listed(says *profile) listedUser {
	return listedUser{userData: u.data(says), Emails: []struct{}{}, Groups: []struct{}{}}
}

// tell answers with a page of a listing, if need be in a misleading way.
func (a *API) tell(w http.ResponseWriter, bodies []any, data listData, config APIConfig) {
	if data.After != nil && config.Faults.CutShort > 0 && chance(config.Seed, "cut", *data.After) < config.Faults.CutShort {
		data.After = nil
	}
	a.mu.Lock()
	a.stats.Listed += len(bodies)
	disconnect := config.Faults.Disconnect > 0 && a.random.Float64() < config.Faults.Disconnect
	a.mu.Unlock()
	if !disconnect {
		answer(w, http.StatusOK, list{"list", bodies, data})
		return
	}
	text, err := json.Marshal(list{"list", bodies, data})
	if err != nil {
		panic(err) // nothing but texts and numbers
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text[:len(text)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// Unwrap lets the page that is cut be flushed.
func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (a *API) getUser(w http.ResponseWriter, r *http.Request) {
	a.world.mu.RLock()
	u := a.world.user(r.PathValue("id"))
	var data listedUser
	if u != nil {
		data = u.listed(u.says)
	}
	a.world.mu.RUnlock()
	if u == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, data)
}

func (a *API) listGroups(w http.ResponseWriter, r *http.Request) {
	p, ok := pagingOf(w, r)
	if !ok {
		return
	}
	directoryID, userID := r.URL.Query().Get("directory"), r.URL.Query().Get("user")
	if directoryID == "" && userID == "" {
		const why = `Please provide either "directory" or "user" parameters.`
		invalid(w, field{"directory", why}, field{"user", why})
		return
	}
	config := a.settings()
	a.world.mu.RLock()
	teams, known := a.world.teamsOf(directoryID, userID)
	page, data := cut(teams, func(t *team) string { return t.id }, func(t *team) bool { return !t.ended }, p)
	bodies := []any{}
	for _, t := range page {
		bodies = append(bodies, t.data(t.says))
	}
	a.world.mu.RUnlock()
	if !known {
		notFound(w)
		return
	}
	a.tell(w, bodies, data, config)
}

// teamsOf are the groups of a directory or a user.
func (w *World) teamsOf(directoryID, userID string) (teams []*team, known bool) {
	if userID == "" {
		if r := w.realm(directoryID); r != nil {
			return r.teams, true
		}
		return nil, false
	}
	if u := w.user(userID); u != nil {
		return u.teams, true
	}
	return nil, false
}

func (a *API) getGroup(w http.ResponseWriter, r *http.Request) {
	a.world.mu.RLock()
	t := a.world.team(r.PathValue("id"))
	var data groupData
	if t != nil {
		data = t.data(t.says)
	}
	a.world.mu.RUnlock()
	if t == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, data)
}
